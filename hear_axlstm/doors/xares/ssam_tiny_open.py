"""ssam-tiny-open for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/ssam_tiny_open.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class SsamTinyOpenEncoder(Timestamps):
    """ssam-tiny-open with its weights, as X-ARES makes it."""

    weights = "ssam-tiny-open"
