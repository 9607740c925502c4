"""The batched evaluator on the device beside the sequential one on the CPU, with the same draws; and its time."""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.checks import Checks, rehearsing, require
from hear_axlstm.evaluation.native import data
from hear_axlstm.evaluation.native.batched import evaluate_batched
from hear_axlstm.evaluation.native.batched_network import TrainingDraws
from hear_axlstm.evaluation.native.data import Split
from hear_axlstm.evaluation.native.faithful import evaluate_sequentially
from hear_axlstm.evaluation.protocols import Protocol, Settings, find_protocol
from tests.evaluation.folders import write_embeddings
from tests.evaluation.native.replay import Stream

SIZES = {"fold00": 52, "fold01": 47, "fold02": 51, "fold03": 54}  # four batches of 32 of whichever two
POINT = Settings(
    hidden_layers=1, hidden_dim=32, dropout=0.25, lr=1e-3, patience=2, max_epochs=600, check_val_every_n_epoch=3,
    batch_size=32, initialization="xavier_normal",
)  # fmt: skip
CLOSE = 1e-4  # of scores and losses, in float64


def equal(kind: str, folder: Path, device: torch.device) -> dict[str, Any]:
    """In float64, with the sequential evaluator's draws, every score is its."""
    metrics = ["mAP", "aucroc"] if kind == "multilabel" else None
    task = write_embeddings(folder / kind, sizes=SIZES, noise=4, prediction_type=kind, metrics=metrics)
    protocol = Protocol("one point", {name: [value] for name, value in POINT.to_dict().items()}, 8, "this check")
    generator, before = torch.Generator().manual_seed(3), list[Stream]()

    def draws(*_: object, **__: object) -> TrainingDraws:
        for stream in before:
            stream.end()
        before[:] = [Stream(generator, hidden_layers=1, batches=4, check_every=3)]
        return before[0]

    read = data.read_split
    data.read_split = lambda *named: _double(read(*named))
    torch.set_default_dtype(torch.float64)
    try:
        ours = evaluate_batched(task, protocol, [3], device, draws=draws)[3]
        theirs = evaluate_sequentially(task, protocol, 3)
    finally:
        torch.set_default_dtype(torch.float32)
        data.read_split = read
    worst = max(
        abs(ours.splits[split][name] - theirs.splits[split][name]) for split in ours.splits for name in ours.splits[split]
    )
    require(ours.splits.keys() == theirs.splits.keys() and worst <= CLOSE, f"scores differ by {worst:.1e}")
    return {"largest difference": worst}


def _double(split: Split) -> Split:
    return Split(split.embeddings.double(), split.targets.double())


def timed(folder: Path, device: torch.device) -> dict[str, Any]:
    """Three seeds of a protocol on a task of the size of ESC-50."""
    seeds = 1 if rehearsing() else 3
    sizes = dict.fromkeys(SIZES if rehearsing() else [f"fold0{fold}" for fold in range(5)], 40 if rehearsing() else 400)
    task = write_embeddings(folder / "timed", sizes=sizes, labels=4 if rehearsing() else 50, width=960, noise=5.0)
    start = time.perf_counter()
    protocol = Protocol("one point", {name: [value] for name, value in POINT.to_dict().items()}, 8, "this check")
    outcomes = evaluate_batched(task, protocol if rehearsing() else find_protocol("axlstm"), range(seeds), device)
    score = statistics.mean(outcome.mean("test_score") for outcome in outcomes.values())
    require(score > 0.1, f"the score is {score:.3f}, that of chance or below")
    return {"seeds": seeds, "seconds for all": round(time.perf_counter() - start, 1), "score": score}


def main() -> None:
    """Compare both evaluators."""
    checks, device = Checks(), torch.device("cpu" if rehearsing() else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("multiclass", "multilabel"):
            checks.run(f"{kind}: the sequential evaluator's scores", partial(equal, kind, Path(folder), device))
        checks.run("time", partial(timed, Path(folder), device))
    checks.end()


if __name__ == "__main__":
    main()
