"""ONNX files: ONNX Runtime computes with them what the package does, on inputs that no export has checked."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import hear_axlstm
from hear_axlstm.cli import main
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.doors import onnx as door
from hear_axlstm.errors import BackendError, ConfigError, WeightsError
from hear_axlstm.weights.save import fingerprint
from tests.conftest import noise
from tests.doors.test_torch_export import RAGGED, active_model, ragged

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

FLIP = AxLSTMConfig(width=16, depth=2, expansion=2, flip=True, patch=(20, 16))
SIGMOID = AxLSTMConfig(width=16, depth=1, input_gate="sigmoid", patch=(8, 16))
SSAM = SSAMConfig(width=16, depth=1, bidirectional=True, patch=(20, 16))
SSAST = SSASTConfig(width=16, depth=1, heads=2)
CLOSE = {"rtol": 0, "atol": 3e-5}
CASES = [
    (FLIP, "scene", "released"),
    (SIGMOID, "timestamps", "released"),
    (SSAM, "scene", "time"),
    (SSAST, "tokens", "time"),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The model, the file and what ``export`` returned, by its arguments; each is made once."""
    made = {}

    def get(config, what="scene", layout="released"):
        key = (config, what, layout)
        if key not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("onnx") / "model.onnx"
            model = active_model(config, layout)
            made[key] = model, path, hear_axlstm.export(model, path, what)
        return made[key]

    return get


def run(path, audio, lengths=None):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    lengths = [audio.shape[1]] * len(audio) if lengths is None else lengths
    return [torch.from_numpy(x) for x in session.run(None, {"audio": audio.numpy(), "lengths": np.array(lengths, np.int64)})]


def expected(model, what, audio, lengths):
    with torch.no_grad():
        if what == "tokens":  # as far as they are steps in time
            steps = model.timestamps(audio, lengths)[0]
            return [steps.unflatten(2, (model.encoder.config.grid[1], -1)).flatten(1, 2)]
        return [model(audio, lengths)] if what == "scene" else list(model.timestamps(audio, lengths))


@pytest.mark.parametrize(("config", "what", "layout"), CASES, ids=lambda value: getattr(value, "family", value))
def test_the_runtime_computes_what_the_package_does(exported, config, what, layout):
    model, path, deviation = exported(config, what, layout)
    assert 0 < deviation <= 1e-5
    for audio, lengths in [
        (ragged(), RAGGED), (noise(1, 201), [201]), (noise(2, 31_840), [31_840, 879]), (torch.zeros(2, 900), [900, 900])
    ]:  # fmt: skip
        truth = expected(model, what, audio, lengths)
        found = run(path, audio, lengths)
        if what == "tokens":
            inside = truth[0] != 0
            found, truth = [found[0][:, : truth[0].shape[1]][inside]], [truth[0][inside]]
        for ours, theirs in zip(found, truth, strict=True):
            torch.testing.assert_close(ours, theirs, equal_nan=True, **CLOSE)


def test_a_half_precision_model_is_exported_in_float32_for_one_time_and_stays_as_it_is(tmp_path):
    model, path, audio, lengths = active_model(SSAST).half(), tmp_path / "model.onnx", noise(3, 24_000), [24_000, 201, 9_000]
    torch.set_default_dtype(torch.float64)  # of numbers elsewhere
    try:
        hear_axlstm.export(model, path, seconds=1.5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.encoder.patch_embed.weight.dtype == torch.float16
    torch.testing.assert_close(run(path, audio, lengths)[0], model.float()(audio, lengths), **CLOSE)
    with pytest.raises(Exception, match="Expected: 24000"):
        run(path, noise(1, 16_000))


def test_a_clip_that_is_not_finite_spoils_only_itself(exported):
    _, path, _ = exported(FLIP)
    audio = noise(3, 40_000)
    before = run(path, audio)[0]
    audio[1, 100] = torch.nan
    after = run(path, audio)[0]
    assert after[1].isnan().all()
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], **CLOSE)


def test_the_file_is_alone_valid_and_says_what_it_is(exported):
    model, path, _ = exported(SIGMOID, "timestamps")
    assert [*path.parent.iterdir()] == [path]
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert {opset.domain: opset.version for opset in graph.opset_import}[""] == 18
    facts = json.loads({entry.key: entry.value for entry in graph.metadata_props}["hear_axlstm"])
    assert facts == {
        "config": model.encoder.config.to_dict(),
        "layout": "released",
        "what": "timestamps",
        "seconds": None,
        "weights": fingerprint(model.encoder),
        "version": hear_axlstm.__version__,
    }
    assert not re.search(rb"site-packages|torch_export\.py", path.read_bytes())


def test_the_axes_have_names(exported):
    _, path, _ = exported(SIGMOID, "timestamps")
    session = onnxruntime.InferenceSession(path)
    assert {value.name: value.shape for value in session.get_inputs()} == {
        "audio": ["batch", "samples"],
        "lengths": ["batch"],
    }
    outputs = {value.name: value.shape for value in session.get_outputs()}
    assert outputs == {"embeddings": ["batch", "steps", 80], "timestamps": ["batch", "steps"]}


def test_a_file_that_deviates_is_not_written_and_the_one_before_stays(exported, tmp_path, monkeypatch):
    model, good, _ = exported(FLIP)
    path = tmp_path / "model.onnx"
    path.write_text("before")
    monkeypatch.setattr(door, "_converted", lambda *_: onnx.load(good))
    monkeypatch.setattr(door, "DEVIATION", 0.0)
    with pytest.raises(BackendError, match=r"deviates from torch by \d\.\de-0\d; .*nothing is written"):
        hear_axlstm.export(model, path)
    monkeypatch.setattr(door, "_batches", lambda _: [(torch.zeros(1, 300), [301])])
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot run what was made \(\w+: .*\); update onnxruntime"):
        hear_axlstm.export(model, path)
    assert path.read_text() == "before"
    assert [*tmp_path.iterdir()] == [path]


def test_bad_arguments_are_refused_before_anything_is_done(tmp_path):
    model = active_model(SSAST)
    with pytest.raises(ConfigError, match=r"expected NAME\.onnx"):
        hear_axlstm.export(model, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="what is 'scenes'"):
        hear_axlstm.export(model, tmp_path / "model.onnx", "scenes")
    with pytest.raises(ConfigError, match="seconds is 0"):
        hear_axlstm.export(model, tmp_path / "model.onnx", seconds=0)
    with pytest.raises(WeightsError):
        hear_axlstm.export(tmp_path / "missing.safetensors", tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"ONNX needs onnxscript: pip install 'hear-axlstm\[onnx\]'"):
        hear_axlstm.export(active_model(SSAST), tmp_path / "model.onnx")


WITHOUT = """
import sys
for name in "onnx", "onnxscript", "onnxruntime":
    sys.modules[name] = None
from hear_axlstm import *
assert callable(export)
"""


def test_the_package_is_imported_whole_without_the_extra():
    result = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_command_exports_weights(tmp_path):
    model, weights, path = active_model(SSAST), tmp_path / "w.safetensors", tmp_path / "new" / "model.onnx"
    hear_axlstm.save_weights(model, weights)
    done = CliRunner().invoke(main, ["export", str(weights), str(path), "--layout", "time", "--seconds", "1"])
    assert done.exit_code == 0, done.output
    assert re.fullmatch(rf"{re.escape(str(path))}: scene, [\d.]+ MB, \de-07 from torch\n", done.output)
    audio = noise(1, 16_000)
    torch.testing.assert_close(run(path, audio)[0], hear_axlstm.load_model(weights, layout="time")(audio), **CLOSE)


def test_the_command_names_what_is_wrong(tmp_path):
    done = CliRunner().invoke(main, ["export", "axlstm-tiny-open", str(tmp_path / "model.pt")])
    assert done.exit_code == 2
    assert "expected NAME.onnx" in done.output
