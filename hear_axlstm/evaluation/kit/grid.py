"""A protocol's settings as hear-eval-kit's grid, and its hyperparameters as settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hear_axlstm.evaluation.native.network import INITIALIZATIONS
from hear_axlstm.evaluation.protocols import SETTINGS, Protocol, Settings


def kit_grid(protocol: Protocol) -> dict[str, list[Any]]:
    """What the protocol puts into the kit's grid: the same values, functions where the kit has functions."""
    grid = {name: list(values) for name, values in protocol.grid.items()}
    grid["initialization"] = [INITIALIZATIONS[name] for name in grid["initialization"]]
    return grid


def settings_of(hparams: Mapping[str, Any]) -> Settings:
    """Of the hyperparameters that the kit's scores name; a function is "<function xavier_normal_ at 0x...>" there.

    Raises KeyError or ValueError when they are not what the kit writes.
    """
    values = {name: hparams[name] for name in SETTINGS}
    match = re.fullmatch(r"<function (\w+)_ at \w+>", values["initialization"])
    if match is None or match[1] not in INITIALIZATIONS:
        raise ValueError(f"initialization is {values['initialization']!r}")
    return Settings(**{**values, "initialization": match[1]})
