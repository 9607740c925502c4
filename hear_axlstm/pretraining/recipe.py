"""The settings of a pretraining run: named recipes, files that change them, and the learning rate's course."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from hear_axlstm.config import EncoderConfig, Precision, check_choice, config_from_dict, variant_config
from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.objective import LossOver
from hear_axlstm.weights.find import find_weights
from hear_axlstm.weights.load import read_header

RECIPES = Path(__file__).with_name("recipes.toml")
LR_BATCH = 256  # the batch that ``base_lr`` is given for
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {  # the type of a field's values, by its annotation
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "a name or a path"),
    "tuple[str, ...]": ((list, tuple), "a list of strings"),
    "tuple[int, ...]": ((list, tuple), "a list of whole numbers"),
    "Mapping[str, float]": (dict, "a table of names and numbers"),
    "tuple[float, float]": ((list, tuple), "a list of two numbers"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a run; every default is that of the papers.

    encoder: the architecture. growth: how many of its blocks are trained in each of equal parts of the run; none: all of
    them. init: weights to begin with, as ``load_model`` takes them: a file, a folder, a Hub repository
    or a variant; None: random ones. shards: folders, tar files or patterns, webdataset style. shares: how many clips come
    from each of them in turn; none: every clip of all of them once an epoch. synthetic: the share of clips
    that are synthesised; None: all without shards, none with them. subset: the share of the shards' clips that is used; of
    synthesised clips, which do not repeat otherwise, as many as this share of an epoch.
    epochs, warmup_epochs, epoch_clips: length of the run; an epoch is epoch_clips clips, None: as many as the shards hold.
    steps: updates in all instead, in which the warm-up keeps its share.
    batch: clips of one update, over all processes. base_lr: learning rate for a batch of 256. loss: over "masked" patches
    (AxLSTM paper) or "all" (SSAM paper, released script). targets: teachers whose targets in the shards are learnt beside
    the reconstruction, with the weights of their losses; then crops are of varied lengths, mixed and coloured. masked: the
    share of clips of which patches are hidden. reconstruction: the weight of its loss. ema: decay of an exponential moving
    average of the weights, which is then what the run results in. precision: of matrix products; "auto" is float16 with
    gradient scaling on CUDA, else float32. checkpointing: compute activations again in backward instead of keeping them.
    compile: torch compiles blocks.
    """

    encoder: EncoderConfig
    growth: tuple[int, ...] = ()
    init: str | None = None
    shards: tuple[str, ...] = ()
    shares: tuple[int, ...] = ()
    synthetic: float | None = None
    subset: float = 1.0
    epochs: int = 100
    warmup_epochs: int = 10
    epoch_clips: int | None = None
    steps: int | None = None
    batch: int = 1024
    base_lr: float = 1.5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    mask_ratio: float = 0.5
    loss: LossOver = "masked"
    targets: Mapping[str, float] = field(default_factory=dict)
    masked: float = 1.0
    reconstruction: float = 1.0
    ema: float | None = None
    precision: Precision = "auto"
    checkpointing: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LossOver)
        check_choice("precision", self.precision, Precision)
        columns, rows = self.encoder.grid
        checks = {
            "growth": (
                not self.growth
                or (
                    list(self.growth) == sorted(self.growth)
                    and self.growth[0] >= 1
                    and self.growth[-1] == self.encoder.depth
                ),
                f"numbers of blocks that rise from 1 or more to {self.encoder.depth}",
            ),
            "compile": (not (self.compile and self.growth), "false in a run with growth"),
            "init": (self.init is None or (isinstance(self.init, str) and self.init != ""), "the name or path of weights"),
            "synthetic": (self.synthetic is None or 0 <= self.synthetic <= 1, "0 to 1"),
            "shards": (bool(self.shards) or self.synthetic in (None, 1), "some when synthetic is below 1"),
            "shares": (
                not self.shares or (len(self.shares) == len(self.shards) and min(self.shares) > 0),
                f"one of 1 or more for each of the {len(self.shards)} shards",
            ),
            "targets": (
                all(weight > 0 for weight in self.targets.values()) and (not self.targets or self.encoder.patch[0] == 4),
                "weights above 0, and an encoder with patches of 4 frames, which are the targets' moments",
            ),
            "masked": (0 < self.masked <= 1, "above 0, up to 1"),
            "reconstruction": (self.reconstruction > 0, "above 0"),
            "subset": (0 < self.subset <= 1, "above 0, up to 1"),
            "epochs": (self.epochs >= 1, "1 or more"),
            "warmup_epochs": (0 <= self.warmup_epochs <= self.epochs, f"0 to {self.epochs}, the epochs"),
            "epoch_clips": (self.epoch_clips is None or self.epoch_clips >= 1, "1 or more"),
            "steps": (self.steps is None or self.steps >= 1, "1 or more"),
            "batch": (self.batch >= 1, "1 or more"),
            "base_lr": (self.base_lr > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "betas": (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two from 0 to below 1"),
            "mask_ratio": (0 < round(self.mask_ratio * columns * rows) < columns * rows, "a share of the patches"),
            "seed": (0 <= self.seed < 2**63, "0 or more, below 2^63"),
            "ema": (self.ema is None or 0 < self.ema < 1, "between 0 and 1"),
        }
        for name, (fine, expected) in checks.items():
            if not fine:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def synthetic_share(self) -> float:
        """The share of clips that are synthesised, 0 to 1."""
        if self.synthetic is not None:
            return self.synthetic
        return 0.0 if self.shards else 1.0

    @property
    def lr(self) -> float:
        """The learning rate at the end of the warm-up."""
        return self.base_lr * self.batch / LR_BATCH

    @property
    def stages(self) -> tuple[int, ...]:
        """How many blocks are trained in each of equal parts of the run."""
        return self.growth or (self.encoder.depth,)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values, from which ``recipe.json`` is made."""
        lists = {name: list(value) for name, value in asdict(self).items() if isinstance(value, tuple)}
        return {**asdict(self), **lists, "targets": dict(self.targets), "encoder": self.encoder.to_dict()}


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to ``lr``, then half a cosine to 0, by update as in the released script; and the course of growth."""

    lr: float
    warmup: int
    total: int
    stages: tuple[int, ...]

    @classmethod
    def of(cls, recipe: Recipe, shard_clips: int) -> Schedule:
        """The schedule of a recipe over ``shard_clips`` clips. Raises ConfigError when nothing says how long the run is."""
        total = recipe.steps
        if total is None:
            epoch = recipe.epoch_clips or round(recipe.subset * shard_clips)
            if not epoch:
                raise ConfigError("nothing says how long this run is; give steps (--steps N), or epoch_clips in the recipe")
            total = max(1, recipe.epochs * epoch // recipe.batch)
        return cls(recipe.lr, round(total * recipe.warmup_epochs / recipe.epochs), total, recipe.stages)

    def blocks(self, step: int) -> int:
        """How many blocks are trained in update ``step``, which counts from 0.

        >>> [Schedule(1.0, warmup=0, total=4, stages=(3, 12)).blocks(step) for step in range(4)]
        [3, 3, 12, 12]
        """
        return self.stages[step * len(self.stages) // self.total]

    def at(self, step: int) -> float:
        """The learning rate of update ``step``, which counts from 0.

        >>> [Schedule(1.0, warmup=2, total=6, stages=(12,)).at(step) for step in (0, 1, 2, 4)]
        [0.0, 0.5, 1.0, 0.5]
        """
        if step < self.warmup:
            return self.lr * step / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.total - self.warmup)))


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(RECIPES.read_text(encoding="utf-8"))


def recipe_names() -> list[str]:
    """The names of the recipes that ``read_recipe`` knows."""
    return list(_table())


def read_recipe(source: str | os.PathLike[str] | None = None, **changes: Any) -> Recipe:
    """A named recipe, or one from a TOML file: its keys are Recipe's fields, and ``base`` names what they change.

    source: left out, it is the recipe by which encoders like that of the weights ``init`` are trained.
    changes: fields that differ; those that are None are left as they are.

    Raises ConfigError on an unknown name or field, a value that does not fit, or a file that cannot be read, WeightsError
    when ``init`` must be read for its encoder and cannot.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if isinstance(changes.get("init"), os.PathLike):
        changes["init"] = os.fspath(changes["init"])
    if source is None and not changes.get("init"):
        raise ConfigError(
            "no recipe is named; `hear-axlstm recipes` lists them. Or begin with weights that you have: --init"
        )
    if source is None:
        encoder = read_header(find_weights(changes["init"]))["config"]
        source = name_of(encoder) or changes["init"]
        options = _resolved(source, _table().get(source, {"encoder": encoder.to_dict()}))
    elif (name := str(source).replace("_", "-")) in _table():
        options = _resolved(name, _table()[name])
    else:
        options = _read(Path(source))
    try:
        return _recipe({**options, **changes})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"recipe {source}: {error}") from error


def name_of(encoder: EncoderConfig) -> str | None:
    """The name of the first recipe that trains such an encoder, None where there is none."""
    return next((name for name, own in _table().items() if _encoder(_resolved(name, own)["encoder"]) == encoder), None)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors" or path.is_dir():
        raise ConfigError(f"{path} is no recipe; weights to begin with are named by --init {path}")
    if not path.is_file():
        near = "".join(f"; did you mean {name}?" for name in difflib.get_close_matches(path.name, recipe_names(), 1))
        raise ConfigError(f"{path} is neither a file nor a recipe; there are {', '.join(recipe_names())}{near}")
    try:
        return _resolved(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except ConfigError:
        raise
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}; expected TOML with the fields of a recipe") from error


def _resolved(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, over those of the base, over those of its base."""
    own = dict(options)
    base = own.pop("base", None)
    if base is None:
        return own
    if base not in _table():
        raise ConfigError(f"{name}: base is {base!r}; expected one of {', '.join(recipe_names())}")
    below = _resolved(base, _table()[base])
    encoder = {**below.get("encoder", {}), **own.pop("encoder", {})}
    return {**below, **own, "encoder": encoder}


def _recipe(options: Mapping[str, Any]) -> Recipe:
    kinds = {field.name: str(field.type).removesuffix(" | None") for field in fields(Recipe)}
    if unknown := options.keys() - kinds.keys():
        raise ConfigError(f"no field is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(kinds))}")
    if "encoder" not in options:
        raise ConfigError("the encoder is missing; give base, a recipe's name, or encoder = { variant = ... }")
    for name, value in options.items():
        kind, expected = KINDS.get(kinds[name], (object, ""))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
            raise ConfigError(f"{name} is {value!r}; expected {expected}")
    lists = {name: tuple(value) for name, value in options.items() if isinstance(value, list)}
    return Recipe(**{**options, **lists, "encoder": _encoder(options["encoder"])})


def _encoder(options: Mapping[str, Any]) -> EncoderConfig:
    own = dict(options)
    variant = own.pop("variant", None)
    start = variant_config(variant).to_dict() if variant is not None else {}
    return config_from_dict({**start, **own})
