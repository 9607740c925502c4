"""From labelled sounds to a classifier and how good it is, and from a classifier to the labels of other sounds.

labelled.py    a folder of folders, or a CSV -> files and their labels
units.py       which sounds must not be divided between learning and testing
regression.py  embeddings and labels -> logistic regression
validation.py  embeddings and labels -> guesses of sounds that were not learnt from
scores.py      true and guessed labels -> confusion matrix and scores of each class
classifier.py  a linear classifier of embeddings, and its file
run.py         all of it: ``classify``
outcome.py     its result
write.py       result -> the files of a folder
page.py        result -> an HTML page, by page.html.jinja
pages.py       scores as parts of an HTML page
plots.py       result -> places on the plots of a page
apply.py       classifier and weights -> labels of other sounds
"""
