"""The kit's protocol once more: shallow classifiers on a task's embeddings, without Lightning.

data.py             a task's embeddings -> tensors, and what can be trained on them
network.py          the classifier, drawn as the kit draws it, and its losses

faithful.py         one training after the other, equal to the kit bit for bit on a CPU

batched_network.py  many classifiers in one piece of memory: their draws, gradients and steps
batched.py          all seeds and grid points at once, for a GPU
"""
