"""From labelled sounds to a classifier and how good it is.

labelled.py    a folder of folders, or a CSV -> files and their labels
scores.py      true and guessed labels -> confusion matrix and scores of each class
classifier.py  a linear classifier of embeddings, and its file
pages.py       scores as parts of an HTML page
"""
