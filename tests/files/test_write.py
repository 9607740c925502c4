"""Writing in the background: nothing is lost, nothing is hidden."""

import resource
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from hear_axlstm.files import write
from hear_axlstm.files.npy import NpyFolder
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.sounds import Source
from hear_axlstm.files.write import sink
from tests.processes import wait_until

VECTOR = np.ones(4, np.float32)


class SlowFolder:
    """Writes nothing before it is let, and not what is called "bad"."""

    def __init__(self):
        self.go_on, self.bad_is_over = threading.Event(), threading.Event()
        self.written, self.failed = [], []
        self.closed_with = None

    def write(self, outcome, embedding):
        self.go_on.wait()
        if outcome.name == "also good":
            self.bad_is_over.set()
        if outcome.name == "bad":
            raise OSError(28, "No space left on device")
        self.written.append(outcome.name)

    def write_failure(self, outcome):
        self.failed.append(outcome.name)

    def close(self):
        self.closed_with = len(self.written)
        return []


@pytest.fixture
def folder():
    return SlowFolder()


def outcomes(names):
    for name in names:
        yield Outcome(name, None, VECTOR, failure="too short" if name == "short" else "")


def test_writing_takes_none_of_the_callers_time_and_the_end_waits_for_all(folder):
    names = [str(index) for index in range(100)]

    def let_go_at_the_end():
        yield from outcomes(names)
        assert folder.written == []
        folder.go_on.set()

    done = list(sink(let_go_at_the_end(), folder))
    assert folder.written == [outcome.name for outcome in done] == names
    assert all(outcome.embedding is None for outcome in done)  # the memory is free
    assert folder.closed_with == 100


def test_failed_outcomes_pass_through(folder):
    folder.go_on.set()
    failed = Outcome("short", None, failure="too short")
    assert list(sink([failed], folder)) == [failed]
    assert (folder.written, folder.failed) == ([], ["short"])


def test_a_failed_write_is_raised_soon_and_the_others_are_written(folder):
    drawn = []

    def slowly():
        for number, outcome in enumerate(outcomes(["good", "bad", "also good", *map(str, range(500))])):
            drawn.append(outcome.name)
            if number == 2:
                folder.go_on.set()
            if number > 2:
                folder.bad_is_over.wait()
            yield outcome

    with pytest.raises(OSError, match="No space left"):
        list(sink(slowly(), folder))
    assert len(drawn) < 10
    assert folder.written == [name for name in drawn if name != "bad"]
    assert folder.closed_with == len(folder.written)


def test_a_failed_last_write_is_raised_at_the_end(folder):
    folder.go_on.set()
    with pytest.raises(OSError, match="No space left"):
        list(sink(outcomes(["good", "bad"]), folder))
    assert folder.closed_with == 1


def test_what_was_drawn_is_written_however_it_ends(folder):
    def interrupted():
        yield from outcomes(["a", "b", "c"])
        folder.go_on.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(sink(interrupted(), folder))
    assert folder.written == ["a", "b", "c"]
    with closing(sink(outcomes(["d", "e", "f"]), folder)) as done:
        next(done)
    assert folder.written[3] == "d"
    assert folder.closed_with == len(folder.written)


def test_no_more_waits_than_memory_allows(folder, monkeypatch):
    monkeypatch.setattr(write, "WAITING_BYTES", 3 * VECTOR.nbytes)
    drawn = []

    def noted():
        for outcome in outcomes(map(str, range(9))):
            drawn.append(outcome.name)
            yield outcome

    writer = threading.Thread(target=lambda: list(sink(noted(), folder)))
    writer.start()
    wait_until(lambda: len(drawn) == 3)
    time.sleep(0.1)  # for more, which must not come
    assert len(drawn) == 3
    folder.go_on.set()
    writer.join()
    assert len(folder.written) == 9


def test_why_an_npy_file_cannot_be_written_is_said(tmp_path):
    folder = NpyFolder(tmp_path / "out", {"embeddings": "scene", "format": "npy"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            folder.write(Outcome("a.wav", Source("/sounds/a.wav", 1, 1)), np.ones(5_000, np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["_embed.json"]
