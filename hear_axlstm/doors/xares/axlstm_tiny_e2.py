"""axlstm-tiny-e2 for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_tiny_e2.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmTinyE2Encoder(Timestamps):
    """axlstm-tiny-e2 with its weights, as X-ARES makes it."""

    weights = "axlstm-tiny-e2"
