"""Large parquet folders: how long a run takes to see what is done, and what that costs in memory. No audio is needed.

python -m benchmarks.collection 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow

from hear_axlstm.config import VARIANTS, config_from_dict
from hear_axlstm.files.parquet import FLUSH_ROWS, ParquetFolder
from hear_axlstm.files.parts import Parts
from hear_axlstm.files.rows import COLUMNS, schema_of
from hear_axlstm.files.sounds import Source

SIZE, MODIFIED = 320_044, 1_700_000_000_000_000_000  # of every sound


def settings_of(variant: str = "axlstm-tiny") -> dict[str, object]:
    """The settings of a folder of scene embeddings of a variant, of weights that are nobody's."""
    return {
        "weights_sha256": "0" * 64,
        "architecture": VARIANTS[variant].to_dict(),
        "embeddings": "scene",
        "layers": None,
        "layout": "time",
        "precision": "float32",
        "format": "parquet",
        "pad_short": None,
        "columns": COLUMNS["scene"],
        "centring": None,
    }


def name_of(number: int) -> str:
    """The name of a sound, in folders of a thousand."""
    return f"archive/{number // 1_000:06}/recording-{number:09}.wav"


def source_of(number: int) -> Source:
    return Source(f"/data/{name_of(number)}", SIZE, MODIFIED)


def write_folder(folder: Path, rows: int, *, variant: str = "axlstm-tiny", per_part: int = FLUSH_ROWS) -> None:
    """Write a folder such as ``embed`` leaves after so many sounds, with random embeddings. Ten times as fast as a disk."""
    settings, random = settings_of(variant), np.random.default_rng(0)
    folder.mkdir(parents=True)
    parts, schema = Parts(folder, settings), schema_of(settings)
    size = config_from_dict(settings["architecture"]).embedding_size
    values = random.standard_normal((per_part, size), np.float32)
    begun: list[Path] = []
    for start in range(0, rows, per_part):
        count = min(per_part, rows - start)
        names = [name_of(number) for number in range(start, start + count)]
        own = values[:count] + random.standard_normal((count, 1), np.float32)
        columns = {
            "name": names,
            "folder": [name.rpartition("/")[0] for name in names],
            "seconds": np.full(count, 10.0),
            "sample_rate": np.full(count, 16_000.0),
            "path": [f"/data/{name}" for name in names],
            "size": np.full(count, SIZE),
            "modified": pyarrow.array(np.full(count, MODIFIED), pyarrow.timestamp("ns")),
            "error": pyarrow.nulls(count, pyarrow.string()),
            "embedding": pyarrow.ListArray.from_arrays(
                pyarrow.array(np.arange(0, own.size + 1, size), pyarrow.int32()), own.ravel()
            ).cast(schema.field("embedding").type),
        }
        begun.append(parts.new(begun))
        parts.write(begun[-1], pyarrow.table(columns, schema=schema))


def measure(folder: Path, rows: int) -> dict[str, float]:
    """What it takes to open a folder and to ask whether each of its sounds is done."""
    before, began = _resident(), time.perf_counter()
    opened = ParquetFolder(folder, settings_of())
    seconds, held = time.perf_counter() - began, _resident() - before
    began = time.perf_counter()
    assert all(opened.is_done(name_of(number), source_of(number)) for number in range(rows))
    asked = time.perf_counter() - began
    began = time.perf_counter()
    assert opened.gone() == opened.close() == []
    return {
        "rows": rows,
        "files": len(list(folder.iterdir())),
        "open_seconds": round(seconds, 2),
        "asked_seconds": round(asked, 2),
        "end_seconds": round(time.perf_counter() - began, 2),
        "bytes_a_row": round(held / rows, 1),
        "table_bytes_a_row": round(opened._known.nbytes / rows, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Each number of rows in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="one that is measured as it is, of so many rows")
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure(arguments.folder, arguments.rows[0])))
        return
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "out"
            began = time.perf_counter()
            write_folder(folder, rows)
            print(f"{rows:,} rows written in {time.perf_counter() - began:.1f} s", flush=True)
            command = [sys.executable, "-m", "benchmarks.collection", str(rows), "--folder", str(folder)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
