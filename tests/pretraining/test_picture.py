"""The picture of a reconstruction: four panels that show what they say, whatever a sound is called."""

import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.picture import BLANK, picture
from hear_axlstm.pretraining.reconstruction import Reconstruction


def guessed(ratio=0.5, seconds=2.0, **options):
    """A reconstruction of noise in which a share of the patches is hidden."""
    rng = np.random.default_rng(0)
    frames = round(100 * seconds)
    hidden = np.kron(rng.permutation(frames // 4 * 5).reshape(-1, 5) < ratio * frames // 4 * 5, np.ones((4, 16), bool))
    mel = rng.standard_normal((2, frames, 80)).astype(np.float32)
    return Reconstruction(mel[0], hidden, mel[1], 10.0 * np.arange(frames), "noise", "axlstm", ratio, **options)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_same_guesses_are_the_same_picture(tmp_path):
    for name, clip in (("a", guessed()), ("b", guessed()), ("c", guessed(ratio=0.2)), ("d", guessed(notes=["A note."]))):
        clip.draw(tmp_path / f"{name}.png")
    first, *others = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert first.startswith(b"\x89PNG")
    assert [other == first for other in others] == [True, False, False]
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_what_is_hidden_is_blank_above_and_what_is_not_below(tmp_path):
    """The panel of what is seen lies above that of what is guessed, that of the error below it."""
    blank = np.array([int(BLANK[place : place + 2], 16) for place in (1, 3, 5)])
    shares = {}
    for ratio in (0.2, 0.8):
        guessed(ratio).draw(tmp_path / "picture.png")
        image = pixels(tmp_path / "picture.png")
        is_blank = np.abs(image - blank).max(2) < 8
        half = 6 * len(image) // 10
        shares[ratio] = is_blank[:half].sum(), is_blank[half:].sum()
    panel = sum(shares[0.2])
    assert shares[0.2] == pytest.approx((0.2 * panel, 0.8 * panel), rel=0.1)
    assert shares[0.8] == pytest.approx((0.8 * panel, 0.2 * panel), rel=0.1)


def test_silence_has_one_colour_in_all_panels(tmp_path):
    silent = np.zeros((200, 80), np.float32)
    replace(guessed(), log_mel=silent, guess=silent).draw(tmp_path / "picture.png")
    image = pixels(tmp_path / "picture.png")
    middle = image[:, image.shape[1] // 3]  # through the four panels
    assert not (middle.max(1) < 30).any()  # black is the least there is, not nothing


def test_several_clips_of_any_length_stand_side_by_side():
    one = picture([guessed()], "one")
    several = picture([guessed(), guessed(seconds=0.4), guessed(seconds=4.0)], "three")
    widths = [int.from_bytes(content[16:20], "big") for content in (one, several)]
    assert widths[0] < widths[1] < 1_400
    assert len(several) < 250_000


@pytest.mark.parametrize("suffix", ["pdf", "svg", "PNG"])
def test_a_suffix_is_a_format(tmp_path, suffix):
    guessed().draw(tmp_path / f"new/picture.{suffix}")
    content = (tmp_path / f"new/picture.{suffix}").read_bytes()
    assert {"pdf": b"%PDF", "svg": b"<svg", "PNG": b"\x89PNG"}[suffix] in content


@pytest.mark.parametrize(
    "name", ["$x_1$ $.wav", "雨.wav", "a\nb\udcff.wav", "long" * 80], ids=["math", "letters", "bytes", "long"]
)
def test_every_name_is_drawn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content = picture([replace(guessed(), name=name)] * 2, name)
    assert content.startswith(b"\x89PNG")


def test_another_suffix_and_a_missing_matplotlib_are_refused_and_leave_what_is_there(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"does not end in \.png, \.pdf, \.svg, as pictures do; call it picture\.png"):
        guessed().draw(tmp_path / "picture.jpg")
    (tmp_path / "picture.png").write_bytes(b"before")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"needs matplotlib: pip install 'hear-axlstm\[pretrain\]'"):
        guessed().draw(tmp_path / "picture.png")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    assert (tmp_path / "picture.png").read_bytes() == b"before"
