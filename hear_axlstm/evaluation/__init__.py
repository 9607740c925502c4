"""The HEAR evaluation: task folders -> embeddings -> classifiers -> scores beside the published ones.

catalogue.py   the table of HEAR tasks
taskfolder.py  a task's folder, read and checked
zenodo.py      the tasks' archives, downloaded
prepare.py     archives or folders -> task folders at 16 kHz
check.py       what is wrong with a task folder
imitations.py, suite.py   small tasks of synthesised sound in the real format
protocols.py   which settings of the classifier are tried
results.py     the folder of results
metrics.py     probabilities -> scores
native/        our own classifiers, equal to the kit's
embeddings.py  a task folder and one of our encoders -> embeddings
kit/           hear-eval-kit itself, put right for today's packages
subject.py     who is evaluated
workers.py     jobs in processes
run.py         all of it
statistics.py  scores -> means, intervals, s(m), differences
published.py, tables/   the papers' and the leaderboard's scores
report/        results -> a page, or tables
"""
