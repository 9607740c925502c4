"""axlstm-small-e2 for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_small_e2.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmSmallE2Encoder(Timestamps):
    """axlstm-small-e2 with its weights, as X-ARES makes it."""

    weights = "axlstm-small-e2"
