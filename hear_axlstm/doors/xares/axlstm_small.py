"""axlstm-small for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_small.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmSmallEncoder(Timestamps):
    """axlstm-small with its weights, as X-ARES makes it."""

    weights = "axlstm-small"
