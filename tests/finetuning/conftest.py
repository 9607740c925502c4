"""Labelled sounds in a folder, and small weights to begin with."""

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.save import save_weights
from tests.conftest import tone

SMALL = AxLSTMConfig(width=16, depth=2, patch=(8, 16))
PITCHES = {"high": 2_000, "low": 200, "mid": 700}


def write_sounds(folder, clips=4, seed=0):
    """A folder of ``clips`` noisy tones for each class, from 0.3 to 4.5 s long."""
    generator = np.random.default_rng(seed)
    for name, hertz in PITCHES.items():
        (folder / name).mkdir(parents=True)
        for number in range(clips):
            wave = tone(hertz * generator.uniform(0.8, 1.2), [0.3, 1.0, 2.5, 4.5][number % 4])
            noisy = wave + generator.normal(size=len(wave)).astype(np.float32) * 0.05
            soundfile.write(folder / name / f"{number}.wav", noisy, 16_000, "FLOAT")
    return folder


def write_short(path, seed=0):
    """A sound that is too short to embed, of 150 samples; every seed makes another one."""
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 150), 16_000)
    return path


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("labelled") / "sounds")


def write_weights(path):
    torch.manual_seed(0)
    save_weights(Encoder(SMALL), path, {"made": "by a test"}, layout="time")
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("start") / "small.safetensors")
