"""ssast-base for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssast_base.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsastBaseEncoder(Timestamps):
    """ssast-base with its weights, as X-ARES makes it."""

    weights = "ssast-base"
