"""The native evaluator beside the real hear-eval-kit, on embeddings drawn at random in the shapes of HEAR tasks.

    python -m benchmarks.evaluation [--case beijing_opera] [--seeds 10] [--kit-seeds 1]

On CUDA the native evaluator trains all seeds at once, and seconds are the wall clock's. On a CPU it trains them one by
one on one thread, as the kit does, and seconds are user and system time of the processes. Both are for one seed. Nothing
is warmed up: the imports of the kit count (about 5 s), as for whoever uses it. Appends to
benchmarks/results/evaluation.json.
"""

import json
import platform
import resource
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import torch

from benchmarks.page import evaluation_row
from benchmarks.records import machine, table
from hear_axlstm.evaluation.kit.launch import evaluate_with_kit
from hear_axlstm.evaluation.native.batched import evaluate_batched
from hear_axlstm.evaluation.native.faithful import evaluate_sequentially
from hear_axlstm.evaluation.protocols import LINEAR, PROTOCOLS, find_protocol
from hear_axlstm.storage import write_text
from tests.evaluation.folders import write_embeddings

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
FOLDS = ["fold00", "fold01", "fold02", "fold03", "fold04"]
CASES = {  # noise: such that scores are about those of real embeddings, and trainings as long
    "beijing_opera": {"sizes": dict(zip(FOLDS, [48, 47, 47, 47, 47], strict=True)), "labels": 4, "noise": 5.5},
    "esc50": {"sizes": dict.fromkeys(FOLDS, 400), "labels": 50, "noise": 5.0},
    "speech_commands_5h": {
        "sizes": {"train": 16_000, "valid": 2_000, "test": 4_890},
        "labels": 12,
        "noise": 10.0,
        "metrics": ["top1_acc"],
    },
    "fsd50k": {
        "sizes": {"train": 6_000, "valid": 700, "test": 1_700},
        "labels": 200,
        "noise": 6.0,
        "prediction_type": "multilabel",
        "metrics": ["mAP", "d_prime", "aucroc", "top1_acc"],
    },
}
WIDTH = 960


def spent(device):
    """Seconds since some start; differences between two calls are what counts."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def native(embeddings, protocol, seeds, device):
    if device.type == "cuda":
        return evaluate_batched(embeddings, protocol, range(seeds), device)
    return {seed: evaluate_sequentially(embeddings, protocol, seed) for seed in range(seeds)}


def timed(action, seeds, device):
    """The outcomes that ``action`` gives by seed, and the seconds for one."""
    start = spent(device)
    outcomes = action()
    return outcomes, (spent(device) - start) / seeds


def scores(outcomes):
    return [round(outcome.mean("test_score"), 4) for outcome in outcomes.values()]


def measure(case, protocol, seeds, kit_seeds, device, folder):
    embeddings = write_embeddings(folder / case, width=WIDTH, **CASES[case])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ours, seconds = timed(lambda: native(embeddings, protocol, seeds, device), seeds, device)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    row = {"case": case, "protocol": protocol.name, "seeds": seeds, "seconds": round(seconds, 2), "scores": scores(ours)}
    row |= {"GiB": peak and round(peak, 2)}
    if kit_seeds:

        def run_kit():
            return {seed: evaluate_with_kit(embeddings, protocol, seed, device=str(device)) for seed in range(kit_seeds)}

        theirs, kit_seconds = timed(run_kit, kit_seeds, device)
        row |= {"kit_seeds": kit_seeds, "kit_seconds": round(kit_seconds, 2), "kit_scores": scores(theirs)}
        row |= {"speed-up": round(kit_seconds / seconds, 1)}
    return row


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@click.command()
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), default=list(CASES), show_default=True)
@click.option(
    "--protocol", type=click.Choice([name for name in PROTOCOLS if name != LINEAR.name]), default="axlstm", show_default=True
)
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True, help="For the native evaluator.")
@click.option("--kit-seeds", type=click.IntRange(0), default=1, show_default=True, help="For the kit, which takes long.")
@click.option("--device", help="cuda or cpu; cuda where there is one.")
def main(cases, protocol, seeds, kit_seeds, device):
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu":
        torch.set_num_threads(1)
    rows = []
    record = {**machine(device), "python": platform.python_version(), **versions(), "evaluation": rows}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            rows.append(measure(case, find_protocol(protocol), seeds, kit_seeds, device, Path(folder)))
            click.echo(json.dumps(rows[-1]))
            keep(record)
    lines = [evaluation_row(row) for row in rows]
    click.echo(table(list(lines[0]), [list(line.values()) for line in lines]))


def keep(record):
    """Write the record into the results, in place of what was written of this run so far."""
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = record["evaluation"][:-1]
    if done and records and records[-1] == {**record, "evaluation": done}:
        records.pop()
    write_text(RESULTS, json.dumps([*records, record], indent=1) + "\n")


def versions():
    return {name: installed(name) for name in ("heareval", "pytorch-lightning", "scikit-learn")}


if __name__ == "__main__":
    main()
