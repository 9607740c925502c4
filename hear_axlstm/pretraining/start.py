"""The weights that a run begins with: random ones, or those of a file that fits the recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hear_axlstm.config import DEFAULT_LAYOUT, EncoderConfig, Layout
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.state import INIT, RunFolder
from hear_axlstm.weights.find import find_weights
from hear_axlstm.weights.load import load_weights


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    encoder: the one whose weights to begin with; None for random ones, and in a run that has a checkpoint to go on from.
    record: the name, the fingerprint and the layout of the weights, as recipe.json has them; None for random ones.
    """

    encoder: Encoder | None = None
    record: dict[str, Any] | None = None

    def layout(self, recipe: Recipe) -> Layout:
        """The layout of scene embeddings that the run's weights get.

        It is that of the weights it begins with; where those are random, the one that targets are learnt in, if there are
        some, or else the released one.
        """
        of_random: Layout = "time" if recipe.targets else DEFAULT_LAYOUT
        layout: Layout = of_random if self.record is None else self.record["layout"]
        return layout


def start_of(recipe: Recipe, folder: RunFolder, *, overwrite: bool) -> Start:
    """What the run of a recipe begins with, or began with where the folder has a checkpoint of it.

    Raises ConfigError when the weights are another architecture's than the recipe's, or the run's own, WeightsError when
    they cannot be loaded.
    """
    if recipe.init is None:
        return Start()
    recorded = folder.recorded().get(INIT) if folder.has_checkpoint and not overwrite else None
    if recorded and recorded.get("name") == recipe.init:
        return Start(record=recorded)
    path = find_weights(recipe.init)
    if path.resolve().parent == folder.path.resolve():
        raise ConfigError(
            f"the weights {recipe.init} are those of the run in {folder.path} itself; leave --init out to go on with that "
            "run, or choose another folder for a new one"
        )
    encoder, header = load_weights(path)
    if encoder.config != recipe.encoder:
        raise ConfigError(
            f"the weights {recipe.init} hold {encoder.config}, but the recipe trains {recipe.encoder}: "
            f"{_difference(encoder.config, recipe.encoder)}; choose a recipe or weights that fit, or name no recipe"
        )
    return Start(encoder, {"name": recipe.init, "sha256": header["sha256"], "layout": header["layout"]})


def _difference(weights: EncoderConfig, recipe: EncoderConfig) -> str:
    """The options in which two encoders differ, in words."""
    one, other = weights.to_dict(), recipe.to_dict()
    if weights.family != recipe.family:
        return f"their family is {weights.family}, the recipe's {recipe.family}"
    differing = [name for name in asdict(weights) if one[name] != other[name]]
    return ", ".join(f"their {name} is {one[name]}, the recipe's {other[name]}" for name in differing)
