"""The parts of a run, in order of value: what each answers, how long it may take, and what it needs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A process that answers a question.

    command: what follows the interpreter's name. limit: seconds. needs: packages without which it is left out.
    alone: whether it measures times, and nothing else may run beside it. backend: HEAR_AXLSTM_BACKEND of a rehearsal.
    """

    name: str
    question: str
    command: tuple[str, ...]
    limit: float
    needs: tuple[str, ...] = ("torch", "numpy", "safetensors")
    alone: bool = False
    backend: str = "triton"

    @property
    def lacks(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [package for package in self.needs if importlib.util.find_spec(package) is None]


def _part(name: str, question: str, limit: float, module: str, *arguments: str, needs: str = "", **options: object) -> Part:
    command = ("-m", f"benchmarks.gpu.{module}", *arguments)
    packages = ("torch", "numpy", "safetensors", *needs.split())
    return Part(name, question, command, limit, needs=packages, **options)  # type: ignore[arg-type]


MACHINE = Part(
    "machine",
    "Is there a device, and what else does it need?",
    ("-m", "benchmarks.gpu.machine"),
    90,
    needs=("torch",),
    alone=True,
)
OPERATIONS = {"gated_mlstm": "mlstm", "gated_scan": "scan", "conv_mix_gates": "conv", "add_norm": "norm"}
PARTS = [
    *(
        _part(f"kernel {short}", f"Does {name} compile, and is it right?", 200, "kernels", name, needs="triton")
        for name, short in OPERATIONS.items()
    ),
    _part("kernel tests", "Do the tests of the kernels pass?", 200, "suite", needs="triton pytest"),
    _part("golden cases", "Are the golden cases what the released code computes?", 120, "golden", backend="torch"),
    _part("graphs", "Do CUDA graphs compute what the encoder does, and follow its changes?", 90, "graphs"),
    _part("lengths", "Does a clip depend on its neighbours? Is a batch halved that does not fit?", 90, "lengths"),
    _part("streams", "Does a sound in bits have the embeddings of the whole, and how long does a push take?", 90, "streams"),
    _part(
        "pretraining", "Does pretraining learn, and does a resumed run go on as it was?", 120, "pretraining", needs="tqdm"
    ),
    _part("evaluator", "Does the batched evaluator agree with the sequential one?", 90, "evaluator"),
    _part(
        "encoders",
        "How fast are the encoders, how far from the ceilings, and how much memory do 256 chunks take?",
        150,
        "speed",
        "encoders",
        needs="click tqdm",
        alone=True,
        backend="torch",
    ),
    _part(
        "training rate",
        "How many clips a second are trained on?",
        75,
        "speed",
        "training",
        needs="click tqdm",
        alone=True,
        backend="torch",
    ),
    _part("fused norm", "Does the fused addition and norm pay?", 45, "speed", "norm", needs="triton", alone=True),
    _part(
        "operations", "How fast is each operation beside plain torch?", 60, "speed", "operations", needs="triton", alone=True
    ),
    _part("tiles", "Which tiles and limits are the fastest?", 90, "speed", "tiles", needs="triton", alone=True),
]
