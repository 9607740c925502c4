"""Sounds in every form -> mono float32 samples at 16 kHz."""

from hear_axlstm.audio.convert import sound_facts, sound_seconds, to_wave
from hear_axlstm.audio.files import (
    TOO_SHORT,
    Wave,
    audio_blocks,
    audio_facts,
    audio_seconds,
    checked,
    native_blocks,
    read_audio,
    read_unless_longer,
    too_few,
    warn_if_loud,
    write_flac,
)
from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE

__all__ = [
    "MAX_RATE",
    "MIN_RATE",
    "TOO_SHORT",
    "Wave",
    "audio_blocks",
    "audio_facts",
    "audio_seconds",
    "checked",
    "native_blocks",
    "read_audio",
    "read_unless_longer",
    "sound_facts",
    "sound_seconds",
    "to_wave",
    "too_few",
    "warn_if_loud",
    "write_flac",
]
