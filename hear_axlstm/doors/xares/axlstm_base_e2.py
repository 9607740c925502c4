"""axlstm-base-e2 for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_base_e2.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmBaseE2Encoder(Timestamps):
    """axlstm-base-e2 with its weights, as X-ARES makes it."""

    weights = "axlstm-base-e2"
