"""ssam-small for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssam_small.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsamSmallEncoder(Timestamps):
    """ssam-small with its weights, as X-ARES makes it."""

    weights = "ssam-small"
