"""Fine-tuning of an encoder, and a linear head, on labelled sounds.

settings.py   what a run is made of
clips.py      sounds -> the log-mels of their chunks, computed once
division.py   which clips are learnt from, and which are set apart
head.py       the linear head, fitted by logistic regression, folded into a classifier
tuner.py      encoder and head: one update, and guesses of clips
state.py      the run on disk
log.py        what a run tells while it goes on
results.py    guesses -> scores
loop.py       the whole run
"""

from typing import TYPE_CHECKING

from hear_axlstm import later
from hear_axlstm.finetuning.settings import Settings

if TYPE_CHECKING:
    from hear_axlstm.finetuning.loop import Finetuned, finetune

__all__ = ["Finetuned", "Settings", "finetune"]

__getattr__ = later(__name__, {"Finetuned": "loop", "finetune": "loop"})
