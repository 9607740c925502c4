"""Sound to train on that nobody recorded: procedural synthesis, and speech and instruments through other programs."""

from typing import Literal

Kind = Literal["procedural", "speech", "music", "notes"]  # of a corpus
