"""Importing the package prints nothing, changes no global state, and loads only what the HEAR API needs."""

import subprocess
import sys

PROGRAM = """
import random, sys, warnings
import numpy, torch
warnings.simplefilter("error")

def state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist(),
        torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark,
    )

before = state()
loaded = set(sys.modules)
import hear_axlstm, hear_axlstm.hear.axlstm_base
assert state() == before, "importing changed global state"
new = {name.partition(".")[0] for name in set(sys.modules) - loaded}
unwanted = {
    "triton", "tensorflow", "torchaudio", "soundfile", "soxr", "huggingface_hub", "pyarrow", "click", "tqdm",
    "accelerate", "tensorboardX", "sklearn", "transformers", "sentence_transformers", "datasets", "onnx", "onnxscript",
    "onnxruntime", "mteb", "av", "fsspec",
}
assert not new & unwanted, f"importing loaded {new & unwanted}"
assert not torch.cuda.is_initialized()
"""


def test_importing_is_silent_and_free():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


INFERENCE = """
import sys, torch, hear_axlstm
from hear_axlstm.weights.load import fill
model = hear_axlstm.load_model()
for config in hear_axlstm.VARIANTS["ssam-tiny"], hear_axlstm.VARIANTS["ssast-tiny"]:
    fill(config, hear_axlstm.Encoder(config).state_dict(), "a test")
with torch.no_grad():
    model(torch.rand(1, 32_000))
assert "triton" not in sys.modules
"""


def test_inference_on_a_cpu_does_without_triton():
    """torch's compiler would import it, and TensorFlow, which HEAR's kit imports, bears no Triton after it."""
    result = subprocess.run([sys.executable, "-c", INFERENCE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


HELP = """
import contextlib, io, sys
from click.testing import CliRunner
from hear_axlstm.cli import main

def commands(command, *names):
    yield names
    others = getattr(command, "others", {}) | getattr(command, "commands", {})
    for name, other in others.items():
        yield from commands(other, *names, name)

every = list(commands(main))
assert len(every) > 20
for names in every:
    result = CliRunner().invoke(main, [*names, "--help"])
    assert result.exit_code == 0, result.output
    assert not {"torch", "numba", "huggingface_hub", "scipy"} & set(sys.modules), names
"""


def test_no_help_waits_for_torch():
    result = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
