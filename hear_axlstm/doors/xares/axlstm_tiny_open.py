"""axlstm-tiny-open for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_tiny_open.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmTinyOpenEncoder(Timestamps):
    """axlstm-tiny-open with its weights, as X-ARES makes it."""

    weights = "axlstm-tiny-open"
