"""axlstm-tiny for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_tiny.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmTinyEncoder(Timestamps):
    """axlstm-tiny with its weights, as X-ARES makes it."""

    weights = "axlstm-tiny"
