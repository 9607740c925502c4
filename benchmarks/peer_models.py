"""The models of ``benchmarks.peers``: log-mel chunks of 2 s in, tokens or an embedding out, with random weights.

A process holds one: ``python -m benchmarks.peer_models NAME THREADS OF``, or makes what two of them read: ``python -m
benchmarks.peer_models export PATH VARIANT``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.subjects import MOST_CHUNKS, own_calls, serve

Call = Callable[[int], object]


def ours(threads: int, variant: str) -> Call:
    """The encoder as it runs in this package."""
    return own_calls(variant, threads)["tokens"]


def released(threads: int, path: str) -> Call:
    """The authors' AxLSTM-T of E=3, from a clone of their repository (SarthakYadav/axlstm-official)."""
    sys.path.insert(0, path)
    from src.models import xlstm_ssast_tiny  # theirs

    model = xlstm_ssast_tiny(img_size=(200, 80), patch_size=(4, 16), frequency_first=False, expansion_factor=3)
    return _of_images(model.eval().forward_features, 200, 80)


def onnx_runtime(threads: int, path: str) -> Call:
    """An export of our encoder in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return _of_arrays(lambda mel: session.run(None, {"mel": mel}))


def open_vino(threads: int, path: str) -> Call:
    """The same file in OpenVINO, in float32."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return _of_arrays(openvino.Core().compile_model(path, "CPU", settings))


def transformer(threads: int, shape: str) -> Call:
    """A vision transformer of timm: "vit-t" on our 251 tokens, "ced-tiny" on the 48 of CED-tiny."""
    from timm.models.vision_transformer import VisionTransformer

    size, patch, class_token = {"vit-t": ((200, 80), (4, 16), True), "ced-tiny": ((192, 64), (16, 16), False)}[shape]
    heads = {"num_heads": 3, "num_classes": 0, "class_token": class_token, "global_pool": "avg"}
    model = VisionTransformer(size, patch, in_chans=1, embed_dim=192, depth=12, **heads)
    return _of_images(model.eval(), *size)


def efficient_at(threads: int, width: str) -> Call:
    """The MobileNetV3 that EfficientAT's mn04 and mn10 are, on 128 bands and 200 frames."""
    from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf

    layers, last = _mobilenet_v3_conf("mobilenet_v3_large", width_mult=float(width))
    model = MobileNetV3(layers, last)
    first = model.features[0][0]
    model.features[0][0] = nn.Conv2d(1, first.out_channels, 3, stride=2, padding=1, bias=False)
    return _of_images(model.eval(), 128, 200)


MODELS: dict[str, Callable[[int, str], Call]] = {
    function.__name__: function for function in (ours, released, onnx_runtime, open_vino, transformer, efficient_at)
}


def export(path: str, variant: str) -> None:
    """Write the plain torch operations of our encoder to an ONNX file, mel (batch, 200, 80) to tokens, whose batch is free.

    ONNX has no running maximum, which is written as one over a masked square, and no exponents of floats; the scale that
    needs them is for float16 alone.
    """
    from benchmarks.encoders import active_encoder

    encoder = _Plain(active_encoder(variant))
    shapes = ({0: torch.export.Dim("batch")},)
    names = {"input_names": ["mel"], "output_names": ["tokens"]}
    with (
        torch.no_grad(),
        mock.patch("torch.Tensor.cummax", _running_maximum),
        mock.patch("hear_axlstm.ops.mlstm.power_of_two", lambda mix, heads: torch.ones(heads)),
    ):
        example = (torch.randn(2, 200, 80),)
        torch.onnx.export(encoder, example, path, dynamo=True, external_data=False, dynamic_shapes=shapes, **names)


class _Plain(nn.Module):
    """The encoder by plain torch operations."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, mel: Tensor) -> Tensor:
        return self.encoder(mel, backend="torch")


def _running_maximum(x: Tensor, dim: int) -> object:
    index = torch.arange(x.shape[-1])
    values = x.unsqueeze(-2).masked_fill(index > index[:, None], -torch.inf).amax(-1)
    return torch.return_types.cummax((values, values))


def _of_images(model: Callable[[Tensor], Tensor], height: int, width: int) -> Call:
    images = torch.randn(MOST_CHUNKS, 1, height, width)
    return torch.no_grad()(lambda batch: model(images[:batch]))


def _of_arrays(model: Callable[..., object]) -> Call:
    chunks = torch.randn(MOST_CHUNKS, 200, 80).numpy()
    return lambda batch: model(chunks[:batch])


if __name__ == "__main__":
    if sys.argv[1] == "export":
        sys.exit(export(*sys.argv[2:]))
    torch.set_num_threads(int(sys.argv[2]))
    with redirect_stdout(sys.stderr):  # the exporter says how far it is
        model = MODELS[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
    serve({"call": model})
