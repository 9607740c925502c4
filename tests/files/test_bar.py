"""The bar: it moves within a batch, counts what there is, and embeddings are the same with it."""

import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hear_axlstm import embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.progress import somebody_looks
from tests.conftest import noise


@pytest.fixture
def model(golden):
    return golden("ssast").model()


def test_it_moves_within_one_long_sound(model, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("hear_axlstm.files.bar.EVERY", 0.0)
    wave = noise(70 * SAMPLE_RATE).numpy()
    shown = embed([(wave, SAMPLE_RATE), np.zeros(9)], model, sample_rate=SAMPLE_RATE, progress=True)
    text = sys.stderr.getvalue()
    assert "0/2 sounds, 0 s of 70 s" in text
    percents = {int(found) for found in re.findall(r"(\d+)%", text)}
    assert len(percents) > 3
    assert max(percents) == 100
    assert "x real time" in text
    assert "left" in text
    assert "2/2 sounds, 70 s of 70 s" in text
    assert "1 failed" in text
    assert not model.encoder._forward_hooks
    assert np.array_equal(shown.matrix, embed([(wave, SAMPLE_RATE), (np.zeros(9), 9e3)], model).matrix, equal_nan=True)


def test_it_counts_sounds_while_a_batch_of_short_ones_is_encoded(model, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("hear_axlstm.files.bar.EVERY", 0.0)
    clips = [noise(8_000 + 100 * number).numpy() for number in range(30)]
    embed([*clips, np.zeros(9)], model, sample_rate=SAMPLE_RATE, progress=True)
    counts = [int(found) for found in re.findall(r"(\d+)/31 sounds", sys.stderr.getvalue())]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3
    assert counts[-1] == 31


def test_nothing_is_shown_where_nobody_looks_or_nothing_is_to_do(model, sound_folder, tmp_path, capsys):
    embed(sound_folder, model, out=tmp_path / "out")
    embed(sound_folder, model, out=tmp_path / "out", progress=True)
    assert capsys.readouterr().err == ""


def test_looking_at_what_is_done_is_shown_where_it_takes_long(model, sound_folder, tmp_path, monkeypatch):
    embed(sound_folder, model, out=tmp_path / "out")
    (sound_folder / "bad.wav").write_bytes(b"RIFF nothing")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("hear_axlstm.files.bar.PATIENCE", 0.0)
    monkeypatch.setattr("hear_axlstm.files.bar.EVERY", 0.0)
    embed(iter([sound_folder]), model, out=tmp_path / "out", progress=True)
    text = sys.stderr.getvalue()
    assert "1/1 sound known so far" in text
    assert "100%" in text
    assert text.endswith("\n")


def test_failures_found_in_planning_are_counted_as_well(model, sound_folder, tmp_path, monkeypatch):
    for number in range(3):
        (sound_folder / f"bad{number}.wav").write_bytes(b"RIFF nothing")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("hear_axlstm.files.bar.EVERY", 0.0)
    embed(sound_folder, model, out=tmp_path / "out", progress=True)
    text = sys.stderr.getvalue()
    assert "6/6 sounds, 4 s of 4 s" in text
    assert "3 failed" in text


def test_somebody_looks_at_terminals_and_notebooks(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    assert not somebody_looks()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    assert somebody_looks()
    monkeypatch.setattr(sys, "stderr", None)
    assert not somebody_looks()
    shell = SimpleNamespace()  # of IPython in a terminal
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not somebody_looks()
    shell.kernel = "a notebook's"
    assert somebody_looks()
