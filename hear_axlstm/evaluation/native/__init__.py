"""The kit's protocol once more: shallow classifiers on a task's embeddings, without Lightning.

data.py        the folder of a task's embeddings -> tensors

One training after the other, equal to the kit bit for bit on a CPU:
network.py     the classifier, drawn as the kit draws it
step.py        one update of it on a batch
stopping.py    when a training stops, and which of its epochs counts
sequential.py  all of it

All seeds and grid points at once, for a GPU:
draws.py       what is random in each
stack.py       the tensors of many networks in one piece of memory
batched_network.py, batched_losses.py, adam.py, batched_stopping.py   the same for many networks
batched_training.py   trainings of one shape, to their end
batched.py     all of it
"""
