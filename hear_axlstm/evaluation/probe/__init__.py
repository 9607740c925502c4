"""The probe: task folders of held-out synthesised sound, a linear classifier as an engine, and baselines as models.

tasks.py        the table of tasks: a label and choices -> a clip
texts.py        sentences to speak
classifiers.py  the engine "linear": embeddings of a task -> scores
baselines.py    random weights, and statistics of the log-mel
"""
