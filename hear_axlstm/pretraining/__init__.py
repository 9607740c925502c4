"""Masked reconstruction of log-mel patches: recipes, shards, and the loop that trains an encoder.

    recordings --shards--> tar files --corpus--> log-mels --data--> crops and masks --model--> loss --trainer, loop--> weights
"""

from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe, read_recipe, recipe_names
from hear_axlstm.pretraining.shards import write_shards

__all__ = ["Recipe", "pretrain", "read_recipe", "recipe_names", "write_shards"]
