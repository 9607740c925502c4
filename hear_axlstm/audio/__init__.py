"""Audio files and arrays -> mono float32 samples at 16 kHz."""

from hear_axlstm.audio.arrays import array_seconds, is_number, prepare_array, with_rate
from hear_axlstm.audio.files import (
    TOO_SHORT,
    Wave,
    audio_blocks,
    audio_seconds,
    checked,
    native_blocks,
    read_audio,
    read_unless_longer,
    warn_if_loud,
    write_flac,
)
from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE

__all__ = [
    "MAX_RATE",
    "MIN_RATE",
    "TOO_SHORT",
    "Wave",
    "array_seconds",
    "audio_blocks",
    "audio_seconds",
    "checked",
    "is_number",
    "native_blocks",
    "prepare_array",
    "read_audio",
    "read_unless_longer",
    "warn_if_loud",
    "with_rate",
    "write_flac",
]
