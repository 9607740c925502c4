"""Writing in the background: nothing is lost, nothing is hidden."""

import threading
import time

import numpy as np
import pytest

from hear_axlstm.files import write as output
from hear_axlstm.files.write import Background, InMemory

VECTOR = np.ones(4, np.float32)


class Slow(InMemory):
    """Writes nothing before it is let, and not what is called "bad"."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()
        self.closed_with = None

    def write(self, name, source, embedding, timestamps):
        self.go_on.wait()
        if name == "bad":
            raise OSError(28, "No space left on device")
        super().write(name, source, embedding, timestamps)

    def close(self):
        self.closed_with = len(self.embeddings)


def test_writing_takes_none_of_the_callers_time_and_closing_waits_for_all():
    slow = Slow()
    with Background(slow) as background:
        for index in range(100):
            background.write(str(index), None, VECTOR, None)
        assert slow.embeddings == {}
        slow.go_on.set()
    assert list(slow.embeddings) == [str(index) for index in range(100)]
    assert slow.closed_with == 100


def test_a_failed_write_is_raised_by_the_next_one_and_the_others_are_kept():
    slow = Slow()
    with pytest.raises(OSError, match="No space left"), Background(slow) as background:
        write_until_told(background, slow)
    assert {"good", "also good"} <= set(slow.embeddings)
    assert slow.closed_with == len(slow.embeddings)


def write_until_told(background, slow):
    for name in ["good", "bad", "also good"]:
        background.write(name, None, VECTOR, None)
    slow.go_on.set()
    for _ in range(500):
        background.write("next", None, VECTOR, None)
        time.sleep(0.01)
    raise AssertionError("nobody was told")


def test_a_failed_last_write_is_raised_at_the_end():
    slow = Slow()
    background = Background(slow)
    background.write("bad", None, VECTOR, None)
    slow.go_on.set()
    with pytest.raises(OSError, match="No space left"):
        background.close()
    assert slow.closed_with == 0


@pytest.mark.parametrize(("limit", "value"), [("WAITING", 2), ("WAITING_BYTES", 3 * VECTOR.nbytes)])
def test_no_more_waits_than_memory_allows(monkeypatch, limit, value):
    monkeypatch.setattr(output, limit, value)
    slow = Slow()
    started = []
    with Background(slow) as background:

        def write():
            for index in range(9):
                started.append(index)
                background.write(str(index), None, VECTOR, None)

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.1)
        assert len(started) in {3, 4}
        slow.go_on.set()
        writer.join()
    assert len(slow.embeddings) == 9
