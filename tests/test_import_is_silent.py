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
import hear_axlstm, hear_axlstm.axlstm_base
assert state() == before, "importing changed global state"
new = {name.partition(".")[0] for name in set(sys.modules) - loaded}
unwanted = {
    "triton", "tensorflow", "torchaudio", "soundfile", "soxr", "huggingface_hub", "gdown", "pyarrow", "click", "tqdm",
    "accelerate", "tensorboardX", "sklearn",
}
assert not new & unwanted, f"importing loaded {new & unwanted}"
assert not torch.cuda.is_initialized()
"""


def test_importing_is_silent_and_free():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
