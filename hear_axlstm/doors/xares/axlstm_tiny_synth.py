"""axlstm-tiny-synth for X-ARES: ``python -m xares.run hear_axlstm/doors/xares/axlstm_tiny_synth.py TASKS``."""

from hear_axlstm.doors.xares import Timestamps


class AxlstmTinySynthEncoder(Timestamps):
    """axlstm-tiny-synth with its weights, as X-ARES makes it."""

    weights = "axlstm-tiny-synth"
