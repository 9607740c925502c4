"""Work done before it is asked for, in the background: a plan that is drawn ahead, and sounds that are fetched ahead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from hear_axlstm.files.sounds import ArraySound, Given, NoSound, reason

Item = TypeVar("Item")

FETCHES = 8  # sounds at addresses that are fetched at the same time, ahead of their use
TICK = 0.1  # seconds
LAST_WAIT = 5.0  # seconds: for a thread that is in the middle of something when nobody wants its items any more


class DrawnAhead(Generic[Item]):
    """The items of an iterator, drawn from it by a thread, ahead of whoever draws from this.

    size: what an item counts for. limit: of the items that wait; one may always wait. while_waiting: called ten times a
    second while there is nothing to give, in the thread that waits. What the iterator raises is raised after its items.
    Close it: the thread ends then.
    """

    def __init__(
        self,
        items: Iterator[Item],
        *,
        size: Callable[[Item], int],
        limit: int,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._items, self._size, self._limit, self._while_waiting = items, size, limit, while_waiting
        self._waiting: deque[tuple[Item, int]] = deque()
        self._total = 0
        self._state = threading.Condition()
        self._is_over = self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._draw, daemon=True, name="plan")
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while True:
            with self._state:
                if self._waiting or self._is_over or self._state.wait(TICK):
                    if self._waiting:
                        item, size = self._waiting.popleft()
                        self._total -= size
                        self._state.notify_all()
                        return item
                    if self._is_over:
                        break
            self._while_waiting()
        error, self._error = self._error, None
        raise StopIteration if error is None else error

    def close(self) -> None:
        """Let the thread end, and wait for that, but not long."""
        with self._state:
            self._is_closed = True
            self._state.notify_all()
        self._thread.join(LAST_WAIT)

    def _draw(self) -> None:
        try:
            for item in self._items:
                size = self._size(item)
                with self._state:
                    while self._waiting and self._total + size > self._limit and not self._is_closed:
                        self._state.wait()
                    if self._is_closed:
                        break
                    self._waiting.append((item, size))
                    self._total += size
                    self._state.notify_all()
                del item
        except BaseException as error:  # raised where it is seen
            self._error = error
        finally:
            del self._items
            with self._state:
                self._is_over = True
                self._state.notify_all()


def held_ahead(sounds: Iterable[Given]) -> Iterator[tuple[Given, bool]]:
    """The sounds in order, and whether they were fetched or read whole, as those at addresses, in pipes and open files are.

    Sounds at addresses are fetched by several threads, few more than are asked for. One that cannot be had is a ``NoSound``.
    """
    waiting: deque[Future[Given] | tuple[Given, bool]] = deque()
    pool: ThreadPoolExecutor | None = None

    def first() -> tuple[Given, bool]:
        one = waiting.popleft()
        return (one.result(), True) if isinstance(one, Future) else one

    try:
        for sound in sounds:
            if isinstance(sound, ArraySound) and sound.is_elsewhere:
                pool = pool or ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")
                waiting.append(pool.submit(_held, sound))
            else:
                there = _held(sound)
                waiting.append((there, there is not sound))
            while waiting and (len(waiting) >= FETCHES or not isinstance(waiting[0], Future)):
                yield first()
        while waiting:
            yield first()
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _held(sound: Given) -> Given:
    """The sound, fetched where that is needed, or why it could not be."""
    if not isinstance(sound, ArraySound):
        return sound
    try:
        return sound.held()
    except Exception as error:  # whatever is wrong with a sound ends nothing
        why = reason(error, sound.name)
        return NoSound(sound.name, why, address=sound.address, index=sound.index, source=sound.source)
