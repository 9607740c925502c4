"""A task folder and an encoder -> the folder of its embeddings, file by file as hear-eval-kit writes it."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, TaskFolder, read_task
from hear_axlstm.files import embed
from hear_axlstm.files.sounds import FileSound
from hear_axlstm.storage import replacing, sweep, write_text

DONE = ".done.embeddings"
FAILURES_SHOWN = 3  # in an error
END_OF_EVENT = 0.0001  # ms: an event still counts at its very end


def is_embedded(task: TaskFolder, out: Path) -> bool:
    """Whether ``out`` holds all embeddings of the task as it is described now, and of its sounds as they are now."""
    noted = sounds_embedded(out)
    try:
        same = noted is not None and read_task(out).sha256 == task.sha256
    except TaskError:
        return False
    return same and ("" in (noted, now := task.sounds_sha256(SAMPLE_RATE)) or noted == now)


def sounds_embedded(out: Path) -> str | None:
    """The hash of the sounds of which ``out`` holds all embeddings, empty where it was not noted; None without them."""
    try:
        return (out / DONE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def embed_task(task: TaskFolder, model: Embedder, out: Path, *, workers: int | None = None) -> None:
    """Embed all clips of a task, in batches of mixed lengths, into what hear-eval-kit's predictions take.

    model: on the device to use. out: a folder for this task alone; a second call does the clips that are missing or have
    changed. workers: as in ``embed``.

    Raises TaskError when a clip cannot be embedded (the others are kept) or the task is damaged, OutputError when the folder
    was made with other weights or settings.
    """
    start, sounds_sha256 = time.perf_counter(), task.sounds_sha256(SAMPLE_RATE)
    (out / DONE).unlink(missing_ok=True)
    for folder in (out, *(out / split for split in task.splits)):
        sweep(folder)
    events = task.embedding_type == "event"
    sounds = [
        FileSound(f"{split}/{clip}", task.audio(split, SAMPLE_RATE) / clip)
        for split in task.splits
        for clip in task.clips(split)
    ]
    failures = embed(sounds, model, out=out, timestamps=events, workers=workers).failures
    if failures:
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(failures.items())[:FAILURES_SHOWN])
        raise TaskError(f"{task.name}: {len(failures)} of {len(sounds)} clips cannot be embedded: {shown}")
    for name in (METADATA, VOCABULARY, *(f"{split}.json" for split in task.splits)):
        with replacing(out / name) as temporary:
            shutil.copyfile(task.path / name, temporary)
    for split in task.splits:
        _write_split(task, split, out)
    _write_json(
        out / "profile.embeddings.json",
        {"time_elapsed": time.perf_counter() - start, "gpu_max_mem": None, "gpu_device_name": _device_name(model)},
        indent=4,
    )
    write_text(out / DONE, sounds_sha256)


def frame_labels(events: Sequence[dict[str, Any]], timestamps: Sequence[float]) -> list[list[str]]:
    """The labels of the events at each time. events: label, start and end in ms; timestamps: in ms, ascending."""
    labels: list[list[str]] = [[] for _ in timestamps]
    for event in events:
        first, end = (bisect_left(timestamps, time) for time in (event["start"], event["end"] + END_OF_EVENT))
        for frame in labels[first:end]:
            frame.append(event["label"])
    return labels


def _write_split(task: TaskFolder, split: str, out: Path) -> None:
    """Write the files of single clips beside their embeddings, and the files of the whole split."""
    clips, order = task.clips(split), task.stored_order[split]
    folder = out / split
    labels: list[Any] = []
    frames: list[tuple[str, float]] = []
    for clip in order:
        if task.embedding_type == "scene":
            own: list[Any] = clips[clip]
            labels.append(own)
        else:
            timestamps = json.loads((folder / f"{clip}.timestamps.json").read_text(encoding="utf-8"))
            own = frame_labels(clips[clip], timestamps)
            labels += own
            frames += [(str(folder / clip), timestamp) for timestamp in timestamps]
        _write_json(folder / f"{clip}.target-labels.json", own, indent=None if task.embedding_type == "scene" else 4)
    shape = _write_rows(out / f"{split}.embeddings.npy", (np.load(folder / f"{clip}.embedding.npy") for clip in order))
    _write_json(out / f"{split}.embedding-dimensions.json", shape)
    with replacing(out / f"{split}.target-labels.pkl") as temporary:
        temporary.write_bytes(pickle.dumps(labels))
    if task.embedding_type == "event":
        _write_json(out / f"{split}.filename-timestamps.json", frames, indent=4)


def _write_rows(path: Path, embeddings: Iterator[np.ndarray[Any, np.dtype[np.float32]]]) -> tuple[int, int]:
    """Write embeddings one after the other, without a header. Returns how many rows and columns they are."""
    rows, columns = 0, 0
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for embedding in embeddings:
            found = np.atleast_2d(embedding).astype(np.float32, copy=False)
            found.tofile(file)
            rows, columns = rows + len(found), found.shape[1]
    return rows, columns


def _write_json(path: Path, value: Any, indent: int | None = None) -> None:
    write_text(path, json.dumps(value, indent=indent))


def _device_name(model: Embedder) -> str:
    return torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "cpu"
