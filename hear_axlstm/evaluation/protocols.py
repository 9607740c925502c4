"""Named protocols of the classifiers: which settings are tried, and in which order a seed tries them."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from hear_axlstm.errors import ConfigError, TaskError

Initialization = Literal["xavier_uniform", "xavier_normal"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A grid point: a network of hidden_layers x (linear, batch norm, dropout, ReLU) and a linear one, and its training.

    lr: Adam's learning rate. patience: checks without a better score, after which training stops. check_val_every_n_epoch:
    epochs from check to check. initialization: distribution of the weights; biases are uniform within 1 / sqrt(inputs).
    """

    hidden_layers: int
    hidden_dim: int
    dropout: float
    lr: float
    patience: int
    max_epochs: int
    check_val_every_n_epoch: int
    batch_size: int
    initialization: Initialization

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SETTINGS = tuple(field.name for field in fields(Settings))


@dataclass(frozen=True)
class Protocol:
    """A grid of settings, of which a seed tries ``grid_points`` at random.

    grid: every setting's values. source: where the grid is from. Everything else is hear-eval-kit's: training clips in a
    fixed order, the grid on the first split, the best point on the others, the epoch of the best validation score.
    """

    name: str
    grid: Mapping[str, Sequence[Any]]
    grid_points: int
    source: str

    @property
    def sha256(self) -> str:
        """The hash of what defines the protocol. Scores of protocols that differ here must not be compared."""
        text = json.dumps({"grid": dict(self.grid), "grid_points": self.grid_points}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def points(self, seed: int, metadata: Mapping[str, Any]) -> list[Settings]:
        """The settings that a seed tries on a task, in the order in which the kit does after ``random.seed(seed)``.

        metadata: the task's, whose own grid goes before the protocol's. Raises TaskError when that grid has an unknown
        setting.
        """
        grid = {**self.grid, **task_grid(metadata)}
        points = [
            Settings(**dict(zip(sorted(grid), values, strict=True)))
            for values in itertools.product(*(grid[name] for name in sorted(grid)))
        ]
        random.Random(seed).shuffle(points)  # noqa: S311 - the kit's own draws
        return points[: self.grid_points]


def task_grid(metadata: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """The settings that a task overrides in any protocol's grid. Raises TaskError on an unknown one."""
    own: dict[str, Sequence[Any]] = {}
    if metadata.get("task_name") == "dcase2016_task2":
        own["check_val_every_n_epoch"] = [10]
    own.update(metadata.get("evaluation_params", {}).get("task_specific_param_grid", {}))
    if unknown := sorted(own.keys() - set(SETTINGS)):
        raise TaskError(f"the task's own grid sets {', '.join(unknown)}; expected some of {', '.join(SETTINGS)}")
    return own


_UPSTREAM: dict[str, Sequence[Any]] = {
    "hidden_layers": (1, 2),
    "hidden_dim": (1024,),
    "dropout": (0.1,),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
    "patience": (20,),
    "max_epochs": (500,),
    "check_val_every_n_epoch": (3,),
    "batch_size": (1024,),
    "initialization": ("xavier_uniform", "xavier_normal"),
}
_AUTHORS: dict[str, Sequence[Any]] = {
    **_UPSTREAM,
    "hidden_layers": (1,),
    "dropout": (0.1, 0.25),
    "lr": (1e-4,),
    "initialization": ("xavier_normal",),
}

LINEAR = Protocol(
    "linear",
    {
        "classifier": ("logistic regression",),
        "features": ("standardised",),
        "clips": ("train and validation",),
        "C": (0.001, 0.01, 0.1, 1.0),
    },
    4,
    "logistic regression on standardised embeddings of train and validation clips, its penalty chosen by cross-validation",
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("axlstm", _AUTHORS, 8, "the AxLSTM and SSAM papers: their fork of hear-eval-kit"),
        Protocol("hear2021", _UPSTREAM, 8, "HEAR 2021, its leaderboard: hear-eval-kit 2021.1.3, default grid"),
        LINEAR,
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name. Raises ConfigError, which lists the names, on an unknown one."""
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol is {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
