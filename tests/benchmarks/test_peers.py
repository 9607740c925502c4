"""Peers beside ours: a row of each, and those that do not run."""

from types import SimpleNamespace

from benchmarks import peers
from benchmarks.subjects import Calls


def test_a_row_says_chunks_a_processor_second_memory_and_start_up():
    subject = SimpleNamespace(peak_mib=lambda: 123.4, started=1.23)
    cells = peers.row(Calls(8, (0.5, 0.5), (0.25, 0.75)), subject)
    assert cells["chunks / processor s"] == 16.0
    assert (cells["peak MiB"], cells["start-up s"]) == (123, 1.2)


def test_a_peer_that_does_not_run_is_said_and_left_out(capsys):
    assert peers.measure({"nobody's": ("nothing", "at all", None)}, threads=1, batch=1, seconds=0) == []
    assert "nobody's is left out: it ended with exit status 1" in capsys.readouterr().err
