"""ONNX files beside our own path on a CPU, waveform to scene embedding: ``python -m benchmarks.exported``.

Chunks of 2 s that a second of processor time encodes, on one thread, in a batch of 8: ONNX Runtime, the package as it is
("auto"), and plain torch. Random weights. Beside it what ``export`` takes, the file's size, and how far it is from torch.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hear_axlstm
from benchmarks.encoders import active_encoder
from benchmarks.records import RESULTS, add_record, installed_version, machine, table

VARIANTS = ["axlstm-tiny", "ssam-tiny", "ssast-tiny"]
BATCH, SAMPLES = 8, 31_840  # 200 frames: one chunk each
COLUMNS = ["variant", "onnxruntime", "auto", "torch", "export s", "load s", "MB", "deviation"]


def rate(call: Callable[[], object], runs: int) -> float:
    """Chunks in a second of processor time: the median of runs, after one that warms up."""
    call()
    times = []
    for _ in range(runs):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return BATCH / statistics.median(times)


def measure(variant: str, runs: int) -> dict[str, str]:
    """The row of one variant."""
    import onnxruntime

    model = hear_axlstm.Embedder(active_encoder(variant))
    plain = hear_axlstm.Embedder(model.encoder, backend="torch")
    audio = torch.rand(BATCH, SAMPLES, generator=torch.Generator().manual_seed(0)) - 0.5
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        start = time.process_time()
        deviation = hear_axlstm.export(model, path)
        exporting, start = time.process_time() - start, time.process_time()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        loading = time.process_time() - start
        feed = {"audio": audio.numpy(), "lengths": np.full(BATCH, SAMPLES)}
        rates = [rate(call, runs) for call in (lambda: session.run(None, feed), lambda: model(audio), lambda: plain(audio))]
        size = path.stat().st_size / 1e6
    cells = [variant, *(f"{value:.1f}" for value in rates), f"{exporting:.0f}", f"{loading:.2f}", f"{size:.1f}"]
    return dict(zip(COLUMNS, [*cells, f"{deviation:.0e}"], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=VARIANTS)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "exported.json", help="append the record to this file")
    parser.add_argument("--runs", type=int, default=7, help="measured runs of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(variant, options.runs) for variant in options.variants]
    sys.stdout.write(table(COLUMNS, [list(row.values()) for row in rows]))
    facts: dict[str, Any] = {"onnxruntime": installed_version("onnxruntime"), "exported": rows}
    add_record(options.out, {**machine(torch.device("cpu")), **facts})


if __name__ == "__main__":
    main()
