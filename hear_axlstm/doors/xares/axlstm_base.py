"""axlstm-base for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_base.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmBaseEncoder(Timestamps):
    """axlstm-base with its weights, as X-ARES makes it."""

    weights = "axlstm-base"
