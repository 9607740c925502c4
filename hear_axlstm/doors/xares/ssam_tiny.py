"""ssam-tiny for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssam_tiny.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsamTinyEncoder(Timestamps):
    """ssam-tiny with its weights, as X-ARES makes it."""

    weights = "ssam-tiny"
