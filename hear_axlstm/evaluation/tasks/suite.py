"""Small task folders of synthesised sound in HEAR's format: imitations of HEAR's own tasks, and the probe's tasks."""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.errors import AudioError, ConfigError, OutputError, TaskError
from hear_axlstm.evaluation.probe.tasks import MODE, TASKS, VERSION, held_out_soundfont
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS, KnownTask, check_names
from hear_axlstm.evaluation.tasks.imitations import IMITATIONS, Imitation, Label
from hear_axlstm.evaluation.tasks.prepare import RATES, finish, unfinished, write_wav
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, Labels
from hear_axlstm.parallel import ordered_map
from hear_axlstm.progress import progress_bar
from hear_axlstm.storage import read_json, sha256_of, write_text
from hear_axlstm.synthesis.held_out import Choices, Part, Samples, fade, in_noise
from hear_axlstm.synthesis.music import find_soundfont
from hear_axlstm.synthesis.programs import program_version
from hear_axlstm.version import __version__

Kind = Literal["hear", "probe"]
CLIPS_PER_LABEL: dict[Kind, int] = {"hear": 2, "probe": 16}
VALID = 4  # of as many clips to learn from, the probe's tasks have one in the valid split
LONGEST = 1.0  # seconds of an imitated scene
MIXED = (0.3, 3.0)  # seconds of an imitated clip, where the real task has clips of several lengths
MOST_LABELS, UNLABELLED = 3, 2  # of a multilabel scene task: labels of a clip, clips of a split without any
EVENT_SECONDS, EVENTS = 8.0, 6  # length of a clip of an event task, and how many events it has
ATTACK, RELEASE = 0.005, 0.02  # seconds in which an event rises and falls


@dataclass
class Suite:
    """The result of ``write_suite``. tasks: the folders that are there. failures: name of a task -> why it is missing."""

    tasks: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Clip:
    """A clip before it is a sound. make: gives its samples (T,), in [-1, 1] at 16 kHz, the same at every call."""

    split: str
    name: str
    labels: Labels
    make: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class _Plan:
    """A task before it has sounds. metadata: what its folder says of it. labels: its vocabulary."""

    metadata: Mapping[str, Any]
    labels: Sequence[Label]
    clips: Sequence[_Clip]


def task_names(kind: Kind) -> list[str]:
    """The folder names of all tasks that ``write_suite`` can make of a kind."""
    return list(KNOWN_TASKS) if kind == "hear" else [task.folder for task in TASKS.values()]


def write_suite(
    folder: Path,
    names: Sequence[str] | None = None,
    *,
    kind: Kind = "hear",
    clips_per_label: int | None = None,
    seed: int = 0,
    sample_rate: int = SAMPLE_RATE,
    soundfont: Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Suite:
    """Make ``folder``/NAME for each of the tasks named. A task that is there already is left alone.

    kind: "hear" imitates HEAR's tasks, under their names, with their splits and metrics; there are fewer labels where those
    have many, and scenes last at most ``LONGEST`` s. "probe": the tasks of ``probe.tasks``, all but the test split learnt
    from. names: some of ``task_names(kind)``; left out, the papers' ten imitated, or all of the probe's.
    clips_per_label: "hear": clips (or events) of every label in each split, more of a multilabel task; 2 when left out.
    "probe": clips of every label to learn from, a quarter of them in the valid split, and as many to be tested on; 16.
    sample_rate: Hz; at 48000 the sounds are what ``prepare_task`` takes. soundfont: what the probe's music is played with,
    FluidR3_GM.sf2 where systems keep it when left out. workers: threads, as many as processors. progress: a bar on stderr.

    The same seed, programs and SoundFont give the same bytes, and each folder appears when it is whole. A task whose
    program is missing or fails is recorded in ``failures`` and does not stop the others.

    Raises ConfigError on bad options, OutputError when a folder is there that was made otherwise, OSError when a file
    cannot be written.
    """
    check_choice("kind", kind, Kind)
    known, least = task_names(kind), 1 if kind == "hear" else 2
    if names is None:
        names = [task.folder for task in PAPER_TASKS.values()] if kind == "hear" else known
    check_names(names, known)
    clips_per_label = CLIPS_PER_LABEL[kind] if clips_per_label is None else clips_per_label
    if clips_per_label < least or seed < 0:
        raise ConfigError(f"clips_per_label is {clips_per_label}, seed {seed}; expected {least} or more, and 0 or more")
    if sample_rate not in (SAMPLE_RATE, *RATES):
        raise ConfigError(f"sample_rate is {sample_rate}; expected one of {SAMPLE_RATE}, {', '.join(map(str, RATES))}")
    if soundfont is not None and kind == "hear":
        raise ConfigError(f"soundfont is {soundfont}, but only the probe's tasks play one; leave it out, or make those")
    if soundfont is not None:
        find_soundfont(soundfont)
    suite = Suite()
    for name in progress_bar(names, unit="task", desc="synthesise", shown=progress):
        try:
            if kind == "hear":
                plan = _imitated(KNOWN_TASKS[name], clips_per_label, seed, sample_rate)
            else:
                plan = _probing(name, clips_per_label, seed, sample_rate, soundfont)
            _write_task(folder / name, plan, sample_rate, workers)
            suite.tasks.append(folder / name)
        except (ConfigError, AudioError) as error:
            suite.failures[name] = str(error)
    return suite


def _write_task(target: Path, plan: _Plan, sample_rate: int, workers: int | None) -> None:
    """Make the folder of a task, or go on with it. Raises OutputError when it is there and was made otherwise."""
    if target.exists():
        _check_made_so(target, plan.metadata)
        return
    work = unfinished(target, plan.metadata)
    audio = work / str(sample_rate)

    def make(clip: _Clip) -> None:
        wave = clip.make()
        resampled = wave if sample_rate == SAMPLE_RATE else soxr.resample(wave, SAMPLE_RATE, sample_rate, quality="VHQ")
        write_wav(audio / clip.split / clip.name, resampled, sample_rate)

    for _ in ordered_map(make, [clip for clip in plan.clips if not (audio / clip.split / clip.name).is_file()], workers):
        pass
    for split in plan.metadata["splits"]:
        labels = {clip.name: clip.labels for clip in plan.clips if clip.split == split}
        write_text(work / f"{split}.json", json.dumps(labels, indent=1))
    with open(work / VOCABULARY, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("idx", "label"), *enumerate(plan.labels)])
    write_text(work / METADATA, json.dumps(plan.metadata, indent=1))
    finish(work, target)


def _check_made_so(target: Path, metadata: Mapping[str, Any]) -> None:
    """Raises OutputError when the task that is there has other metadata than is wanted."""
    try:
        there = read_json(target / METADATA, TaskError, "it is not a suite's")
    except TaskError:
        there = None
    if there != metadata:
        made = there.get("synthesis") if isinstance(there, dict) and there.get("synthetic") else None
        what = f"made with {made}, but now wanted with {metadata['synthesis']}" if made else "not made by a suite"
        raise OutputError(f"{target} is there, and was {what}; choose another folder")


def _made_by(clips_per_label: int, seed: int, sample_rate: int, **more: Any) -> dict[str, Any]:
    """The part of the metadata that says how the sounds were made: what differs in it has other sounds."""
    return {
        "synthetic": True,
        "synthesis": {
            "made_by": f"hear-axlstm {__version__}",
            "clips_per_label": clips_per_label,
            "seed": seed,
            "sample_rate": sample_rate,
            **more,
        },
    }


# The probe's tasks


def _probing(name: str, clips_per_label: int, seed: int, sample_rate: int, soundfont: Path | None) -> _Plan:
    """The probe's task whose folder has this name.

    Raises ConfigError when a program or SoundFont that it needs is missing, AudioError when a program fails.
    """
    (task,) = (task for task in TASKS.values() if task.folder == name)
    programs: dict[str, Any] = {}
    if task.needs is not None:
        programs["program"] = program_version(task.needs)
    if task.needs == "fluidsynth":
        soundfont = soundfont or held_out_soundfont()
        programs["soundfont"] = {"name": soundfont.name, "sha256": sha256_of(soundfont)}
    labels = len(task.classes)
    count, learnt = clips_per_label * labels, (clips_per_label - max(1, clips_per_label // VALID)) * labels
    splits: dict[str, tuple[Part, range]] = {
        "train": ("train", range(learnt)),
        "valid": ("train", range(learnt, count)),
        "test": ("test", range(count)),
    }
    clips = [
        _Clip(
            split=split,
            name=f"{split}-{index:04}.wav",
            labels=[task.classes[index % labels]],
            make=partial(task.clip, seed, part, index, soundfont),
        )
        for split, (part, indices) in splits.items()
        for index in indices
    ]
    metadata = {
        "task_name": task.name,
        "version": VERSION,
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "sample_duration": task.samples / SAMPLE_RATE,
        "evaluation": ["top1_acc"],
        "default_mode": MODE,
        "mode": MODE,
        "splits": list(splits),
        "held_out": task.held_out,
        **_made_by(clips_per_label, seed, sample_rate, **programs),
    }
    return _Plan(metadata, task.classes, clips)


# Imitations of HEAR's tasks


def _imitated(known: KnownTask, clips_per_label: int, seed: int, sample_rate: int) -> _Plan:
    """The imitation of a HEAR task, with that task's splits, kind and metrics."""
    name, *version, mode = known.folder.split("-")
    imitation = IMITATIONS[name]
    metadata = {
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
        **_made_by(clips_per_label, seed, sample_rate),
    }
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
            make = partial(_sound, imitation, samples, parts, (*key, 1), known.embedding_type == "event")
            clips.append(_Clip(split, f"{split}-{index:04}.wav", labels, make))
    return _Plan(metadata, imitation.labels, clips)


def _seconds(known: KnownTask) -> float | None:
    """The length of every imitated clip, None where clips have several lengths."""
    if known.embedding_type == "event":
        return EVENT_SECONDS
    return None if known.seconds is None else min(known.seconds, LONGEST)


def _milliseconds(samples: int) -> float:
    return 1_000 * samples / SAMPLE_RATE


_Parts = tuple[tuple[int, int, int], ...]  # label's index, first sample and number of samples of each sound in a clip


def _parts(known: KnownTask, labels: int, index: int, wanted: int, rng: np.random.Generator) -> tuple[int, _Parts]:
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


def _sound(imitation: Imitation, samples: int, parts: _Parts, seed: Sequence[int], events: bool) -> Samples:
    """A clip's sounds, each as loud as the others, in noise. Shape: -> (samples,), in [-1, 1]."""
    choices = Choices(np.random.default_rng(seed), "train")
    wave = np.zeros(samples)
    for label, start, length in parts:
        sound = imitation.make(choices, label, length)
        if events:
            sound = sound * fade(length, ATTACK, RELEASE)
        wave[start : start + length] += sound / max(float(sound.std()), 1e-9)
    return in_noise(choices, wave)
