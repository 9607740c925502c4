"""The kit's protocol once more: shallow classifiers on a task's embeddings, without Lightning.

data.py        the folder of a task's embeddings -> tensors
network.py     the classifier, drawn as the kit draws it
step.py        one update of it on a batch
stopping.py    when a training stops, and which of its epochs counts
sequential.py  one training after the other, equal to the kit bit for bit on a CPU
batched.py     all seeds and grid points at once, for a GPU
"""
