"""Hours of synthesised sound in a folder, each clip made from its kind, seed and number alone."""

from __future__ import annotations

import io
import math
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from hear_axlstm.audio import Wave, write_flac
from hear_axlstm.config import check_choice
from hear_axlstm.errors import ConfigError
from hear_axlstm.parallel import ordered_map
from hear_axlstm.progress import progress_bar
from hear_axlstm.storage import changed, changed_options, claim_folder, replacing, sha256_of
from hear_axlstm.synthesis import Kind
from hear_axlstm.synthesis.music import find_soundfont, play, random_piece, single_notes
from hear_axlstm.synthesis.procedural import MAX_SECONDS, synthesize
from hear_axlstm.synthesis.programs import program_version
from hear_axlstm.synthesis.speech import random_speech
from hear_axlstm.version import __version__

HEADER = "corpus.json"
WORDS = {  # for settings that are others than those a folder was begun with
    **changed_options("clip_seconds"),
    "kind": changed("KIND"),
    "made_by": lambda was, now: f"its clips were made by {was} and are made by {now} now",
    "soundfont_sha256": lambda *_: "the SoundFont was another (--soundfont)",
}
MIN_SECONDS = 0.1
PROGRAMS: dict[Kind, str] = {"speech": "espeak-ng", "music": "fluidsynth", "notes": "fluidsynth"}
PEAKS = (-30.0, -1.0)  # dB below full scale: how loud a clip of speech or music is
QUIETEST = 1e-3  # a lower peak is hardly sound, and is not raised as far


def write_corpus(
    out: Path,
    kind: Kind,
    hours: float,
    *,
    seed: int = 0,
    clip_seconds: float = 10.0,
    soundfont: Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> int:
    """Write clips 0, 1, ... of a seed until they last ``hours``, and return how many of them were not there yet.

    out: gets KIND-SEED-000000.flac and so on, 16 kHz mono with 16 bits, and corpus.json, which says how they were made. A
    second run makes what is missing, and a longer one continues it; several seeds share a folder. A folder made with other
    settings or versions is refused.
    kind: "speech" has espeak-ng's voices for training, "music" the SoundFont's instruments together and "notes" one after
    the other, each clip at a random level. soundfont: for music and notes; TimGM6mb where it is installed. workers: clips
    made at once, as many as processors when left out. progress: a bar on stderr.

    Raises ConfigError on bad options and when a program or a SoundFont is missing, OutputError when the folder must not be
    continued, AudioError when a program fails, OSError when a file cannot be written; what was finished by then is kept.
    """
    check_choice("kind", kind, Kind)
    if not 0 < hours < math.inf:
        raise ConfigError(f"hours is {hours}; expected a positive number")
    if not MIN_SECONDS <= clip_seconds <= MAX_SECONDS:
        raise ConfigError(f"clip_seconds is {clip_seconds}; expected {MIN_SECONDS} to {MAX_SECONDS:.0f}")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed}; expected 0 or more, below 2^63")
    is_played = PROGRAMS.get(kind) == "fluidsynth"
    if soundfont is not None and not is_played:
        raise ConfigError(f"a soundfont goes with music and notes, but kind is {kind!r}; leave it out")
    if is_played:
        soundfont = find_soundfont(soundfont)
    ours = [f"{kind}-*" for kind in get_args(Kind)]
    claim_folder(out / HEADER, _settings(kind, clip_seconds, soundfont), ours, words=WORDS)

    def make(clip: tuple[int, Path]) -> None:
        index, target = clip
        _write_clip(target, random_clip(kind, seed, index, clip_seconds, soundfont))

    count = math.ceil(round(hours * 3_600 / clip_seconds, 6))  # rounded first: 0.1 h are 36 clips of 10 s, not 37
    clips = [(index, out / f"{kind}-{seed}-{index:06d}.flac") for index in range(count)]
    missing = [(index, target) for index, target in clips if not target.is_file()]
    with closing(ordered_map(make, missing, workers)) as made:
        for _ in progress_bar(made, total=len(missing), unit="clip", desc=kind, shown=progress):
            pass
    return len(missing)


def random_clip(kind: Kind, seed: int, index: int, seconds: float, soundfont: Path | None = None) -> Wave:
    """The samples of clip number ``index`` of a kind and seed. Shape: -> (16,000 * seconds,), float32.

    soundfont: for music and notes. Raises ConfigError when the kind's program is not installed, AudioError when it fails.
    """
    if kind == "procedural":
        return synthesize(torch.tensor([index]), seed, seconds)[0].numpy()
    rng = np.random.default_rng([*kind.encode(), seed, index])
    if kind == "speech":
        wave = random_speech(rng, "train", seconds)
    else:
        piece = random_piece if kind == "music" else single_notes
        wave = play(piece(rng, seconds), find_soundfont(soundfont), seconds)
    gain = 10 ** (rng.uniform(*PEAKS) / 20) / max(float(np.abs(wave).max()), QUIETEST)
    return (gain * wave).astype(np.float32)


def _write_clip(target: Path, wave: Wave) -> None:
    content = io.BytesIO()  # libsndfile says of a full disk that all is well
    write_flac(content, wave)
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())


def _settings(kind: Kind, clip_seconds: float, soundfont: Path | None) -> dict[str, Any]:
    """The settings that must be the same for a corpus to be continued."""
    made_by = [f"hear-axlstm {__version__}"] + ([program_version(PROGRAMS[kind])] if kind in PROGRAMS else [])
    return {
        "kind": kind,
        "clip_seconds": clip_seconds,
        "format": "flac",
        "made_by": ", ".join(made_by),
        "soundfont_sha256": None if soundfont is None else sha256_of(soundfont),
    }
