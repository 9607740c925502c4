"""How good weights are: frozen embeddings of small synthetic tasks, held out from training sound, and two classifiers.

sounds.py       textures and tones in numpy
texts.py        sentences to speak
tasks.py        the table of tasks: a label and choices -> a clip
features.py     clips -> embeddings, and statistics of the log-mel to compare with
classifiers.py  features -> accuracy
probe.py        all of it, and the report
"""
