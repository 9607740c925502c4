"""A process that is measured: so many microphones, each of which hears 40 ms more with every call.

    python -m benchmarks.microphones VARIANT

``benchmarks.streams`` starts it and asks the questions; ``benchmarks.subjects`` has how these are answered. The weights are
random, as those of other benchmarks, and statistics are "running", which take the longest to compute.
"""

from __future__ import annotations

import functools
import sys

import numpy as np

from benchmarks.encoders import active_encoder
from benchmarks.subjects import serve
from hear_axlstm.config import CHUNK_FRAMES, HOP, SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.stream import Streams

TICK_MS = 40
BLOCK = SAMPLE_RATE * TICK_MS // 1000  # samples
BLOCKS = CHUNK_FRAMES * HOP // BLOCK  # in a chunk


class Microphones:
    """Streams that began one after the other, 40 ms apart, so that their chunks do not end together.

    All have heard their first second, of which "running" gives the 25 steps at once.
    """

    def __init__(self, model: Embedder, count: int) -> None:
        self.streams = Streams(model, count, statistics="running")
        self.sound = np.random.default_rng(0).uniform(-0.5, 0.5, (BLOCKS, BLOCK)).astype(np.float32)
        self.ticks = 0
        for _ in range(count):
            place = self.streams.start()
            heard = range(BLOCKS + place % BLOCKS)
            self.streams.push({place: np.concatenate([self.sound[block % BLOCKS] for block in heard])})

    def tick(self) -> None:
        """Each hears its next block."""
        blocks = {place: self.sound[(place + self.ticks) % BLOCKS] for place in range(self.streams.places)}
        self.streams.push(blocks)
        self.ticks += 1

    def state_bytes(self) -> int:
        """What one of them needs to go on elsewhere."""
        return sum(tensor.nbytes for tensor in self.streams.state_dict(0).values())


def main(variant: str) -> None:
    """Serve microphones that a model of ours hears."""
    model = Embedder(active_encoder(variant))
    of_count = functools.lru_cache(1)(functools.partial(Microphones, model))
    of_count(1).tick()
    about = {"state_bytes": of_count(1).state_bytes(), "latency_ms": of_count(1).streams.latency_ms}
    serve({"call": lambda count: of_count(count).tick()}, about)


if __name__ == "__main__":
    main(sys.argv[1])
