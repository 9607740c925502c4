"""The kit's own embeddings: of our module, of other people's, and of what goes wrong with them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import get_scene_embeddings, load_model
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import EvaluationError, OutputError
from hear_axlstm.evaluation.kit import launch
from hear_axlstm.evaluation.kit.launch import embed_with_kit, evaluate_with_kit
from hear_axlstm.evaluation.protocols import PROTOCOLS
from tests.evaluation.kit.conftest import ROOT, write_task
from tests.processes import wait_until
from tests.tolerances import BATCH_MATES

pytestmark = pytest.mark.kit
VARIANT = "axlstm-tiny"
BANDS = '''
import torch

FRAME = 1600

class Bands(torch.nn.Module):
    """Log energies of eight bands, ten times a second."""

    sample_rate, scene_embedding_size, timestamp_embedding_size = 16_000, 8, 8

    def forward(self, audio):
        frames = torch.fft.rfft(audio.unfold(1, FRAME, FRAME)).abs().square()
        return frames[..., : FRAME // 2].unflatten(-1, (8, -1)).mean(-1).add(1e-6).log()

def load_model(model_file_path="", shift=0.0):
    model = Bands()
    model.shift = shift
    return model

def get_timestamp_embeddings(audio, model):
    embeddings = model(audio) + model.shift
    return embeddings, (torch.arange(embeddings.shape[1]) * 100.0 + 50).expand(len(audio), -1)

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
'''
TENSORFLOW = """
import numpy

class Module:
    pass

class Tensor:
    def __init__(self, values):
        self.values = values
    def numpy(self):
        return self.values

convert_to_tensor = Tensor
"""
PEAKS = """
import tensorflow as tf

class Peaks(tf.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16_000, 1, 1

def load_model(path=None):
    return Peaks()

def get_scene_embeddings(audio, model):
    assert isinstance(audio, tf.Tensor)
    return tf.convert_to_tensor(abs(audio.numpy()).max(1, keepdims=True))
"""
BEAT = 0.1
ENDLESS = f"""
import time

def load_model(path):
    while True:
        with open(path, "a") as file:
            file.write("beat")
        time.sleep({BEAT})
"""
CALLER = """
import sys
from pathlib import Path
from hear_axlstm.evaluation.kit.launch import embed_with_kit

task, out, beats = map(Path, sys.argv[1:])
embed_with_kit("endless", task, out, model=beats, model_options={}, device="cpu")
"""


@pytest.fixture(scope="module")
def elsewhere(bare_python):
    """Modules of other people in the current folder. Returns a folder for the rest."""
    current, temporary = bare_python
    (current / "bands.py").write_text(BANDS)
    (current / "peaks.py").write_text(PEAKS)
    (current / "endless.py").write_text(ENDLESS)
    return temporary.parent / "elsewhere"


def embedding(out, split, file):
    return np.load(out / split / f"{file}.embedding.npy")


def test_our_module_is_embedded_as_the_hear_api_does(elsewhere, random_weights):
    task, out = write_task(elsewhere / "scenes", "scene"), elsewhere / "made" / "scenes"
    ended = subprocess.Popen(["true"])
    ended.wait()
    others = [out.parent / f".scenes.{process}.abcd.kit" for process in (ended.pid, "", os.getppid())]
    for other in others:
        other.mkdir(parents=True)
    weights = random_weights(VARIANT)
    call = {"model": weights, "model_options": {"layout": "time"}, "device": "cpu"}
    assert embed_with_kit("hear_axlstm.hear.axlstm_tiny", task, out, **call) == out
    assert set(out.parent.iterdir()) == {out, others[-1]}  # that one's process lives
    model = load_model(weights, layout="time")
    for split in ("train", "valid", "test"):
        for file in json.loads((out / f"{split}.json").read_text()):
            audio, _ = soundfile.read(task / str(SAMPLE_RATE) / split / file, dtype="float32")
            expected = get_scene_embeddings(torch.from_numpy(audio)[None], model)[0].detach()
            np.testing.assert_allclose(embedding(out, split, file), expected, rtol=0, atol=BATCH_MATES)
    assert json.loads((out / "train.embedding-dimensions.json").read_text()) == [2, model.scene_embedding_size]


def test_what_is_embedded_stays_until_the_task_changes(elsewhere, monkeypatch):
    task, out = write_task(elsewhere / "changing", "scene"), elsewhere / "changing embedded"
    asked = []

    def run(arguments, *, scratch, device):
        asked.append(arguments)
        made = scratch / "embeddings" / "bands" / task.name
        made.mkdir(parents=True)
        for file in task.glob("*.*"):
            (made / file.name).write_bytes(file.read_bytes())
        (made / ".done.embeddings").touch()

    monkeypatch.setattr(launch, "run_kit", run)
    call = {"model": None, "model_options": {}, "device": "cpu"}
    embed_with_kit("bands", task, out, **call)
    embed_with_kit("bands", task, out, **call)
    assert len(asked) == 1
    (task / "test.json").write_text("{}")
    embed_with_kit("bands", task, out, **call)
    assert (out / "test.json").read_text() == "{}"
    other = elsewhere / "music"
    other.mkdir()
    (other / "song.mp3").touch()
    with pytest.raises(OutputError, match=r"no task_metadata\.json"):
        embed_with_kit("bands", task, other, **call)
    assert len(asked) == 2


def test_events_by_another_module_are_embedded_and_scored(elsewhere):
    """As in DCASE 2016, whose score decides when training ends."""
    task = write_task(
        elsewhere / "events",
        "event",
        files=3,
        task_name="dcase2016_task2",
        evaluation_params={"task_specific_param_grid": {"max_epochs": [60], "hidden_dim": [32], "lr": [1e-2]}},
    )
    out = embed_with_kit("bands", task, elsewhere / "made events", model=None, model_options={"shift": 1.5}, device="cpu")
    audio, _ = soundfile.read(task / str(SAMPLE_RATE) / "test" / "test-0.wav", dtype="float32")
    spectra = np.abs(np.fft.rfft(audio[: len(audio) // 1600 * 1600].reshape(-1, 1600))) ** 2
    expected = np.log(spectra[:, :800].reshape(len(spectra), 8, -1).mean(-1) + 1e-6) + 1.5
    np.testing.assert_allclose(embedding(out, "test", "test-0.wav"), expected, atol=1e-3)
    curves = elsewhere / "curves"
    outcome = evaluate_with_kit(out, PROTOCOLS["axlstm"], 0, curves=curves)
    assert len(list(curves.iterdir())) == 2  # points of the authors' grid
    assert list(outcome.splits) == ["test"]
    test = outcome.splits["test"]
    assert test["test_score"] == test["test_event_onset_200ms_fms"] == test["test_event_onset_200ms_fms_f_measure"] > 0.8
    assert test["epoch"] in {9, 19, 29, 39, 49, 59}
    assert outcome.settings["check_val_every_n_epoch"] == 10


def test_a_model_in_tensorflow_is_embedded_with_the_tensorflow_that_its_module_brings(elsewhere, monkeypatch):
    """With one of a page, on the path before the site that hides the real one."""
    site = elsewhere / "tensorflow site"
    (site / "tensorflow").mkdir(parents=True)
    (site / "tensorflow" / "__init__.py").write_text(TENSORFLOW)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{ROOT}")
    task = write_task(elsewhere / "peaks", "scene")
    out = embed_with_kit("peaks", task, elsewhere / "made peaks", model=None, model_options={}, device="cpu")
    assert embedding(out, "test", "test-0.wav") == pytest.approx(0.5, abs=1e-3)


def test_a_failure_tells_the_kits_reason(elsewhere):
    """Of a module that needs TensorFlow, where there is none."""
    task = write_task(elsewhere / "failing", "scene")
    with pytest.raises(EvaluationError) as error:
        embed_with_kit("peaks", task, elsewhere / "not made", model=None, model_options={}, device="cpu")
    text = str(error.value)
    assert text.startswith(
        "failing: hear-eval-kit could not embed it with peaks: ModuleNotFoundError: No module named 'tensorflow'"
    )
    assert 'peaks.py", line 2' in text
    assert not list(elsewhere.glob("*not made*"))


def test_the_kit_ends_with_its_caller(elsewhere):
    """One that is killed, while the kit is in a module that would never come back."""
    task, folder = write_task(elsewhere / "endless", "scene"), elsewhere / "killed"
    folder.mkdir()
    (folder / "beats").touch()
    caller = subprocess.Popen([sys.executable, "-c", CALLER, task, folder / "out", folder / "beats"])
    wait_until((folder / "beats").read_text, caller)
    caller.kill()
    caller.wait()
    assert_it_ended(folder)


def test_ctrl_c_ends_the_kit(elsewhere):
    """Where the signal reaches the caller alone."""
    task, folder = write_task(elsewhere / "also endless", "scene"), elsewhere / "interrupted"
    folder.mkdir()
    (folder / "beats").touch()

    def interrupt():
        wait_until((folder / "beats").read_text)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        embed_with_kit("endless", task, folder / "out", model=folder / "beats", model_options={}, device="cpu")
    assert_it_ended(folder)


def assert_it_ended(folder):
    wait_until(lambda: [path.name for path in folder.iterdir()] == ["beats"])
    last = (folder / "beats").read_text()
    time.sleep(5 * BEAT)
    assert (folder / "beats").read_text() == last
