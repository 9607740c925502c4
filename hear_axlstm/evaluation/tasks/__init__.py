"""The tasks of the HEAR benchmark, as folders that hear-eval-kit and our evaluator read.

catalogue.py   the table of HEAR tasks
taskfolder.py  a task's folder, read and checked
zenodo.py      the tasks' archives, downloaded
prepare.py     archives or folders -> task folders at 16 kHz
check.py       problems of a task folder
imitations.py, suite.py   small tasks of synthesised sound in the real format
"""
