"""A user's own labelled sounds -> a task folder in HEAR's layout."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from hear_axlstm.audio import TOO_SHORT
from hear_axlstm.classification.labelled import SPLITS, Labelled, check_outside, read_labelled
from hear_axlstm.config import MIN_SAMPLES, SAMPLE_RATE
from hear_axlstm.errors import ConfigError, TaskError
from hear_axlstm.evaluation.tasks.prepare import RATES, WAV_HEADER, finish, resample_clip, unfinished
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, TaskFolder, read_task
from hear_axlstm.files.sounds import FileSound, NoSound
from hear_axlstm.parallel import ordered_map
from hear_axlstm.progress import progress_bar, several
from hear_axlstm.storage import write_text

FOLDS, LEAST_FOLDS = 5, 3  # that are drawn; a classifier needs one to be tested by, one to be chosen by, one to learn from
VALID = 5  # one of as many clips to learn from is taken out to choose by, where nobody has said which
METRICS = ("top1_acc", "mAP")


@dataclass
class OwnTask:
    """The result of ``make_task``. drawn: how its splits came about. failures: sounds that are not in it, and why."""

    task: TaskFolder
    drawn: str
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)


def make_task(
    source: Path,
    target: Path,
    *,
    seed: int = 0,
    sample_rate: int = SAMPLE_RATE,
    workers: int | None = None,
    progress: bool = False,
) -> OwnTask:
    """Make the task ``target`` of labelled sounds: a folder that has a folder for each class, or a CSV.

    source: as ``read_labelled`` takes it: a CSV has the columns path, label and perhaps group, and split or fold. Without
    these two, five folds are drawn with the seed, or three at least where a class is rare: every fold has about the same
    share of each class, and a group is in one fold. With train and test only, a fifth of train becomes valid.
    sample_rate: Hz, 16000 or one of ``RATES``. workers: threads that resample. progress: a bar on stderr.

    A sound that cannot be read, or is too short to embed, is left out and recorded in ``failures``. The folder appears when
    it is whole; a call that was killed is continued by the next one.

    Raises ConfigError when the source or the splits are not as they must be, or ``target`` is there already or among the
    sounds; OSError when a file cannot be written.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already; remove it, or choose another folder")
    if sample_rate not in (SAMPLE_RATE, *RATES):
        raise ConfigError(f"sample_rate is {sample_rate}; expected one of {SAMPLE_RATE}, {', '.join(map(str, RATES))}")
    labelled = read_labelled(source)
    check_outside(target, source)
    work = unfinished(target, {"source": str(source.resolve()), "rate": sample_rate, "sounds": labelled.fingerprint()})
    names = _file_names(labelled)
    clips = work / "clips"
    convert = partial(_converted, sample_rate=sample_rate)
    jobs = zip(labelled.sounds, (clips / name for name in names), strict=True)
    outcomes = list(
        progress_bar(ordered_map(convert, jobs, workers), total=len(names), unit="clip", desc=target.name, shown=progress)
    )
    failures = {sound.name: why for sound, why in zip(labelled.sounds, outcomes, strict=True) if why}
    good = [place for place, why in enumerate(outcomes) if not why]
    splits, drawn = _splits(labelled, good, seed)
    _describe(work, target.name, labelled, names, splits, drawn, sample_rate)
    clips.rmdir()
    finish(work, target)
    return OwnTask(read_task(target), drawn, failures, labelled.left_out)


def _describe(
    work: Path,
    name: str,
    labelled: Labelled,
    names: Sequence[str],
    splits: Mapping[str, Sequence[int]],
    drawn: str,
    sample_rate: int,
) -> None:
    """Put the clips into the folders of their splits, and write what describes the task."""
    for split, places in splits.items():
        folder = work / str(sample_rate) / split
        folder.mkdir(parents=True, exist_ok=True)
        for place in places:
            (work / "clips" / names[place]).rename(folder / names[place])
        write_text(
            work / f"{split}.json", json.dumps({names[place]: [labelled.labels[place]] for place in places}, indent=1)
        )
    classes = sorted({labelled.labels[place] for places in splits.values() for place in places})
    with open(work / VOCABULARY, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("idx", "label"), *enumerate(classes)])
    metadata = {
        "task_name": name,
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest" if "train" in splits else "new_split_kfold",
        "sample_duration": _duration(work / str(sample_rate), sample_rate),
        "evaluation": list(METRICS),
        "mode": "full",
        "splits": list(splits),
        "drawn": drawn,
    }
    write_text(work / METADATA, json.dumps(metadata, indent=1))


def draw_folds(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """The fold of each clip: about as many of each class in every fold, and all clips of a group in one.

    groups: one a clip; empty where every clip is by itself. The same seed draws the same folds.
    """
    members: dict[str, list[int]] = {}
    for place in range(len(labels)):
        members.setdefault(groups[place] if groups else str(place), []).append(place)
    order = sorted(members)
    random.Random(seed).shuffle(order)  # noqa: S311 - not for secrets
    order.sort(key=lambda group: -len(members[group]))
    counts = [Counter[str]() for _ in range(folds)]
    found = [0] * len(labels)
    for group in order:
        own = Counter(labels[place] for place in members[group])
        chosen = min(range(folds), key=lambda fold: (sum(counts[fold][label] for label in own), counts[fold].total()))
        counts[chosen].update(own)
        for place in members[group]:
            found[place] = chosen
    return found


def _splits(labelled: Labelled, good: Sequence[int], seed: int) -> tuple[dict[str, list[int]], str]:
    """The places of the sounds by split, and how they came there. Raises ConfigError on too few."""
    labels = [labelled.labels[place] for place in good]
    groups = [labelled.groups[place] for place in good] if labelled.groups else []
    parts = [labelled.parts[place] for place in good] if labelled.parts else []
    if not parts:
        clips = Counter(labels)
        if len(clips) < 2:
            raise ConfigError(f"sounds of {several(len(clips), 'class')} can be read; expected two classes at least")
        rarest = min(clips, key=lambda label: clips[label])
        if clips[rarest] < LEAST_FOLDS:
            raise ConfigError(
                f"{rarest} has {several(clips[rarest], 'sound')}; expected {LEAST_FOLDS} of each class, one for each fold"
            )
        folds = min(FOLDS, clips[rarest])
        drawn = draw_folds(labels, groups, folds, seed)
        together = ", groups undivided" if groups else ""
        return _by_name(good, [f"fold{fold:02}" for fold in drawn]), f"{folds} folds, stratified{together}, with seed {seed}"
    if not set(parts) <= set(SPLITS.values()):
        names = sorted(set(parts), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
        if len(names) < LEAST_FOLDS:
            raise ConfigError(f"the folds are {' and '.join(names)}; expected {LEAST_FOLDS} folds or more")
        return _by_name(good, [f"fold{names.index(part):02}" for part in parts]), f"{len(names)} folds, as the table says"
    if missing := {"train", "test"} - set(parts):
        raise ConfigError(f"no sound is for {' and '.join(sorted(missing))}; expected train and test, or a column fold")
    if "valid" in parts:
        return _by_name(good, parts, ("train", "valid", "test")), "train, valid and test, as the table says"
    learnt = [index for index, part in enumerate(parts) if part == "train"]
    own = draw_folds([labels[index] for index in learnt], [groups[index] for index in learnt] if groups else [], VALID, seed)
    for index, fold in zip(learnt, own, strict=True):
        parts[index] = "valid" if fold == 0 else "train"
    said = f"train and test as the table says, valid a {VALID}th of train, stratified, with seed {seed}"
    return _by_name(good, parts, ("train", "valid", "test")), said


def _by_name(places: Sequence[int], parts: Sequence[str], order: Sequence[str] = ()) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {name: [] for name in order or sorted(set(parts))}
    for place, part in zip(places, parts, strict=True):
        found[part].append(place)
    return found


def _file_names(labelled: Labelled) -> list[str]:
    """A plain name for each sound's clip, no two alike."""
    seen: Counter[str] = Counter()
    names = []
    for sound in labelled.sounds:
        plain = "-".join(PurePath(sound.name).with_suffix("").parts).lstrip("-./") or "clip"
        seen[plain] += 1
        names.append(f"{plain}{f'-again{seen[plain]}' if seen[plain] > 1 else ''}.wav")
    return names


def _converted(job: tuple[FileSound | NoSound, Path], sample_rate: int) -> str:
    """Convert a sound. Returns why it cannot be, nothing where it is."""
    sound, clip = job
    if isinstance(sound, NoSound):
        return sound.reason
    if not clip.is_file():
        try:
            resample_clip(sound.path, clip, sample_rate)
        except TaskError as error:
            return str(error).removeprefix(f"{sound.path}: ")
    samples, least = (clip.stat().st_size - WAV_HEADER) // 2, MIN_SAMPLES / SAMPLE_RATE
    if samples < least * sample_rate:
        clip.unlink()
        return f"lasts {1_000 * samples / sample_rate:.1f} ms, {TOO_SHORT}; expected {1_000 * least:.1f} ms or more"
    return ""


def _duration(audio: Path, sample_rate: int) -> float | None:
    """The seconds of every clip, None where clips differ."""
    sizes = {path.stat().st_size for path in audio.glob("*/*.wav")}
    return (sizes.pop() - WAV_HEADER) / 2 / sample_rate if len(sizes) == 1 else None
