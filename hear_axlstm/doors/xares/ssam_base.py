"""ssam-base for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssam_base.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsamBaseEncoder(Timestamps):
    """ssam-base with its weights, as X-ARES makes it."""

    weights = "ssam-base"
