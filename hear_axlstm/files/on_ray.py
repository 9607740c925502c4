"""Planned batches -> outcomes, encoded by actors of Ray Data: one on each GPU of a cluster, or on each processor.

The process that plans and writes is the same as on one machine, so nothing is lost or doubled there. A ``Feed`` holds the
batches that are not finished, Ray Data takes them to ``BatchEncoder``s, and whatever dies, a batch ends when its outcomes
have arrived. This module needs Ray, and is imported only where that is asked for.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from hear_axlstm.encoder import Layers
from hear_axlstm.files.cluster import Cluster, ClusterError
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.ray_actors import BATCHES, BatchEncoder, Feed
from hear_axlstm.files.sounds import FileSound, Sound

CALLS = 3  # batches that an actor has at once: one that is encoded, others that are decoded
AHEAD = 2  # batches an actor that wait for it
POLL = 5.0  # seconds: so often it is looked whether nodes have died
PATIENCE = 60.0  # seconds without any outcome after which a dead node, or that no actor has started, counts
PARTING = 20.0  # seconds that Ray has to end a round

logger = logging.getLogger(__name__)


def encode_on_ray(
    batches: Iterable[Sequence[Sound]],
    cluster: Cluster,
    *,
    timestamps: bool = False,
    layers: Layers | None = None,
    decoders: int | None = None,
    lap: Callable[[str], None] = lambda stage: None,
) -> Generator[Outcome, None, None]:
    """Outcomes of a plan's batches, batch by batch, in the order in which they are finished.

    Files are read where they are encoded. Batches are drawn, by the caller's thread, as others are finished. A batch over
    which actors died twice is done sound by sound, and a sound over which two more die has failed.

    decoders: processes of an actor that decode; as many as it has processors when left out. lap: as in ``encode_ahead``.

    Raises ClusterError when Ray ends the work, and what no single sound is to blame for, as ``encode`` does. A caller that
    may stop early uses ``contextlib.closing``.
    """
    options = {"timestamps": timestamps, "layers": layers, "decoders": decoders}
    work = _Work(cluster, options)
    drawn = enumerate(batches)
    more = True
    try:
        while True:
            while more and work.has_room():
                number, sounds = next(drawn, (0, None))
                more = sounds is not None
                if sounds is not None:
                    work.add(number, [_anywhere(sound) for sound in sounds])
            lap("decode")
            if not work.unfinished:
                return
            outcomes = work.next_outcomes()
            lap("encode")
            yield from outcomes
            lap("write")
    finally:
        work.close()


def _anywhere(sound: Sound) -> Sound:
    """The sound by a path that does not depend on the folder a process works in."""
    return replace(sound, path=Path(os.path.abspath(sound.path))) if isinstance(sound, FileSound) else sound


class _Work:
    """Batches on their way through Ray Data, in rounds: one is enough unless a node dies and Ray does not get over it."""

    def __init__(self, cluster: Cluster, options: dict[str, Any]) -> None:
        self.unfinished: set[int] = set()
        self._cluster, self._options = cluster, options
        self._feed = ray.remote(Feed).options(num_cpus=0, scheduling_strategy=cluster.here()).remote()
        self._arrived: SimpleQueue[bytes | Exception | None] = SimpleQueue()
        self._is_begun = self._told = False

    def has_room(self) -> bool:
        """Whether another batch is wanted, rather than outcomes taken that have arrived."""
        if not self._is_begun:
            return len(self.unfinished) < self._cluster.actors
        return self._arrived.empty() and len(self.unfinished) < self._cluster.actors * (CALLS + AHEAD)

    def add(self, number: int, sounds: list[Sound]) -> None:
        self.unfinished.add(number)
        ray.get(self._feed.add.remote(number, pickle.dumps(sounds)))

    def next_outcomes(self) -> list[Outcome]:
        """The outcomes of the next batch that is finished. Raises ClusterError, and what would meet every sound."""
        if not self._is_begun:
            self._is_begun = True
            self._begin_round()
        while True:
            found = self._next()
            if found is None or found[0] not in self.unfinished:
                continue  # done in the round before
            number, outcomes = found
            if isinstance(outcomes, Exception):
                raise outcomes
            self.unfinished.remove(number)
            self._feed.finish.remote(number)
            return outcomes

    def _next(self) -> tuple[int, list[Outcome] | Exception] | None:
        """What comes next of the present round, or None after a new one was begun."""
        since = monotonic()
        while True:
            try:
                arrived = self._arrived.get(timeout=POLL)
            except Empty:
                waited = monotonic() - since
                if waited > PATIENCE and self._has_lost_a_node():
                    self._begin_again()
                    return None
                if waited > PATIENCE and not self._told and not ray.get(self._feed.started.remote()):
                    self._told = True
                    logger.warning("no actor has started in %.0f s: %s; waiting for it", waited, self._cluster.free())
                continue
            if isinstance(arrived, bytes):
                return pickle.loads(arrived)  # noqa: S301 - what ``BatchEncoder`` wrote
            if self._has_lost_a_node():
                self._begin_again()
                return None
            cause = "the work ended before its end" if arrived is None else _cause(arrived)
            raise ClusterError(f"Ray gave up: {cause}") from arrived

    def _has_lost_a_node(self) -> bool:
        return bool(self._nodes - self._cluster.nodes())

    def _begin_round(self) -> None:
        self._nodes = self._cluster.nodes()
        self._arrived = SimpleQueue()
        results = self._results()
        self._thread = threading.Thread(target=_pass_on, args=(results, self._arrived), daemon=True, name="ray-results")
        self._thread.start()

    def _begin_again(self) -> None:
        """Give what is not finished to actors on the nodes that are left, since Ray may wait for ever for the others."""
        logger.warning("a node of the cluster has died; going on with those that are left")
        self._stop()
        self._cluster.count()
        ray.get(self._feed.again.remote())
        self._begin_round()

    def _results(self) -> Iterator[Any]:
        cluster = self._cluster
        context = DataContext.get_current().copy()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.target_max_block_size = 1  # a block a batch: larger ones would wait until they are full
        context.execution_options.preserve_order = False
        with DataContext.current(context):
            source = ray.data.read_datasource(_FeedSource(self._feed), num_cpus=0, override_num_blocks=1)
            results = source.map_batches(
                BatchEncoder,
                fn_constructor_args=(cluster.sent, self._feed, cluster.job(**self._options)),
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    size=min(cluster.actors, len(self.unfinished)),
                    max_tasks_in_flight_per_actor=CALLS,
                    max_concurrent_calls_per_actor=CALLS,
                    enable_true_multi_threading=True,
                ),
                num_cpus=cluster.processors,
                num_gpus=cluster.gpus,
            )
            return iter(results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))

    def _stop(self) -> None:
        """End the round: Ray then ends its actors, also those that it waits for."""
        with suppress(ray.exceptions.RayError):
            ray.get(self._feed.end.remote())
            self._thread.join(PARTING)

    def close(self) -> None:
        if self._is_begun:
            self._stop()
        ray.kill(self._feed)


def _pass_on(results: Iterator[Any], arrived: SimpleQueue[bytes | Exception | None]) -> None:
    """Put what comes out of Ray Data into a queue, in a thread: then an error, or None."""
    try:
        for table in results:
            for row in table["outcomes"]:
                arrived.put(row.as_py())
        arrived.put(None)
    except Exception as error:
        arrived.put(error)


def _cause(error: BaseException) -> str:
    """What is at the bottom of an error of Ray's, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


class _FeedSource(Datasource):  # type: ignore[misc]
    """The batches of a feed as a source of Ray Data: one task gives them all, a block each."""

    def __init__(self, feed: Any) -> None:
        super().__init__()
        self._feed = feed

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        feed = self._feed
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _blocks(feed), unknown, schema=BATCHES)]


def _blocks(feed: Any) -> Iterator[pyarrow.Table]:
    """A block for each batch. Ray may begin anew at any time: a block stays its batch's, empty once that is finished."""
    place = 0
    while (batch := ray.get(feed.get.remote(place))) is not None:
        number, sounds = batch
        yield pyarrow.table({"number": [number], "sounds": [sounds]}, BATCHES)
        place += 1
