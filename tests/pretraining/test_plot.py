"""curve.png: a picture of curve.csv, and never the end of a run."""

import logging
import sys

import pytest

from hear_axlstm.pretraining.plot import draw_curve
from hear_axlstm.pretraining.state import CURVE, PLOT, Curve, RunFolder

LENGTHS = [{"after": 0, "updates": 200}, {"after": 100, "updates": 250}]


@pytest.fixture
def folder(tmp_path):
    """The folder of a run of 250 updates."""
    folder = RunFolder(tmp_path)
    curve = Curve(folder, 0)
    for step in range(1, 251):
        curve.add({"step": step, "loss": 1 / step, "lr": 1e-3 * step, "clips_per_second": 2.5})
    curve.close()
    return folder


def test_the_same_curve_is_the_same_picture(folder):
    assert draw_curve(folder, "axlstm-tiny", LENGTHS)
    first = (folder.path / PLOT).read_bytes()
    assert first.startswith(b"\x89PNG")
    assert draw_curve(folder, "axlstm-tiny", LENGTHS)
    assert (folder.path / PLOT).read_bytes() == first
    assert draw_curve(folder, "axlstm-tiny", LENGTHS[:1])
    assert (folder.path / PLOT).read_bytes() != first


def test_drawing_leaves_pyplot_alone(folder):
    draw_curve(folder, "axlstm-tiny", [])
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize("content", ["step,loss\nx,y\n", "step,loss,lr\n"], ids=["damaged", "empty"])
def test_what_cannot_be_drawn_is_no_error(folder, content):
    (folder.path / CURVE).write_text(content)
    draw_curve(folder, "axlstm-tiny", [])
    assert not list(folder.path.glob(".*.part"))


def test_without_matplotlib_it_is_said_how_to_get_it(folder, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.INFO):
        assert not draw_curve(folder, "axlstm-tiny", [])
    assert "pip install 'hear-axlstm[pretrain]'" in caplog.text
    assert not list(folder.path.glob("*.p*"))
