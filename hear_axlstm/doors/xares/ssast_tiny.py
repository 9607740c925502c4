"""ssast-tiny for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssast_tiny.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsastTinyEncoder(Timestamps):
    """ssast-tiny with its weights, as X-ARES makes it."""

    weights = "ssast-tiny"
