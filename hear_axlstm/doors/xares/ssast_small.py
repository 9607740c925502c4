"""ssast-small for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssast_small.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsastSmallEncoder(Timestamps):
    """ssast-small with its weights, as X-ARES makes it."""

    weights = "ssast-small"
