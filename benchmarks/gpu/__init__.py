"""What `make gpu` runs on a machine with a CUDA device: whether the kernels compile and are right, and how fast they are.

    python -m benchmarks.gpu [--rehearse] [--out FOLDER] [--seconds 460] [--only PART,PART]

GPU.md beside this folder lists the questions that it answers.

parts.py        the parts, in order of value
runner.py       runs each in a process of its own, with a time limit
report.py       what they found -> Markdown

checks.py       what a part writes while it runs
missing.py      stand-ins for packages that read sound files, which an ordinary PyTorch installation lacks

machine.py      versions, compilers, the first kernel, and the two ceilings
kernels.py      the values and gradients of one operation
golden.py       the golden cases
graphs.py       CUDA graphs
lengths.py      clips of mixed lengths, and batches that do not fit into memory
streams.py      sounds in bits beside the whole, and the time of a push
suite.py        the kernel tests, where there is pytest
pretraining.py  a short pretraining run, and one that is interrupted and resumed
evaluator.py    the batched evaluator beside the sequential one
speed.py        encoders, single operations, the fused norm, tiles, training

train.py        `make gpu-train`, which goes on with the pretraining of axlstm-tiny-synth
"""
