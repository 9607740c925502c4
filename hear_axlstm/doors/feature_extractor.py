"""Sounds -> waveforms of a batch, as transformers' feature extractors make them. doors/transformers.py registers it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import transformers
from transformers.utils import is_torchaudio_available, logging

from hear_axlstm.audio import to_wave
from hear_axlstm.audio.arrays import holds_numbers, is_number
from hear_axlstm.audio.convert import is_sound
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.items import undecoded
from hear_axlstm.weights.folder import AUTO_MAP


def _hide_broken_torchaudio() -> None:
    """Let transformers do without a torchaudio that fails to import, as PyPI's does beside another build of torch.

    transformers imports it wherever it is installed; then Trainer, pipelines and sentence-transformers fail, too.
    """
    if sys.modules.get("torchaudio", find_spec("torchaudio")) is None:
        return
    try:
        import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        logger.warning("torchaudio does not import (%s): transformers is told that there is none", error)
        sys.modules["torchaudio"] = None  # type: ignore[assignment]
        is_torchaudio_available.cache_clear()  # transformers looks once


logger = logging.get_logger(__name__)
_hide_broken_torchaudio()


class InPackage:
    """Classes whose code is this package: a saved folder names them by its line of code, and has no copy of theirs."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: transformers would copy this file into folders that it saves."""


class HearAxlstmFeatureExtractor(InPackage, transformers.SequenceFeatureExtractor):  # type: ignore[misc]
    """Sounds -> padded waveforms, mono at 16 kHz: input_values (B, T) and attention_mask (B, T); no spectrogram yet."""

    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]

    def __init__(
        self, feature_size: int = 1, sampling_rate: int = SAMPLE_RATE, padding_value: float = 0.0, **kwargs: Any
    ) -> None:
        kwargs.pop("auto_map", None)
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        if (sampling_rate, feature_size, self.padding_side) != (SAMPLE_RATE, 1, "right"):
            raise ConfigError(
                f"sampling_rate, feature_size and padding_side are {sampling_rate}, {feature_size}, {self.padding_side!r}; "
                f"expected {SAMPLE_RATE}, 1, 'right': say the rate of sounds in the call: extractor(x, sampling_rate=...)"
            )

    def __call__(
        self, raw_speech: Any, sampling_rate: float | None = None, padding: Any = True, **options: Any
    ) -> transformers.BatchFeature:
        """Prepare one sound, or several.

        raw_speech: a list of sounds, an array whose rows are sounds, or a single sound; each as ``hear_axlstm.embed`` takes
        it: a path, samples (n,) or (n, channels), {"array", "sampling_rate"}, (samples, rate), a decoder, bytes of a file.
        sampling_rate: Hz of samples that come without a rate; left out, they are taken as 16 kHz. Any other is resampled
        with soxr. padding, return_tensors, max_length, truncation, pad_to_multiple_of and return_attention_mask: as in
        transformers; the default pads to the longest.

        Raises AudioError, which names the sound, on one that cannot be embedded, and when there is none.
        """
        sounds, rate = _sounds(raw_speech), SAMPLE_RATE if sampling_rate is None else sampling_rate
        if not sounds:
            raise AudioError("there are no sounds; expected one at least")
        if sampling_rate is None and any(isinstance(sound, list) or hasattr(sound, "ndim") for sound in sounds):
            logger.warning_once("samples without a rate are taken as 16 kHz; say it: extractor(x, sampling_rate=16_000)")
        waves = [to_wave(sound, rate, _name(sound, index)) for index, sound in enumerate(sounds)]
        return self.pad(transformers.BatchFeature({"input_values": waves}), padding, **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the class that remote code gets."""
        return {**super().to_dict(), "auto_map": AUTO_MAP}


def _sounds(given: Any) -> list[Any]:
    """The sounds of a batch, or a single one in a list."""
    given = undecoded(given)
    if is_sound(given) or isinstance(given, str | bytes | bytearray | memoryview | os.PathLike):
        return [given]
    if hasattr(given, "shape") and hasattr(given, "dtype"):
        is_batch = len(given.shape) > 1 or (len(given.shape) == 1 and not holds_numbers(given))
    elif isinstance(given, Sequence):
        is_batch = len(given) == 0 or not is_number(given[0])
    else:
        is_batch = isinstance(given, Iterable) and not isinstance(given, Mapping)
    return list(given) if is_batch else [given]


def _name(sound: Any, index: int) -> str:
    return str(sound) if isinstance(sound, str | os.PathLike) else f"sound {index}"
