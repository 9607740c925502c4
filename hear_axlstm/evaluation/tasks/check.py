"""A task folder -> what hear-eval-kit or our evaluator would stumble over in it, and how it differs from the HEAR task."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import soundfile

from hear_axlstm.audio import native_blocks
from hear_axlstm.audio.sources import regular
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, TaskError
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS
from hear_axlstm.evaluation.tasks.taskfolder import Labels, TaskFolder, read_task
from hear_axlstm.parallel import ordered_map
from hear_axlstm.progress import Bar, progress_bar, several

BATCH = 1_024  # clips that the kit trains with at once
SHOWN = 5  # cases of one kind of problem
DURATION_SLACK = 0.05  # s between a clip and the task's sample_duration
ONSET_SLACK, OFFSET_SLACK = 100.0, 1_000.0  # ms that an event may begin and end after its clip does
CUT_SHORT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)  # in libsndfile's account of a WAV file
METRICS = frozenset(metric for task in KNOWN_TASKS.values() for metric in task.metrics)
NOT_A_NAME = frozenset({"", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None", "<NA>"})  # missing values to pandas

Audio = Mapping[str, Any]  # soundfile's header of each clip that could be read


@dataclass
class Check:
    """The findings of ``check_task`` about a task folder.

    problems: must be mended before the task is evaluated. remarks: odd, but harmless. differences: from the HEAR task of
    its name; scores are not comparable while there are any. is_own: whether HEAR has no task of its name. clips: how many
    each split names. classes: how many labels there are. seconds: the length of each clip that could be read.
    """

    path: Path
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    is_own: bool = False
    clips: dict[str, int] = field(default_factory=dict)
    classes: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.problems

    @property
    def found(self) -> str:
        """What there is, as a sentence; empty where the task's description cannot be read.

        >>> Check(Path("birds"), clips={"train": 2, "test": 1}, classes=2, seconds=[0.5, 1.5, 1.0]).found
        '3 clips (2 in train, 1 in test), 2 classes, 0.5 to 1.5 s each, 3 s in all'
        """
        if not self.clips:
            return ""
        splits = ", ".join(f"{count:,} in {split}" for split, count in self.clips.items())
        shortest, longest = (f"{end(self.seconds, default=0.0):.3g}" for end in (min, max))
        each = f"{shortest} s" if shortest == longest else f"{shortest} to {longest} s"
        lengths = f", {each} each, {sum(self.seconds):,.0f} s in all" if self.seconds else ""
        return f"{sum(self.clips.values()):,} clips ({splits}), {self.classes:,} classes{lengths}"

    def add(self, problem: str, cases: Iterable[str]) -> None:
        """Note a kind of problem, if it has cases: how many, where there are several, and the first of them."""
        if found := list(cases):
            rest = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
            count = f"{len(found):,} " if len(found) > 1 else ""  # the one case that there is follows
            self.problems.append(f"{count}{problem}: {', '.join(found[:SHOWN])}{rest}")


def check_task(path: Path, sample_rate: int = SAMPLE_RATE, *, progress: bool = False, title: str = "") -> Check:
    """Look through a task folder: descriptions, labels, and the headers of the sounds at ``sample_rate`` Hz.

    Sounds are decoded where their numbers may be no numbers, or headers may be wrong: all but 16-bit WAV. progress: a bar
    on stderr, before which stands the title, or the folder's name. Problems are returned; nothing is raised.
    """
    check = Check(path)
    try:
        task = read_task(path)
        clips = {split: task.clips(split) for split in task.splits}
        check.is_own = task.known is None
        check.differences = [] if check.is_own else task.differences()
    except TaskError as error:
        check.problems.append(str(error))
        return check
    check.clips = {split: len(names) for split, names in clips.items()}
    check.classes = len(task.labels)
    _check_description(check, task)
    _check_splits(check, task, clips)
    _check_labels(check, task, clips)
    if not (path / str(sample_rate)).is_dir():
        rates = sorted(folder.name for folder in path.glob("*/") if folder.name.isdigit())
        there = f", but at {', '.join(rates)} Hz: `hear-axlstm tasks prepare` resamples it" if rates else ""
        check.problems.append(f"{path} has no sounds at {sample_rate} Hz{there}")
        return check
    with progress_bar(total=sum(check.clips.values()), unit="clip", desc=title or path.name, shown=progress) as bar:
        headers = {split: _check_sounds(check, task, split, clips[split], sample_rate, bar) for split in task.splits}
    every = [header for of_split in headers.values() for header in of_split.values()]
    check.seconds = [header.frames / header.samplerate for header in every]
    _check_lengths(check, task, headers)
    if task.embedding_type == "event":
        _check_events(check, clips, headers)
    return check


def _check_description(check: Check, task: TaskFolder) -> None:
    check.add("metrics are unknown to the kit", (name for name in task.metrics if name not in METRICS))
    check.add("labels are in the vocabulary twice", (label for label, count in Counter(task.labels).items() if count > 1))
    # The kit reads the vocabulary with pandas, which guesses types, and then makes strings of the labels again.
    check.add("labels are read as a missing value by the kit", (repr(label) for label in task.labels if label in NOT_A_NAME))
    if all(label.lstrip("+-").isdigit() for label in task.labels):
        check.add("labels are read as other numbers by the kit", (name for name in task.labels if str(int(name)) != name))


def _check_splits(check: Check, task: TaskFolder, clips: Mapping[str, Mapping[str, Labels]]) -> None:
    check.add("splits have no clips", (split for split in task.splits if not clips[split]))
    seen: dict[str, str] = {}
    twice = []
    for split, names in clips.items():
        twice += [f"{name} in {seen[name]} and {split}" for name in names if name in seen]
        seen |= dict.fromkeys(names, split)
    check.add("clips are in two splits", twice)
    if task.embedding_type == "scene":
        sizes = {data.test: sum(len(clips[split]) for split in data.train) for data in task.data_splits}
        crashing = (f"{size:,} when {test} is tested" for test, size in sizes.items() if size % BATCH == 1)
        check.add(f"sets to train on leave one clip to the last batch of {BATCH:,}, which crashes the kit", crashing)


def _check_labels(check: Check, task: TaskFolder, clips: Mapping[str, Mapping[str, Labels]]) -> None:
    known, used = set(task.labels), set()
    unknown, not_one, malformed = [], [], []
    for split, names in clips.items():
        for name, labels in names.items():
            if task.embedding_type == "event":
                if not all(_is_event(label) for label in labels):
                    malformed.append(f"{split}/{name}")
                    continue
                labels = [event["label"] for event in labels]
            elif task.prediction_type == "multiclass" and len(labels) != 1:
                not_one.append(f"{split}/{name} has {len(labels)}")
            names_of_labels = {str(label) for label in labels}  # as the kit does: NSynth's are numbers
            unknown += [f"{label!r} of {split}/{name}" for label in sorted(names_of_labels - known)]
            used |= names_of_labels
    check.add("clips have events that are not label, start and end in ms, with 0 <= start <= end", malformed)
    check.add("clips of a multiclass task do not have exactly one label", not_one)
    check.add("labels are not in the vocabulary", unknown)
    if unused := [label for label in task.labels if label not in used]:
        check.remarks.append(f"never used: {several(len(unused), 'label')} of the vocabulary, {unused[0]!r} first")


def _is_event(event: Any) -> bool:
    if not isinstance(event, dict) or not {"label", "start", "end"} <= event.keys():
        return False
    times = event["start"], event["end"]
    return all(isinstance(time, int | float) for time in times) and 0 <= times[0] <= times[1] < float("inf")


def _check_sounds(
    check: Check,
    task: TaskFolder,
    split: str,
    names: Iterable[str],
    sample_rate: int,
    bar: Bar,
) -> Audio:
    """The headers of a split's clips; problems are noted in ``check``."""
    folder = task.audio(split, sample_rate)
    if not folder.is_dir():
        check.problems.append(f"{folder}: no such folder")
        return {}
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    check.add(f"clips are missing in {folder}", (name for name in names if name not in there))
    check.add(f"files in {folder} are named by no split", sorted(there - set(names)))
    present = [name for name in names if name in there and PurePosixPath(name).name == name]
    headers = {}
    unreadable, wrong = [], []
    for name, header in zip(present, ordered_map(_header, (folder / name for name in present)), strict=True):
        bar.update()
        if isinstance(header, str):
            unreadable.append(f"{name} ({header})")
            continue
        headers[name] = header
        if (header.channels, header.samplerate) != (1, sample_rate) or header.frames < 1:
            wrong.append(
                f"{name} ({several(header.channels, 'channel')}, {header.samplerate} Hz, {header.frames:,} samples)"
            )
    check.add(f"files in {folder} are damaged or cannot be read", unreadable)
    check.add(f"files in {folder} are not mono at {sample_rate} Hz, with one sample at least", wrong)
    return headers


def _header(path: Path) -> Any:
    """soundfile's header of a file, or as text the reason why it cannot be read or is not what it should be."""
    try:
        with regular(path):
            header = soundfile.info(os.fsencode(path))
        if (header.format, header.subtype) == ("WAV", "PCM_16"):
            cut = CUT_SHORT.search(header.extra_info)
            if cut and int(cut[1]) > int(cut[2]):
                return f"cut short: {int(cut[2]):,} bytes of sound of {int(cut[1]):,}"
            return header
        samples = 0
        for _, block in native_blocks(path):
            samples += len(block)
            if not np.isfinite(block).all():
                return "holds NaN or infinity"
        return header if samples == header.frames else f"{samples:,} samples, but its header says {header.frames:,}"
    except (AudioError, soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
        return str(error).partition(": ")[2] or str(error)


def _check_lengths(check: Check, task: TaskFolder, headers: Mapping[str, Audio]) -> None:
    """Clips of a task with a duration, which the kit stacks, must have one length, about that duration."""
    lengths = {f"{split}/{name}": header for split, audio in headers.items() for name, header in audio.items()}
    if task.sample_duration is None or not lengths:
        return
    usual = Counter(header.frames for header in lengths.values()).most_common(1)[0][0]
    others = (f"{name} ({header.frames:,})" for name, header in lengths.items() if header.frames != usual)
    check.add(f"clips do not have the {usual:,} samples of the others, which the kit stacks them with", others)
    seconds = usual / next(iter(lengths.values())).samplerate
    if abs(seconds - task.sample_duration) > DURATION_SLACK:
        check.problems.append(f"clips last {seconds:.3f} s, but sample_duration is {task.sample_duration} s")


def _check_events(check: Check, clips: Mapping[str, Mapping[str, Labels]], headers: Mapping[str, Audio]) -> None:
    late = []
    for split, audio in headers.items():
        for name, header in audio.items():
            length = 1_000 * header.frames / header.samplerate
            for event in filter(_is_event, clips[split][name]):
                if event["start"] > length + ONSET_SLACK or event["end"] > length + OFFSET_SLACK:
                    late.append(f"{event['start']:.0f} to {event['end']:.0f} ms in {split}/{name} of {length:.0f} ms")
    check.add("events lie beyond the end of their clip", late)
