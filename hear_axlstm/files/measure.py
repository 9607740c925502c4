"""What sounds are like before they are standardised: the statistics of their log-mel, for streams of others like them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from hear_axlstm.audio import Wave, audio_blocks, too_few
from hear_axlstm.config import MIN_SAMPLES
from hear_axlstm.errors import AudioError
from hear_axlstm.files.items import as_sounds
from hear_axlstm.files.sounds import FileSound, Given, reason
from hear_axlstm.frontend import log_mel_power
from hear_axlstm.stream.standards import Statistics, Tally
from hear_axlstm.stream.windows import Windows


def statistics(sounds: Any, sample_rate: float | None = None) -> Statistics:
    """The mean and the deviation of the log-mel of sounds, over all their frames and bands together.

    Of one sound these are what it is standardised by when it is embedded. For ``Stream``, measure sounds that were recorded
    as those to come are: in the same place, with the same microphone, as loud.

    sounds, sample_rate: as ``hear_axlstm.embed`` takes them. Files of any length are read piece by piece.

    Shape: -> (mean, deviation), floats, of the natural logarithm of power. Raises AudioError where a sound cannot be read or
    is shorter than 201 samples at 16 kHz, and where there are none, and ConfigError on what stands for no sounds.
    """
    tally = Tally()
    for sound in as_sounds(sounds, sample_rate, expand=True):
        try:
            _add(tally, sound)
        except AudioError as error:
            raise AudioError(f"{sound.name}: {reason(error, sound.name)}") from error
    if not tally.weight:
        raise AudioError("there are no sounds to measure; expected audio files, folders that hold some, or arrays")
    return tally.statistics


def _add(tally: Tally, sound: Given) -> None:
    """Count all frames of a sound. Raises AudioError."""
    windows = Windows()
    for block in _blocks(sound):
        _add_frames(tally, windows.push(block))
    if windows.samples < MIN_SAMPLES:
        raise AudioError(too_few(windows.samples))
    _add_frames(tally, windows.end())


def _blocks(sound: Given) -> Iterable[Wave]:
    return audio_blocks(sound.path) if isinstance(sound, FileSound) else [sound.load()]


def _add_frames(tally: Tally, wave: Wave) -> None:
    if len(wave):
        tally.add(log_mel_power(torch.from_numpy(wave)[None])[0].double().numpy())
    if tally.weight and not math.isfinite(tally.squares):
        raise AudioError("holds NaN, infinity or samples too large to analyse; expected finite samples in [-1, 1]")
