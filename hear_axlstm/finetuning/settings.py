"""What a run of fine-tuning is made of: which layers are trained, how long and how fast."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from hear_axlstm.config import require

DEFAULT_BLOCKS = 4  # the last ones, trained where nothing else is asked for


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a run.

    from_layer: the first layer that is trained, counted as ``layers`` are: 0 is the patch embedding, then come the blocks;
    None leaves the encoder as it is. epochs: the most times that each clip is learnt from. patience: epochs without a better
    one after which the run ends. lr: the highest learning rate of the encoder; the head's is HEAD_LR times as high.
    batch: clips of an update. seconds: of a clip that an update looks at, at most. validation: the share of the clips that
    is set apart. seed: decides everything that is drawn. pad_short: whether sounds too short to embed are padded with zeros,
    now and when the classifier is applied.
    """

    from_layer: int | None
    epochs: int = 10
    patience: int = 5
    lr: float = 5e-4
    batch: int = 16
    seconds: float = 10.0
    validation: float = 0.2
    seed: int = 0
    pad_short: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch"):
            value = getattr(self, name)
            require(type(value) is int and value >= 1, f"{name} is {value!r}; expected a whole number of 1 or more")
        for name in ("lr", "seconds"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"{name} is {value!r}; expected a number above 0")
        require(0 < self.validation < 1, f"validation is {self.validation!r}; expected a share between 0 and 1, such as 0.2")
        require(type(self.seed) is int and self.seed >= 0, f"seed is {self.seed!r}; expected a whole number of 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; those of runs that pad nothing are as earlier versions wrote them."""
        return {**asdict(self), "pad_short": self.pad_short or None}


def first_layer(from_layer: int | None, frozen: bool, depth: int) -> int | None:
    """The first layer that is trained of an encoder with ``depth`` blocks: None where it is frozen.

    Raises ConfigError on a layer that there is not, and where both were asked for.

    >>> first_layer(None, False, 12)
    9
    """
    require(not frozen or from_layer is None, "both frozen and from_layer are given; expected one of them, or neither")
    if frozen:
        return None
    if from_layer is None:
        return max(1, depth - DEFAULT_BLOCKS + 1)
    exists = type(from_layer) is int and 0 <= from_layer <= depth
    require(exists, f"from_layer is {from_layer!r}; expected a number from 0 (patch embedding) to {depth} (the last block)")
    return from_layer
