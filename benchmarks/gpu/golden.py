"""The golden cases on the device: what the released code computes in float64, beside ours in float32 and float16."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from benchmarks.gpu.checks import Checks, rehearsing, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.ops.backend import Backend
from hear_axlstm.patches import steps_from_tokens
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.released import convert_checkpoint
from tests.tolerances import FLOAT32_VS_RELEASED, FLOAT32_WORST_VALUE, HALF_VS_AUTOCAST

GOLDEN = Path(__file__).parents[2] / "tests" / "parity" / "golden"
REHEARSED = ("axlstm_e2_flip", "ssam", "ssast")
SAMPLES = (51_360, 17_120)
HALF = 2e-3  # relative deviation in float16 that needs no comparison with plain torch's


class Case:
    """One golden case, on the device: its facts, its truths, its encoder, and the inputs of all cases."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
            self.facts: dict[str, Any] = json.loads(file.metadata()["case"])
            self.truth = {key: file.get_tensor(key).to(device) for key in file.keys()}  # noqa: SIM118
        with safe_open(GOLDEN / "inputs.safetensors", "pt") as file:
            self.inputs = {key: file.get_tensor(key).to(device) for key in file.keys()}  # noqa: SIM118
        is_axlstm = self.facts["family"] == "axlstm"
        options = {"flip": self.facts["flip"], "input_gate": self.facts["input_gate"]} if is_axlstm else {}
        convert_checkpoint(GOLDEN / f"{name}.pth", folder / f"{name}.safetensors", **options)
        self.encoder: Encoder = load_weights(folder / f"{name}.safetensors")[0].to(device)

    @torch.no_grad()
    def computed(self, dtype: torch.dtype, backend: Backend) -> dict[str, Tensor]:
        """What the model computes, under the names that the truths have."""
        model = Embedder(self.encoder, precision=str(dtype).removeprefix("torch."), backend=backend)  # type: ignore[arg-type]
        spectrogram, config = self.inputs["spectrogram"].squeeze(1), self.encoder.config
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            tokens = model._encode(dtype, None)(spectrogram)
            guess = self.encoder.reconstruct(spectrogram, self.truth["mask"])
        found = {"features": steps_from_tokens(tokens, config.grid, "released"), "pred": guess}
        audio = {samples: (self.inputs[f"audio.{samples}"].double() / 32768).float() for samples in SAMPLES}
        return found | {f"scene.{samples}": model(wave) for samples, wave in audio.items()}


def deviation(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Relative deviations, of norms, by name."""
    return {name: float((found[name].double() - truth[name].double()).norm() / truth[name].norm()) for name in found}


Load = Callable[[str], Case]


def exact(load: Load, name: str, backend: Backend) -> dict[str, Any]:
    """In float32, without TF32: as near to the truth as the released code's float32 is, but for the order of sums."""
    case = load(name)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        found = case.computed(torch.float32, backend)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    worst, where = 0.0, ""
    for name, value in found.items():
        truth, released = case.truth[name].double(), case.facts["official_float32_max_abs_error"][name]
        stored = float(torch.finfo(torch.float32).eps * truth.abs().max())
        times = FLOAT32_WORST_VALUE if name in ("features", "pred") else FLOAT32_VS_RELEASED
        share = float((value.double() - truth).abs().max()) / (times * released + stored)
        worst, where = max((worst, where), (share, name))
    require(worst <= 1, f"{where} is beyond its tolerance: {worst:.2f} of it")
    return {"of the tolerance": worst, "largest": where}


def as_torch_sets_it(load: Load, name: str, backend: Backend) -> dict[str, Any]:
    """In float32 with PyTorch's own setting, by which cuDNN may round the patches' convolution to TF32."""
    case = load(name)
    found = deviation(case.computed(torch.float32, backend), case.truth)
    require(max(found.values()) < 1e-2, f"{found}")
    return {"deviation, cuDNN's TF32 as PyTorch sets it": max(found.values())}


def half(load: Load, name: str) -> dict[str, Any]:
    """In float16: no further from the truth than plain torch operations under autocast."""
    case = load(name)
    ours, plain = (deviation(case.computed(torch.float16, backend), case.truth) for backend in ("auto", "torch"))
    for key, value in ours.items():
        bound = max(HALF, HALF_VS_AUTOCAST * plain[key])
        require(value <= bound, f"{key} deviates by {value:.1e}; plain torch by {plain[key]:.1e}")
    worst = max(ours, key=ours.__getitem__)
    return {"float16 deviation": ours[worst], "plain torch's": plain[worst], "of": worst}


def main() -> None:
    """Check every case."""
    checks, device = Checks(), "cpu" if rehearsing() else "cuda"
    names = REHEARSED if rehearsing() else sorted(path.stem for path in GOLDEN.glob("*.pth"))
    with tempfile.TemporaryDirectory() as folder:
        load = cache(partial(Case, folder=Path(folder), device=device))
        for name in names:
            backends: tuple[Backend, ...] = ("torch",) if rehearsing() else ("torch", "auto")
            for backend in backends:
                kernels = "plain torch" if backend == "torch" else "kernels"
                checks.run(f"{name} float32 {kernels}", partial(exact, load, name, backend))
            checks.run(f"{name} float32 as PyTorch sets it", partial(as_torch_sets_it, load, name, backends[-1]))
            checks.run(f"{name} float16", partial(half, load, name))
    checks.end()


if __name__ == "__main__":
    main()
