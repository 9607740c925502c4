"""A seed -> small synthesised task folders, named and laid out as HEAR's own, whose labels can be heard."""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from tqdm import tqdm

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS, KnownTask, check_names
from hear_axlstm.evaluation.tasks.imitations import IMITATIONS, Imitation
from hear_axlstm.evaluation.tasks.prepare import RATES, finish, unfinished, write_wav
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, Labels
from hear_axlstm.parallel import ordered_map
from hear_axlstm.synthesis.held_out import Choices, Samples, fade, tilted_noise
from hear_axlstm.version import __version__

CLIPS_PER_LABEL = 2
LONGEST = 2.0  # s of a scene
MIXED = (0.3, 3.0)  # s of a clip, where the real task has clips of several lengths
MOST_LABELS, UNLABELLED = 3, 2  # labels of a clip, clips of a split without any: of a multilabel scene task
EVENT_SECONDS, EVENTS = 8.0, 6  # of a clip of an event task
ATTACK, RELEASE = 0.005, 0.02  # s of an event


@dataclass(frozen=True)
class _Clip:
    """A clip before it is a sound. parts: label's index, first sample and number of samples of each sound in it."""

    split: str
    name: str
    samples: int
    parts: tuple[tuple[int, int, int], ...]
    labels: Labels
    seed: tuple[int, ...]


def write_suite(
    folder: Path,
    names: Sequence[str] | None = None,
    *,
    clips_per_label: int = CLIPS_PER_LABEL,
    seed: int = 0,
    sample_rate: int = SAMPLE_RATE,
    workers: int | None = None,
    progress: bool = False,
) -> list[Path]:
    """Make ``folder``/NAME for each of the HEAR tasks named, the papers' ten when left out; what is there is left alone.

    Folders, splits, kinds and metrics are those of the real tasks; there are fewer labels where those have many, and scenes
    last ``LONGEST`` s at most. Each split has ``clips_per_label`` clips (or events) of every label, and more of a multilabel
    task. The same seed gives the same bytes, and each folder appears when it is whole. sample_rate: the sounds', Hz; those
    at 48000 are for ``prepare_task``. workers: threads, as many as processors. progress: a bar on stderr.

    Raises ConfigError on bad options, OutputError when a task is there that was made otherwise, OSError when a file cannot
    be written.
    """
    names = [task.folder for task in PAPER_TASKS.values()] if names is None else names
    check_names(names)
    if clips_per_label < 1 or seed < 0:
        raise ConfigError(f"clips_per_label is {clips_per_label}, seed {seed}; expected 1 or more, and 0 or more")
    if sample_rate not in (SAMPLE_RATE, *RATES):
        raise ConfigError(f"sample_rate is {sample_rate}; expected one of {SAMPLE_RATE}, {', '.join(map(str, RATES))}")
    made = []
    for name in tqdm(names, unit="task", desc="synthesise", disable=not progress):
        _write_task(folder / name, clips_per_label, seed, sample_rate, workers)
        made.append(folder / name)
    return made


def _write_task(target: Path, clips_per_label: int, seed: int, sample_rate: int, workers: int | None) -> None:
    known = KNOWN_TASKS[target.name]
    name, *version, mode = target.name.split("-")
    imitation = IMITATIONS[name]
    metadata: dict[str, Any] = {
        "task_name": name,
        "version": "-".join(version),
        "embedding_type": known.embedding_type,
        "prediction_type": known.prediction_type,
        "split_mode": known.split_mode,
        **({"nfolds": known.folds} if known.folds else {}),
        "sample_duration": _seconds(known),
        "evaluation": list(known.metrics),
        **(imitation.extra or {}),
        "default_mode": mode,
        "mode": mode,
        "splits": list(known.split_names),
        "synthetic": True,
        "synthesis": {
            "made_by": f"hear-axlstm {__version__}",
            "clips_per_label": clips_per_label,
            "seed": seed,
            "sample_rate": sample_rate,
        },
    }
    if target.exists():
        _check_made_so(target, metadata)
        return
    work = unfinished(target, metadata)
    clips = _plan(known, imitation, clips_per_label, seed)
    audio = work / str(sample_rate)

    def make(clip: _Clip) -> None:
        wave = _sound(imitation, clip, known.embedding_type == "event")
        resampled = wave if sample_rate == SAMPLE_RATE else soxr.resample(wave, SAMPLE_RATE, sample_rate, quality="VHQ")
        write_wav(audio / clip.split / clip.name, resampled, sample_rate)

    for _ in ordered_map(make, (clip for clip in clips if not (audio / clip.split / clip.name).is_file()), workers):
        pass
    for split in known.split_names:
        labels = {clip.name: clip.labels for clip in clips if clip.split == split}
        (work / f"{split}.json").write_text(json.dumps(labels, indent=1), encoding="utf-8")
    with open(work / VOCABULARY, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("idx", "label"), *enumerate(imitation.labels)])
    (work / METADATA).write_text(json.dumps(metadata, indent=1), encoding="utf-8")
    finish(work, target)


def _check_made_so(target: Path, metadata: dict[str, Any]) -> None:
    try:
        there = json.loads((target / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = {}
    if there != metadata:
        made = there.get("synthesis") if there.get("synthetic") else None
        what = f"made with {made}, but now wanted with {metadata['synthesis']}" if made else "not made by a suite"
        raise OutputError(f"{target} is there, and was {what}; choose another folder")


def _seconds(known: KnownTask) -> float | None:
    if known.embedding_type == "event":
        return EVENT_SECONDS
    return None if known.seconds is None else min(known.seconds, LONGEST)


def _plan(known: KnownTask, imitation: Imitation, clips_per_label: int, seed: int) -> list[_Clip]:
    """The plan of a task's clips, in the order of splits and names."""
    wanted = clips_per_label * len(imitation.labels)
    if known.embedding_type == "event":
        count = math.ceil(wanted / EVENTS)
    else:
        count = wanted + UNLABELLED * (known.prediction_type == "multilabel")
    clips = []
    for place, split in enumerate(known.split_names):
        for index in range(count):
            key = (seed, zlib.crc32(known.folder.encode()), place, index)
            samples, parts = _parts(known, len(imitation.labels), index, wanted, np.random.default_rng(key))
            labels: Labels = [imitation.labels[label] for label, _, _ in parts]
            if known.embedding_type == "event":
                times = [(_milliseconds(start), _milliseconds(start + length)) for _, start, length in parts]
                events = zip(labels, times, strict=True)
                labels = [{"label": label, "start": start, "end": end} for label, (start, end) in events]
            clips.append(_Clip(split, f"{split}-{index:04}.wav", samples, parts, labels, (*key, 1)))
    return clips


def _milliseconds(samples: int) -> float:
    return 1_000 * samples / SAMPLE_RATE


def _parts(
    known: KnownTask, labels: int, index: int, wanted: int, rng: np.random.Generator
) -> tuple[int, tuple[tuple[int, int, int], ...]]:
    """The number of samples of clip ``index`` of a split, and its sounds."""
    seconds = _seconds(known)
    samples = round(SAMPLE_RATE * (rng.uniform(*MIXED) if seconds is None else seconds))
    if known.embedding_type == "event":
        slot = samples // EVENTS
        starts = [place * slot + int(rng.uniform(0.05, 0.3) * slot) for place in range(EVENTS)]
        lengths = [int(rng.uniform(0.3, 0.65) * slot) for _ in range(EVENTS)]
        chosen = [(index * EVENTS + place) % labels for place in range(EVENTS)]
        return samples, tuple(zip(chosen, starts, lengths, strict=True))
    if index >= wanted:
        return samples, ()
    more = rng.integers(MOST_LABELS) if known.prediction_type == "multilabel" else 0
    others = (index % labels + 1 + rng.permutation(labels - 1)[:more]) % labels
    return samples, tuple((int(label), 0, samples) for label in (index % labels, *others))


def _sound(imitation: Imitation, clip: _Clip, events: bool) -> Samples:
    """The clip's sounds in noise at 10 to 30 dB, at -35 to -15 dB RMS. Shape: -> (T,), in [-1, 1]."""
    choices = Choices(np.random.default_rng(clip.seed), "train")
    wave = np.zeros(clip.samples)
    for label, start, length in clip.parts:
        sound = imitation.make(choices, label, length)
        if events:
            sound = sound * fade(length, ATTACK, RELEASE)
        wave[start : start + length] += sound / max(float(sound.std()), 1e-9)
    background = tilted_noise(choices.rng, clip.samples, choices.uniform(0, 1.5))
    wave = wave / max(float(wave.std()), 1e-9) + 10 ** (-choices.uniform(10, 30) / 20) * background
    wave = wave / wave.std() * 10 ** (choices.uniform(-35, -15) / 20)
    return wave / max(1.0, float(np.abs(wave).max()))
