"""How many threads a call on a CPU uses, and what chunks that are encoded side by side come to."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.kernels import neighbours as accounts
from hear_axlstm.kernels import threads
from hear_axlstm.kernels.neighbours import Account, Neighbours
from hear_axlstm.kernels.threads import allowed, of_a_call, openmp_threads, side_by_side
from tests.conftest import noise

MS = 1_000_000  # nanoseconds
CHUNKS = torch.arange(7.0)[:, None, None].expand(7, 3, 2)


@pytest.fixture
def three_threads(monkeypatch):
    """A machine with three processors, all of them free."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "processors", lambda: 3)
    monkeypatch.setattr(threads, "neighbours", Neighbours())
    monkeypatch.setattr(accounts, "_accounts", dict)
    yield
    torch.set_num_threads(before)


class Recorder:
    """An encoder that notes who encoded how many chunks with how many threads."""

    def __init__(self):
        self.calls, self.seen, self.meet = [], set(), threading.Barrier(3, timeout=30)

    def __call__(self, chunks):
        if (me := threading.get_ident()) not in self.seen and torch.get_num_threads() == 1:
            self.seen.add(me)
            self.meet.wait()  # three threads are at work at once, or this fails
        self.calls.append((threading.get_ident(), len(chunks), torch.get_num_threads(), torch.is_grad_enabled()))
        return chunks * 2


def test_threads_encode_equal_parts_and_together_the_one_left_over(three_threads):
    encode = Recorder()
    with torch.no_grad(), of_a_call():
        assert torch.equal(side_by_side(encode, CHUNKS), CHUNKS * 2)
    assert sorted(call[1:3] for call in encode.calls) == [(1, 3)] + [(2, 1)] * 3
    assert len({thread for thread, *_ in encode.calls}) == 3
    assert not any(grad for *_, grad in encode.calls)


def test_beside_busy_programs_every_chunk_has_one_thread(three_threads, monkeypatch):
    monkeypatch.setattr(threads.neighbours, "are_busy", lambda: True)
    encode = Recorder()
    with torch.no_grad(), of_a_call():
        assert torch.get_num_threads() == 1
        side_by_side(encode, CHUNKS)
    assert [call[1:3] for call in encode.calls] == [(1, 1)] * 7
    assert torch.get_num_threads() == 3


def test_one_thread_of_torch_is_all_that_a_call_uses(three_threads):
    torch.set_num_threads(1)
    seen = set()
    with torch.no_grad(), of_a_call():
        side_by_side(lambda chunks: (seen.add(threading.get_ident()), chunks)[1], CHUNKS)
    assert seen == {threading.get_ident()}


def test_an_error_of_one_chunk_is_the_calls(three_threads):
    def encode(chunks):
        if chunks[0, 0, 0] == 4:
            raise RuntimeError("the fifth")
        return chunks

    with pytest.raises(RuntimeError, match="the fifth"), torch.no_grad(), of_a_call():
        side_by_side(encode, CHUNKS)
    assert torch.get_num_threads() == 3


PROGRAM = """
import atexit, threading
import torch
from hear_axlstm.kernels import threads

def late():
    threading.main_thread().join()
    print(threads._part_by_part(lambda chunk: 2 * chunk, torch.arange(3).split(1), 2))

atexit.register(lambda: print(threads._part_by_part(lambda chunk: 3 * chunk, torch.arange(3).split(1), 2)))
threading.Thread(target=late).start()
"""


def test_chunks_are_encoded_while_the_program_ends():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:2] == [f"[tensor([0]), tensor([{n}]), tensor([{2 * n}])]" for n in (2, 3)]


def test_the_threads_of_one_thread_are_set_for_it_alone(three_threads):
    others = []
    with openmp_threads(1):
        assert torch.get_num_threads() == 1
        other = threading.Thread(target=lambda: others.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert others == [3]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    "config",
    [AxLSTMConfig(width=16, depth=2, flip=True), SSAMConfig(width=16, depth=2), SSASTConfig(width=16, depth=2, heads=2)],
    ids=lambda config: config.family,
)
def test_embeddings_are_the_same_however_many_threads_there_are(config, three_threads):
    model, audio = Embedder(Encoder(config)), noise(2, 110_000)
    expected, layers = (model(audio, [110_000, 50_000], layers=asked).detach() for asked in (None, [0, 2]))
    with torch.inference_mode():
        torch.testing.assert_close(model(audio, [110_000, 50_000]), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(audio, [110_000, 50_000], layers=[0, 2]), layers, rtol=0, atol=1e-5)


def test_several_threads_of_a_program_use_one_model(three_threads):
    model, clips = Embedder(Encoder(AxLSTMConfig(width=16, depth=2))), [noise(1, 70_000 + i) for i in range(4)]
    with torch.no_grad():
        expected = [model(clip) for clip in clips]
    results = [None] * 4

    def embed(index):
        with torch.no_grad():
            results[index] = model(clips[index])

    workers = [threading.Thread(target=embed, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.testing.assert_close(results, expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_embeds_with_one_thread(three_threads):
    model, audio = Embedder(Encoder(AxLSTMConfig(width=16, depth=1))), noise(1, 110_000)
    with torch.no_grad():
        model(audio)
    if (child := os.fork()) == 0:
        with torch.no_grad():
            model(audio)
        os._exit(0 if allowed() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def machine(monkeypatch):
    """Accounts of what this process's threads ran and waited, and a clock, that a test sets."""

    class Machine:
        thread, ran, waited, now = "1", 0, 0, 0

    monkeypatch.setattr(accounts, "_accounts", lambda: {Machine.thread: Account(Machine.ran, Machine.waited)})
    monkeypatch.setattr(accounts.time, "monotonic", lambda: Machine.now)
    return Machine


def test_others_are_busy_when_threads_wait_for_processors_and_for_a_while_after(machine):
    neighbours = Neighbours()
    machine.ran, machine.waited = 1_000 * MS, 20 * MS
    assert not neighbours.are_busy()
    machine.ran, machine.waited = 1_050 * MS, 60 * MS
    assert neighbours.are_busy()
    machine.ran, machine.now = 1_100 * MS, 0.4
    assert neighbours.are_busy()
    machine.ran, machine.now = 1_150 * MS, 0.6
    assert not neighbours.are_busy()


def test_whoever_proves_busy_again_is_believed_longer(machine):
    neighbours, pauses = Neighbours(), []
    for _ in range(7):
        machine.waited += 50 * MS
        begin = machine.now
        while neighbours.are_busy():
            machine.now += 0.25
        pauses.append(machine.now - begin)
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]


def test_a_moment_says_nothing(machine):
    neighbours = Neighbours()
    machine.waited = 4 * MS
    assert not neighbours.are_busy()


@pytest.mark.parametrize("thread", ["1", "2"], ids=["of the same number", "of another number"])
def test_threads_that_have_ended_do_not_count_against_those_that_run(machine, thread):
    neighbours = Neighbours()
    machine.ran = 3_600_000 * MS
    assert not neighbours.are_busy()
    machine.thread, machine.ran, machine.waited = thread, 50 * MS, 50 * MS
    assert neighbours.are_busy()


def test_a_system_without_such_accounts_is_never_busy(monkeypatch, tmp_path):
    monkeypatch.setattr(accounts, "TASKS", tmp_path / "none")
    assert not Neighbours().are_busy()
