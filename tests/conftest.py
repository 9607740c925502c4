"""Shared material: golden cases, small models, test sounds, weight files."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from hear_axlstm.config import SAMPLE_RATE, EncoderConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder, build_encoder
from hear_axlstm.parallel import Worker
from hear_axlstm.weights import pickled
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.released import convert_checkpoint
from hear_axlstm.weights.save import save_weights
from tests.browser import Browser, find_chromium
from tests.processes import children

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its kernels run on the CPU

# Started in the background, the tests would ignore signals, and so would every process that they start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in {"SIGTERM", "SIGCHLD"} & set(signal.Signals.__members__):
    signal.signal(signal.Signals[name], signal.SIG_DFL)
if hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

ROOT = Path(__file__).parent.parent
# What guards the encoders: `make test-core` runs these alone, in a few minutes. Folders, files and doctests.
CORE = """
    hear_axlstm/config.py hear_axlstm/frontend.py hear_axlstm/patches.py hear_axlstm/ops hear_axlstm/blocks
    hear_axlstm/encoder.py hear_axlstm/embedder.py hear_axlstm/hear hear_axlstm/weights
    tests/parity tests/ops tests/kernels/test_cpu.py tests/kernels/test_graphs.py tests/kernels/test_conv_cuda.py
    tests/kernels/test_norm_cuda.py tests/test_config.py tests/test_frontend.py tests/test_patches.py tests/test_blocks.py
    tests/test_encoder.py tests/test_embedder.py tests/test_hear.py tests/test_registry.py tests/test_import_order.py
    tests/test_reading_path.py tests/test_import_is_silent.py tests/weights/test_load.py tests/weights/test_find.py
    tests/weights/test_released.py
""".split()

GOLDEN = Path(__file__).parent / "parity" / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.pth"))
FAMILY_CASES = ["axlstm_e2_flip", "axlstm_e3_noflip", "ssam", "ssam_bidirectional", "ssast"]


def is_core(path: Path) -> bool:
    return any(path.is_relative_to(ROOT / name) for name in CORE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The core's tests need only what the core needs."""
    return True if config.option.markexpr == "core" and collection_path.is_file() and not is_core(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if missing := [name for name in CORE if not (ROOT / name).exists()]:
        raise pytest.UsageError(f"CORE in tests/conftest.py names {', '.join(missing)}; expected files and folders")
    for item in items:
        if is_core(item.path):
            item.add_marker(pytest.mark.core)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A test that fails, at its time limit perhaps, leaves no process behind."""
    before = children(os.getpid())
    try:
        return (yield)
    except BaseException:
        for process in children(os.getpid()) - before:
            os.kill(process, signal.SIGKILL)
        raise


@dataclass(frozen=True)
class Case:
    """A golden case: its truths, its released checkpoint, and the encoder that the conversion makes of that."""

    name: str
    facts: dict[str, Any]
    truth: dict[str, Tensor]
    encoder: Encoder

    @property
    def config(self) -> EncoderConfig:
        return self.encoder.config

    @property
    def released_error(self) -> dict[str, float]:
        """The released code's own float32 deviation from the truth."""
        return self.facts["official_float32_max_abs_error"]

    def model(self, **options: Any) -> Embedder:
        """A fresh copy, so that a test may change it."""
        return Embedder(copy.deepcopy(self.encoder), **options)


def convert_options(facts: dict[str, Any]) -> dict[str, Any]:
    """What a user must tell the conversion about a golden checkpoint."""
    return {"flip": facts["flip"], "input_gate": facts["input_gate"]} if facts["family"] == "axlstm" else {}


@pytest.fixture(scope="session", autouse=True)
def one_reader():
    """One process reads the checkpoints of all tests, as each would take a second to start."""
    worker = Worker()
    lent = SimpleNamespace(call=worker.call, close=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickled, "Worker", lambda: lent)
        yield
    worker.close()


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory):
    """Case by name; each is converted once."""
    cases: dict[str, Case] = {}
    folder = tmp_path_factory.mktemp("golden")

    def get(name: str) -> Case:
        if name not in cases:
            with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
                facts = json.loads(file.metadata()["case"])
                truth = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            target = folder / f"{name}.safetensors"
            convert_checkpoint(GOLDEN / f"{name}.pth", target, **convert_options(facts))
            cases[name] = Case(name, facts, truth, load_weights(target)[0])
        return cases[name]

    return get


@pytest.fixture(scope="session")
def golden_inputs() -> dict[str, Tensor]:
    inputs = load_file(GOLDEN / "inputs.safetensors")
    inputs["spectrogram"] = inputs["spectrogram"].squeeze(1)
    return {key: value.double() / 32768 if key.startswith("audio") else value for key, value in inputs.items()}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def poisoned_memory():
    """torch.empty is full of NaN, so that a value nobody wrote shows."""
    fill = torch.utils.deterministic.fill_uninitialized_memory
    enabled = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(enabled)
    torch.utils.deterministic.fill_uninitialized_memory = fill


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform noise in [-0.5, 0.5], float32."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def tone(hertz: float, seconds: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(np.float32)


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory):
    """Weights file of a variant, randomly initialised, by name; each is made once."""
    folder = tmp_path_factory.mktemp("weights")

    def get(variant: str) -> Path:
        path = folder / f"{variant}.safetensors"
        if not path.exists():
            torch.manual_seed(1)
            save_weights(build_encoder(variant), path, {"source": "random initial values"})
        return path

    return get


@pytest.fixture
def sound_folder(tmp_path: Path) -> Path:
    """Sounds of several lengths, rates, channel counts and formats, one of them in a folder below."""
    folder = tmp_path / "sounds"
    (folder / "below").mkdir(parents=True)
    soundfile.write(folder / "a.wav", tone(440, 1.3), SAMPLE_RATE)
    soundfile.write(folder / "b.flac", np.stack([tone(330, 2.1, 44_100), tone(550, 2.1, 44_100)], axis=1), 44_100)
    soundfile.write(folder / "below" / "c.ogg", tone(220, 0.6, 8_000), 8_000, format="OGG", subtype="VORBIS")
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """A chromium to look at pages with."""
    program = find_chromium()
    if program is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    chromium = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEAR_AXLSTM_CACHE", str(folder))
    monkeypatch.setenv("HF_HOME", str(folder / "huggingface"))
    return folder
