"""Pretraining of encoders by masked reconstruction of log-mel patches.

recipe.py       what a run is made of: named recipes, files, the learning rate's course
shards.py       recordings -> webdataset shards
shard_clips.py  shards -> log-mels, at random
objective.py    which patches are hidden, and the reconstruction loss
batches.py      the crops and masks of every update
processes.py    the processes that train together
trainer.py      the loss and the optimiser of one update, in mixed precision
state.py        the run on disk
start.py        the weights that a run begins with
plot.py         its loss curve as a picture
reconstruction.py  a sound with hidden patches -> what an encoder guesses of them
picture.py      that as a picture
watch.py        such pictures of a run's encoder
log.py          what it tells while it goes on
loop.py         the whole run
"""

from typing import TYPE_CHECKING, Literal

from hear_axlstm import later

if TYPE_CHECKING:
    from hear_axlstm.pretraining.loop import pretrain
    from hear_axlstm.pretraining.recipe import Recipe, read_recipe, recipe_names
    from hear_axlstm.pretraining.shards import write_shards

__all__ = ["Recipe", "pretrain", "read_recipe", "recipe_names", "write_shards"]

ShardFormat = Literal["flac", "log-mel"]
FILES_PER_SHARD = 1_000

__getattr__ = later(
    __name__,
    {
        "Recipe": "recipe",
        "pretrain": "loop",
        "read_recipe": "recipe",
        "recipe_names": "recipe",
        "write_shards": "shards",
    },
)
