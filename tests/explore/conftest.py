"""Collections to look at."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import hear_axlstm
from hear_axlstm.config import SAMPLE_RATE

HOSTILE = "</script><img src=x onerror=alert(1)>"  # a name that a page must never read as its own
FOLDERS = {"high": 2_000, "low": 200}


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """Twelve sounds in two folders, one with a name of HTML, and one that is not finite."""
    folder = tmp_path_factory.mktemp("sounds & more")
    seconds = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    for name, hertz in FOLDERS.items():
        (folder / name).mkdir()
        for number in range(6):
            wave = 0.5 * np.sin(2 * np.pi * hertz * (1 + 0.1 * number) * seconds)
            soundfile.write(folder / name / f"tone {number}.wav", wave, SAMPLE_RATE)
    (folder / "low" / "tone 5.wav").rename(folder / "low" / f"{HOSTILE.replace('/', '_')}.wav")
    soundfile.write(folder / "low" / "broken.wav", np.full(8_000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="session")
def model(golden):
    return golden("ssast").model()


@pytest.fixture(scope="session")
def result(sounds, model):
    return hear_axlstm.embed(sounds, model)
