"""``show``: a picture or a page of one sound, and one line where there is none."""

import pytest
import soundfile
import torch

from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.save import save_weights
from tests.conftest import tone


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(Encoder(AxLSTMConfig(width=16, depth=2)), path)
    return path


@pytest.fixture
def sound(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(440, 1.0), SAMPLE_RATE)
    return tmp_path / "tone.wav"


@pytest.mark.parametrize("name", ["tone.png", "new/tone.html"])
def test_it_writes_a_picture_or_a_page(run, sound, weights, tmp_path, name):
    done = run("show", sound, "-o", tmp_path / name, "--model", weights)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert done.stderr == f"25 moments of tone.wav, every 40 ms: {tmp_path / name}\n"
    assert (tmp_path / name).stat().st_size > 10_000
    quiet = run("show", sound, "-o", tmp_path / name, "--model", weights, "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["{sound}", "-o", "{here}/a.wav"], 2, "call it a.png"),
        (["{sound}", "-o", "{here}/folder.png"], 2, "is a folder"),
        (["{sound}", "-o", "{here}/tone.wav/a.png"], 2, "cannot be written"),
        (["{sound}", "-o", "{here}/a.png", "--model", "none"], 2, "no variant is called 'none'"),
        (["{sound}", "-o", "{here}/a.png", "--device", "none"], 2, "device 'none' cannot be used"),
        (["{here}/absent.wav", "-o", "{here}/a.png"], 1, "absent.wav: no such file"),
        (["{here}/folder.png", "-o", "{here}/a.png"], 1, "a folder; expected a regular file"),
        (["{here}/bad.wav", "-o", "{here}/a.png"], 1, "bad.wav: cannot be decoded"),
    ],
)
def test_errors_are_one_line(run, sound, weights, tmp_path, options, code, words):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    before = sorted(tmp_path.iterdir())
    given = [option.format(sound=sound, here=tmp_path) for option in options]
    done = run("show", "--model", weights, *given)
    assert done.exit_code == code, done.output
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
