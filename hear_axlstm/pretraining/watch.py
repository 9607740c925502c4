"""What a run's encoder guesses of a few clips, always the same, as guesses.png: its progress, to look at."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from hear_axlstm.audio import Wave, to_wave
from hear_axlstm.audio.addresses import short_name
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.picture import picture
from hear_axlstm.pretraining.reconstruction import of_wave
from hear_axlstm.pretraining.state import GUESSES, RunFolder
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.storage import replacing
from hear_axlstm.synthesis.held_out import TEXTURES, Choices, in_noise

logger = logging.getLogger(__name__)

CLIPS = ("siren", "crickets", "footsteps", "telephone")  # sounds that no training clip is synthesised with
CLIP_SECONDS = 2  # of these: a chunk
RECORDINGS, SECONDS = 4, 4  # somebody's own: how many at most, and how much of the beginning of each


class Watch:
    """Clips that people watch a run by, and the pictures of what its encoder guesses of them.

    recordings: what ``to_wave`` takes, mostly paths; None: four clips that are synthesised, and kept out of all training.

    Raises ConfigError when there are more than four, AudioError when one cannot be read.
    """

    def __init__(self, recordings: Sequence[str | os.PathLike[str]] | None) -> None:
        if isinstance(recordings, str | os.PathLike):
            recordings = [recordings]
        if recordings is None:
            self.clips = [(name, _clip(name, seed)) for seed, name in enumerate(CLIPS)]
        elif len(recordings) > RECORDINGS:
            raise ConfigError(f"there are {len(recordings)} recordings to watch; expected {RECORDINGS} at most")
        else:
            self.clips = [_beginning(recording) for recording in recordings]

    def draw(self, folder: RunFolder, trainer: Trainer, title: str) -> bytes | None:
        """Write guesses.png, which shows what the run's weights guess now, and return it.

        The same patches are hidden every time. Training goes on as if it had not been drawn. The result is None where there
        is nothing to draw, or it cannot be drawn, which is told once and is no error.
        """
        if not self.clips:
            return None
        recipe = trainer.model.recipe
        try:
            with torch.compiler.set_stance("force_eager") if recipe.compile else nullcontext():
                clips = [
                    of_wave(wave, trainer.result, trainer.dtype, recipe.mask_ratio, seed, name=name)
                    for seed, (name, wave) in enumerate(self.clips)
                ]
            loss, trivial = (np.mean([getattr(clip, name) for clip in clips]) for name in ("loss", "loss_of_mean"))
            words = f"Their loss is {loss:.3f}, where the mean of each sound has {trivial:.3f}."
            content = picture(clips, title, [f"{recipe.mask_ratio:.0%} of the patches are hidden. {words}"])
            with replacing(folder.path / GUESSES) as temporary:
                temporary.write_bytes(content)
            return content
        except Exception as error:  # whatever is wrong with a picture, the run is worth more
            logger.info("%s cannot be drawn (%s)", GUESSES, error)
            self.clips = []
        return None


def _clip(name: str, seed: int) -> Wave:
    choices = Choices(np.random.default_rng(seed), "test")
    return in_noise(choices, TEXTURES[name](choices, CLIP_SECONDS * SAMPLE_RATE)).astype(np.float32)


def _beginning(recording: str | os.PathLike[str]) -> tuple[str, Wave]:
    name = short_name(recording)
    return name, to_wave(recording, name=name)[: SECONDS * SAMPLE_RATE]
