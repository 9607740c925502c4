"""reconstruct at the command line: a picture, its loss, and honest exit codes."""

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.save import save_weights


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(5)
    save_weights(Encoder(AxLSTMConfig(width=16, depth=1, patch=(40, 16))), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def draw(run, tmp_path, weights):
    """Draw what is guessed of a recording of 3 seconds, with further options."""
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 132_300), 44_100)

    def draw(*options, out="picture.png", file="noise.wav"):
        return run("reconstruct", tmp_path / file, "-o", tmp_path / out, "--model", weights, *options)

    return draw


def test_a_picture_is_drawn_and_its_loss_told(draw, tmp_path):
    result = draw()
    assert (result.exit_code, result.stdout) == (0, "")
    loss, note, where = result.stderr.splitlines()
    assert loss.startswith("50% of the patches are hidden. Their loss is ")
    assert "was never trained" in note
    assert where == f"the picture: {tmp_path / 'picture.png'}"
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_sound_may_be_an_address(draw, run, weights, tmp_path):
    draw()
    address = (tmp_path / "noise.wav").as_uri()
    result = run("reconstruct", address, "-o", tmp_path / "fetched.png", "--model", weights)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "fetched.png").read_bytes() == (tmp_path / "picture.png").read_bytes()


def test_options_say_what_is_hidden_and_shown(draw, tmp_path):
    pictures = []
    options = [[], ["--seed", 0], ["--seed", 1], ["--mask-ratio", 0.2], ["--start", 1.5]]
    for number, given in enumerate(options):
        result = draw("-q", *given, out=f"{number}.png")
        assert (result.exit_code, result.stderr) == (0, "")
        pictures.append((tmp_path / f"{number}.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == len(pictures) - 1


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"out": "picture.gif"}, 2, "does not end in .png, .pdf, .svg"),
        ({"options": ["--mask-ratio", 1]}, 2, "mask_ratio is 1.0; expected a share between 0 and 1"),
        ({"options": ["--start", 4]}, 2, "start is 4.0; expected seconds from 0, before the end of a sound of 3.00 s"),
        ({"options": ["--device", "nowhere"]}, 2, "device 'nowhere' cannot be used"),
        ({"file": "gone.wav"}, 1, "gone.wav: "),
        ({"options": ["--model", "gone.safetensors"]}, 2, "gone.safetensors: no such file"),
        ({"out": "weights.safetensors/picture.png"}, 2, "weights.safetensors"),
    ],
    ids=["suffix", "ratio", "start", "device", "sound", "weights", "folder"],
)
def test_what_cannot_be_drawn_is_one_line(draw, tmp_path, given, code, words):
    result = draw(*given.pop("options", []), **given)
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.p*"))
