"""ONNX: a model as one file, from waveform to embedding, for ONNX Runtime and whatever else reads ONNX."""

from __future__ import annotations

import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import CHUNK_FRAMES, HOP, MIN_SAMPLES, SAMPLE_RATE, check_choice, require
from hear_axlstm.doors.torch_export import Exportable, What, exportable, fixed_samples, program
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import BackendError, HearAxlstmError
from hear_axlstm.frontend import log_mel
from hear_axlstm.hear import load_model, unwrapped
from hear_axlstm.storage import replacing, sweep
from hear_axlstm.version import __version__
from hear_axlstm.weights.load import METADATA_KEY
from hear_axlstm.weights.save import fingerprint

OPSET = 18  # the lowest that torch writes
DEVIATION = 1e-5  # from torch, at most: the norm of the difference of a clip's embeddings over theirs
PACKAGES = "onnx", "onnxscript", "onnxruntime"
INPUTS = ["audio", "lengths"]
OUTPUTS = {"scene": ["embeddings"], "timestamps": ["embeddings", "timestamps"], "tokens": ["tokens"]}
AXES = {"scene": ["batch"], "timestamps": ["batch", "steps"], "tokens": ["batch", "tokens"]}  # of the outputs
ONE_AT_A_TIME = Lock()  # torch's exporters keep what they are doing in one place for all threads


def export(
    model: Embedder | str | os.PathLike[str],
    path: str | os.PathLike[str],
    what: What = "scene",
    seconds: float | None = None,
) -> float:
    """Write a model as an ONNX file that takes waveforms, and return how far ONNX Runtime is from torch with it.

    model: what ``load_model`` returns, or takes as its first argument; its layout holds, it is exported in float32 whatever
    its precision and device, and stays as it is. path: NAME.onnx, which is replaced if it is there.

    Inputs of the graph: "audio" (batch, samples), float32, mono at 16 kHz in [-1, 1]; "lengths" (batch,), int64: samples of
    each clip, from 201 to ``samples``; all of them ``samples`` where no clip is padded.

    what: the outputs, float32.
    - "scene": "embeddings" (batch, size), as ``get_scene_embeddings``;
    - "timestamps": "embeddings" (batch, steps, size) and "timestamps" (batch, steps) in ms, as ``get_timestamp_embeddings``;
      0 and NaN beyond a clip;
    - "tokens": "tokens" (batch, tokens, width), those of one chunk of 2 s after the other, time-major: token l covers patch
      column l // rows of the clip and patch row l % rows; 0 in chunks beyond a clip.
    seconds: fixes ``samples`` at 16,000 * seconds, for runtimes that want to know every size but the batch's.

    Before the file gets its name, ONNX Runtime runs it on a CPU beside torch: short, long, ragged and silent clips. The
    largest deviation is returned: the norm of the difference of a clip's embeddings over the norm of theirs.

    Raises ConfigError on a bad argument and where the extra [onnx] is missing, WeightsError on weights that cannot be had or
    are not those of an encoder, BackendError when the graph cannot be made or run or deviates by more than 1e-5, and OSError
    when the file cannot be written. Nothing is written then.
    """
    target = Path(path)
    require(target.suffix == ".onnx", f"the file is {str(target)!r}; expected NAME.onnx")
    require(not target.is_dir(), f"{str(target)!r} is a folder; expected the name of a file")
    check_choice("what", what, What)
    fixed_samples(seconds)
    missing = [name for name in PACKAGES if not _can_import(name)]
    require(not missing, f"ONNX needs {', '.join(missing)}: pip install 'hear-axlstm[onnx]'")
    given = load_model(model) if isinstance(model, str | os.PathLike) else unwrapped(model)
    sweep(target.parent)
    with replacing(target) as temporary:
        graph = _converted(given, what, seconds)
        facts: dict[str, Any] = {"config": given.encoder.config.to_dict(), "layout": given.layout, "what": what}
        facts |= {"seconds": seconds, "weights": fingerprint(given.encoder), "version": __version__}
        _describe(graph, what, facts)
        temporary.write_bytes(graph.SerializeToString())
        try:
            deviation = _deviation(temporary, exportable(given, what), seconds)
        except Exception as error:  # whatever ONNX Runtime raises
            raise BackendError(f"ONNX Runtime cannot run what was made ({_cause(error)}); update onnxruntime") from error
        if not deviation <= DEVIATION:  # NaN, too
            raise BackendError(
                f"ONNX Runtime deviates from torch by {deviation:.1e}; expected {DEVIATION:.0e} at most: nothing is "
                "written; other versions of onnxscript, onnxruntime or torch may do better"
            )
    return deviation


def _can_import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _converted(model: Embedder, what: What, seconds: float | None) -> Any:
    """The graph, an onnx.ModelProto. Raises BackendError."""
    options: dict[str, Any] = {"input_names": INPUTS, "output_names": OUTPUTS[what], "opset_version": OPSET}
    with ONE_AT_A_TIME, _quiet(), torch.autocast("cpu", enabled=False):
        try:
            made = torch.onnx.export(program(model, what, seconds), dynamo=True, verbose=False, **options)
        except HearAxlstmError:
            raise
        except Exception as error:  # whatever torch's exporters raise
            known = "torch 2.13 and onnxscript 0.7 do, as far as is known"
            raise BackendError(f"torch {torch.__version__} cannot write ONNX of this ({_cause(error)}); {known}") from error
    assert made is not None
    return made.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Let torch.onnx keep to itself what it says of its own insides, and of packages that nobody needs here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _describe(graph: Any, what: What, facts: dict[str, Any]) -> None:
    """Name the dynamic axes, add our header, and drop what says where on this machine each node came from."""
    graph.metadata_props.add(key=METADATA_KEY, value=json.dumps(facts))
    for node in _nodes(graph.graph):
        del node.metadata_props[:]
        node.doc_string = ""
    for function in graph.functions:
        for node in function.node:
            del node.metadata_props[:]
    del graph.graph.value_info[:]  # shapes in between, which a runtime infers
    axes = [*(["batch", "samples"], ["batch"]), *([AXES[what]] * len(OUTPUTS[what]))]
    for value, names in zip([*graph.graph.input, *graph.graph.output], axes, strict=True):
        for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            if axis.HasField("dim_param"):
                axis.dim_param = name


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _deviation(path: Path, module: Exportable, seconds: float | None) -> float:
    """How far ONNX Runtime is from torch: the largest of all clips of ``_batches`` and all outputs."""
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    largest = 0.0
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        for audio, lengths in _batches(fixed_samples(seconds)):
            found = session.run(None, {"audio": audio.numpy(), "lengths": np.array(lengths, np.int64)})
            for ours, truth in zip(map(torch.from_numpy, found), _truth(module, audio, lengths), strict=True):
                if ours.shape != truth.shape or not torch.equal(ours.isnan(), truth.isnan()):
                    return float("inf")
                (ours, truth) = (x.nan_to_num(nan=0.0).double().flatten(1) for x in (ours, truth))
                largest = max(largest, float(((ours - truth).norm(dim=1) / truth.norm(dim=1)).max()))
    return largest


def _batches(samples: int | None) -> Iterator[tuple[Tensor, list[int]]]:
    """Noise of several shapes, with what lies beyond a clip at its loudest, and silence; all of ``samples`` if given."""
    generator = torch.Generator().manual_seed(0)
    chunk = CHUNK_FRAMES * HOP
    shapes = [[samples], [samples, MIN_SAMPLES, (samples + MIN_SAMPLES) // 2]] if samples else [
        [MIN_SAMPLES], [chunk - HOP], [chunk], [2 * chunk + 12_345, MIN_SAMPLES, chunk + 7], [5_000, 4_000]
    ]  # fmt: skip
    for lengths in shapes:
        audio = torch.rand(len(lengths), max(lengths), generator=generator, dtype=torch.float32) - 0.5
        beyond = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
        yield audio.masked_fill(beyond, 1.0), lengths
    yield torch.zeros(1, samples or SAMPLE_RATE, dtype=torch.float32), [samples or SAMPLE_RATE]


def _truth(module: Exportable, audio: Tensor, lengths: list[int]) -> tuple[Tensor, ...]:
    """What the package itself gives, by plain torch operations."""
    encoder = module.encoder
    model = Embedder(encoder, layout=module.layout, precision="float32", backend="torch")
    if module.what == "scene":
        return (model(audio, lengths),)
    if module.what == "timestamps":
        return model.timestamps(audio, lengths)
    mel = log_mel(audio, lengths)
    chunks = F.pad(mel, (0, 0, 0, -mel.shape[1] % CHUNK_FRAMES)).unflatten(1, (-1, CHUNK_FRAMES))
    own = [1 + length // HOP // CHUNK_FRAMES for length in lengths]
    beyond = torch.arange(chunks.shape[1]) >= torch.tensor(own)[:, None]
    tokens = torch.stack([encoder(of_clip, backend="torch") for of_clip in chunks])  # (B, chunks, L, D)
    return (tokens.masked_fill(beyond[:, :, None, None], 0.0).flatten(1, 2),)
