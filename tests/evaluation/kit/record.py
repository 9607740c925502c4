"""What the real kit computed, kept in tests/evaluation/data: python -m tests.evaluation.kit.record writes it anew.

data/CASE/training-00.csv, ...   each training, in the kit's order: epoch, val_loss and val_score of every check
data/CASE/outcome.json           the Outcome: splits and settings

Values are the kit's float32, written so that they read back exactly. Another processor, torch or number of threads sums in
another order: tests/tolerances.py says how far that carries.
"""

import csv
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hear_axlstm.evaluation.kit.launch import evaluate_with_kit
from hear_axlstm.evaluation.protocols import PROTOCOLS, Protocol
from hear_axlstm.evaluation.results import Outcome
from tests.evaluation.folders import write_embeddings

DATA = Path(__file__).parents[1] / "data"
COLUMNS = ("epoch", "val_loss", "val_score")


@dataclass(frozen=True)
class Case:
    """A small task, and the protocol and seed that the kit evaluated it with."""

    embeddings: dict[str, Any]
    protocol: Protocol = PROTOCOLS["axlstm"]
    seed: int = 0

    def write(self, folder: Path) -> Path:
        """The embeddings, in a new folder."""
        return write_embeddings(folder, **self.embeddings)


CASES = {
    "multiclass": Case(
        {
            "sizes": {"fold00": 48, "fold01": 47, "fold02": 47},
            "evaluation_params": {"task_specific_param_grid": {"max_epochs": [60]}},
        },
    ),
    "multilabel": Case(
        {
            "sizes": {"train": 60, "valid": 40, "test": 40},
            "labels": 6,
            "prediction_type": "multilabel",
            "metrics": ["mAP", "d_prime", "aucroc", "top1_acc"],
            "evaluation_params": {"task_specific_param_grid": {"max_epochs": [60], "batch_size": [25]}},
        },
        seed=1,
    ),
    "stopped": Case(
        {
            "sizes": {"fold00": 48, "fold01": 47, "fold02": 47},
            "evaluation_params": {"task_specific_param_grid": {"max_epochs": [60], "patience": [2], "hidden_dim": [64]}},
        },
        protocol=PROTOCOLS["hear2021"],
        seed=2,
    ),
}


def read_curves(folder: Path) -> list[list[dict[str, float]]]:
    """Training -> check -> COLUMNS, of the files that the kit's logger wrote, or that are kept of them."""
    found = []
    for path in sorted(folder.glob("training-*.csv")):
        with open(path, newline="") as file:
            checks = [row for row in csv.DictReader(file) if row["val_loss"]]
        found.append([{name: float(check[name]) for name in COLUMNS if name in check} for check in checks])
    return found


def recorded_curves(case: str) -> list[list[dict[str, float]]]:
    return read_curves(DATA / case)


def recorded_outcome(case: str) -> Outcome:
    return Outcome(**json.loads((DATA / case / "outcome.json").read_text()))


def record(name: str, case: Case) -> None:
    """Run the kit and replace what is kept of the case."""
    target = DATA / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        embeddings = case.write(Path(folder) / name)
        outcome = evaluate_with_kit(embeddings, case.protocol, case.seed, curves=Path(folder) / "curves")
        (target / "outcome.json").write_text(json.dumps(asdict(outcome), indent=1) + "\n")
        for path in sorted((Path(folder) / "curves").iterdir()):
            with open(path, newline="") as source, open(target / path.name, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(row for row in csv.DictReader(source) if row["val_loss"])


if __name__ == "__main__":
    for name, case in CASES.items():
        record(name, case)
        print(f"{DATA / name}: test score {recorded_outcome(name).mean('test_score'):.4f}")
