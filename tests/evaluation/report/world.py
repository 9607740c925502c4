"""Folders of results as ``evaluate`` leaves them, with scores drawn around those of published models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from hear_axlstm.evaluation.protocols import PROTOCOLS
from hear_axlstm.evaluation.published import papers_table
from hear_axlstm.evaluation.results import (
    MODEL,
    Failure,
    ModelRecord,
    Results,
    Score,
    failure_path,
    read_results,
    score_path,
)
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS

TEN = [task.folder for task in PAPER_TASKS.values()]
ESC, FSD, VOX = "esc50-v2.0.0-full", "fsd50k-v1.0-full", "vox_lingua_top10-hear2021-full"
BASE, TINY = "axlstm-base", "axlstm-tiny-synth"
SPREAD = 0.004


def paper_scores(name: str) -> dict[str, float]:
    """A published model's ten scores, as fractions, by task folder."""
    (row,) = [model for model in papers_table().models if model.name == name]
    return {task: found.mean / 100 for task, found in row.scores.items()}


def record(name: str, parameters: int | None = 65_600_000, **changes: Any) -> ModelRecord:
    facts = {"module": "hear_axlstm", "weights_sha256": f"{len(name):064x}", "options": {"layout": "released"}, **changes}
    return ModelRecord(name=name, parameters=parameters, **facts)


def score(model: str, task: str, seed: int, value: float, **changes: Any) -> Score:
    """value: the test score, a fraction; folds lie around it."""
    known = KNOWN_TASKS.get(task)
    metrics = known.metrics if known is not None else ("top1_acc",)
    folds = [f"fold{index:02}" for index in range(known.folds)] if known is not None and known.folds else ["test"]
    middle = (len(folds) - 1) / 2
    splits = {
        fold: {
            "test_loss": 1.25,
            "test_score": value + 0.01 * (index - middle),
            **{f"test_{metric}": value + 0.01 * (index - middle) for metric in metrics if metric != "d_prime"},
            **({"test_d_prime": 2.125} if "d_prime" in metrics else {}),
            "validation_score": value + 0.02,
            "epoch": 47,
        }
        for index, fold in enumerate(folds)
    }
    protocol = changes.pop("protocol", "axlstm")
    facts = {
        "weights_sha256": f"{len(model):064x}",
        "task_sha256": f"{sum(map(ord, task)):064x}",
        "differences": [],
        "protocol_sha256": PROTOCOLS[protocol].sha256 if protocol in PROTOCOLS else "0" * 64,
        "engine": "native",
        "metric": metrics[0],
        "score": value,
        "settings": {"dropout": 0.25 if seed % 3 else 0.1, "lr": 1e-4},
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "device": "cuda",
        "seconds": 12.5,
        "finished": f"2026-11-20T10:{seed:02}:00+00:00",
        **changes,
    }
    return Score(model=model, task=task, protocol=protocol, seed=seed, splits=splits, **facts)


def scores(model: str, values: dict[str, float], seeds: int = 10, **changes: Any) -> list[Score]:
    """Every task with every seed, spread around ``values`` by a random generator of the model's own."""
    draw = random.Random(model)
    return [
        score(model, task, seed, value + draw.gauss(0, SPREAD), **changes)
        for task, value in values.items()
        for seed in range(seeds)
    ]


def failure(model: str, task: str, reason: str, protocol: str = "axlstm") -> Failure:
    return Failure(model=model, task=task, protocol=protocol, engine="native", reason=reason)


def write_results(folder: Path, models: list[ModelRecord], found: list[Score], failures: list[Failure] = ()) -> Path:
    for model in models:
        model.write(folder / model.name / MODEL)
    for one in found:
        one.write(score_path(folder / one.model, one.protocol, one.engine, one.task, one.seed))
    for one in failures:
        one.write(failure_path(folder / one.model, one.protocol, one.engine, one.task))
    return folder


def in_memory(models: list[ModelRecord], found: list[Score], failures: list[Failure] = ()) -> Results:
    return Results({model.name: model for model in models}, found, list(failures))


def two_models(folder: Path) -> Results:
    """One with all ten tasks, and one of which a task failed, one is missing, and one lacks a seed; the former also with
    HEAR's own protocol on four tasks."""
    base = scores(BASE, paper_scores("AxLSTM-B"))
    values = {task: value for task, value in paper_scores("AxLSTM-T").items() if task not in {FSD, VOX}}
    tiny = [one for one in scores(TINY, values) if (one.task, one.seed) != (ESC, 9)]
    leaderboard = {ESC: 0.79, TEN[0]: 0.936, FSD: 0.51, "tfds_gtzan-1.0.0-full": 0.81}
    other = scores(BASE, leaderboard, protocol="hear2021")
    broken = failure(
        TINY, FSD, f"{FSD}/train.json cannot be read (Expecting ',' delimiter: line 2041 column 7 (char 131072))"
    )
    write_results(folder, [record(BASE), record(TINY, 4_343_584)], [*base, *tiny, *other], [broken])
    return read_results([folder])
