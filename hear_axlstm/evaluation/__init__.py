"""The HEAR evaluation: task folders -> embeddings -> classifiers -> scores beside the published ones.

tasks/         the HEAR tasks: their table, archives, folders, and small synthesised ones in the same format
protocols.py   which settings of the classifier are tried
results.py     the folder of results
metrics.py     probabilities -> scores
native/        our own classifiers, equal to the kit's
embeddings.py  a task folder and one of our encoders -> embeddings
kit/           hear-eval-kit itself, put right for today's packages
subject.py     the model that is evaluated
run.py         a whole evaluation
statistics.py  scores -> means, intervals, s(m), differences
published.py, tables/   the papers' and the leaderboard's scores
report/        results -> a page, or tables
probe/         the engine linear, baselines, and tasks of sound that no training clip has
"""

from typing import Literal

Engine = Literal["native", "heareval", "linear"]  # what trains and scores the classifiers
