"""Masked reconstruction of log-mel patches.

recipe.py     what a run is made of: named recipes, files, the learning rate's course
shards.py     recordings -> webdataset shards
corpus.py     shards -> log-mels, at random
masking.py    which patches are hidden
data.py       the crops and masks of every update
objective.py  the reconstruction loss
model.py      encoder -> loss, and the optimiser
trainer.py    one update, in mixed precision, over processes
state.py      the run on disk
loop.py       all of it
"""

from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe, read_recipe, recipe_names
from hear_axlstm.pretraining.shards import write_shards

__all__ = ["Recipe", "pretrain", "read_recipe", "recipe_names", "write_shards"]
