"""benchmarks/README.md from the results beside it: ``python -m benchmarks.page``."""

import json
import statistics

from benchmarks import scale, start
from benchmarks.encoders import EndToEnd, Rate, end_to_end_table, rates_table
from benchmarks.gpu.report import sections
from benchmarks.pretraining import COLUMNS
from benchmarks.records import RESULTS, read_records, rows_table, table

PAGE = RESULTS.parent / "README.md"
HEAD = """# Measured

This page is made by `python -m benchmarks.page` from `results/`, which these commands fill:

    python -m benchmarks.encoders -o benchmarks/results/encoders.json    # encoders, and embedding a folder of files
    python -m benchmarks.kernels                                         # each Triton kernel beside plain torch, on CUDA
    python -m benchmarks.pretraining                                     # training clips a second
    python -m benchmarks.evaluation                                      # the native evaluator beside hear-eval-kit
    python -m benchmarks.busy                                            # beside busy processes on the same processors
    python -m benchmarks.latency                                         # a call beside its matrix products alone
    python -m benchmarks.streams                                         # sound as it comes: a push, and many streams
    python -m benchmarks.stream_statistics open/sound/* --apart open/apart   # a stream's embeddings beside the offline ones
    python -m benchmarks.context open/apart                              # streams whose state goes on over chunks
    python -m benchmarks.start                                           # from the start of a process to what it is for
    python -m benchmarks.peers                                           # beside other encoders and runtimes
    python -m benchmarks.exported                                        # ONNX files beside our own path on a CPU
    python -m benchmarks.long                                            # ten hours under a memory limit
    python -m benchmarks.scale                                           # up to a million files, and each stage alone
    python -m benchmarks.search                                          # an index of a million embeddings
    python -m benchmarks.duplicates                                      # which changed copies of a sound are found
    python -m benchmarks.kills                                           # a collection, and a kill; with Ray: make test-ray
    make gpu OUT=benchmarks/results                                      # everything on a GPU: see GPU.md

`python -m benchmarks.versions compare` holds embeddings, gradients and scores against those that version c334b76 recorded.

Medians after a warm-up, on inputs that no cache holds, beside plain torch operations ("eager") in the same run. A chunk is
2 s. Deviation is the norm of the difference from float32 tokens relative to theirs, with random weights whose gates and
decays are at work. The numbers of one machine are those of its day: compare ratios within a run. Evaluation: on a CPU
seconds are those of the processors, of one thread, and the kit's include its imports, about 5 s.
"""


def evaluation_row(row):
    """The cells of the page for one task's shape in evaluation.json."""
    cells = {
        "task's shape": row["case"],
        "protocol": row["protocol"],
        "seeds": row["seeds"],
        "s a seed": row["seconds"],
        "score": f"{statistics.mean(row['scores']):.4f}",
        "GiB": row["GiB"],
        "kit's seeds": row.get("kit_seeds"),
        "kit's s a seed": row.get("kit_seconds"),
        "kit's score": f"{statistics.mean(row['kit_scores']):.4f}" if "kit_scores" in row else None,
        "speed-up": row.get("speed-up"),
    }
    return {name: "" if cell is None else str(cell) for name, cell in cells.items()}


def heading(record):
    """The machine, the date and the versions of a record."""
    versions = [
        f"{name} {record[name]}" for name in ("driver", "torch", "triton", "numba", "pytorch-lightning") if record.get(name)
    ]
    return f"{record['device']}, {record['date']} ({', '.join(versions)})"


def page():
    """The whole page, in Markdown."""
    parts = [HEAD]
    for record in read_records(RESULTS / "encoders.json"):
        parts.append(f"## Encoders: {heading(record)}\n\n{rates_table([Rate(**rate) for rate in record['rates']])}")
        if record["end_to_end"]:
            runs = end_to_end_table([EndToEnd(**run) for run in record["end_to_end"]])
            parts.append(f"A folder of files to a folder of embeddings, and where the time went:\n\n{runs}")
    for record in read_records(RESULTS / "kernels.json"):
        rows = [[str(cell) for cell in row.values()] for row in record["kernels"]]
        parts.append(f"## Kernels: {heading(record)}\n\n{table(list(record['kernels'][0]), rows)}")
    training = {}
    for row in read_records(RESULTS / "pretraining.json"):
        training.setdefault(heading(row), []).append([str(row.get(column, "")) for column in COLUMNS])
    for name, rows in training.items():
        parts.append(f"## Training: {name}\n\n{table(COLUMNS, rows)}")
    for record in read_records(RESULTS / "busy.json"):
        parts.append(f"## Beside busy processes: {heading(record)}\n\n{rows_table(record['busy'])}")
    for record in read_records(RESULTS / "latency.json"):
        parts.append(f"## A call beside its matrix products: {heading(record)}\n\n{rows_table(record['latency'])}")
    for record in read_records(RESULTS / "streams.json"):
        tables = f"{rows_table(record['pushes'])}\n{rows_table(record['streams'])}"
        parts.append(f"## Streams, 40 ms at a time: {heading(record)}\n\n{tables}")
    for record in read_records(RESULTS / "stream_statistics.json"):
        tables = "\n".join(map(rows_table, (record["cosines"], record["scores"])))
        parts.append(f"## Streams beside offline embeddings, by statistics: {heading(record)}\n\n{tables}")
    for record in read_records(RESULTS / "context.json"):
        parts.append(f"## Streams in both contexts: {heading(record)}\n\n{rows_table(record['context'])}")
    for record in read_records(RESULTS / "peers.json"):
        parts.append(f"## Beside other encoders and runtimes: {heading(record)}\n\n{rows_table(record['peers'])}")
    for record in read_records(RESULTS / "evaluation.json"):
        rows = [evaluation_row(row) for row in record["evaluation"]]
        parts.append(f"## Evaluation: {heading(record)}\n\n{table(list(rows[0]), [list(row.values()) for row in rows])}")
    for record in read_records(RESULTS / "start.json"):
        rows = [[row[column] for column in start.COLUMNS] for row in record["start"]]
        parts.append(f"## Start: {heading(record)}\n\n{table(start.COLUMNS, rows)}")
    for record in read_records(RESULTS / "exported.json"):
        table_of_record = rows_table(record["exported"])
        parts.append(f"## ONNX files: {heading(record)}, onnxruntime {record['onnxruntime']}\n\n{table_of_record}")
    for record in read_records(RESULTS / "long.json"):
        row = {name.replace("_", " "): str(value) for name, value in record["long"].items()}
        parts.append(
            f"## A long recording under a memory limit: {heading(record)}\n\n{table(list(row), [list(row.values())])}"
        )
    for record in read_records(RESULTS / "scale.json"):
        tables = "\n".join(f"{name}:\n\n{rows_table(rows)}" for name, rows in scale.tables(record).items())
        where = f"{heading(record)}, Ray {record['ray']}; {record['note']}"
        parts.append(f"## Up to a million files: {where}\n\n{tables}")
    for record in read_records(RESULTS / "duplicates.json"):
        what = f"a copy of {record['clips']} sounds by each change, and the pairs of {record['sounds']:,}"
        parts.append(f"## Copies that are found, in %: {heading(record)}, {what}\n\n{rows_table(record['duplicates'])}")
    for record in read_records(RESULTS / "kills.json"):
        what = f"{record['files']:,} files, Ray {record['ray']}"
        parts.append(f"## A collection, and what a kill costs: {heading(record)}, {what}\n\n{rows_table(record['kills'])}")
    if (on_gpu := RESULTS / "gpu.json").exists():
        parts += ["## Checked and measured on a GPU\n", *sections(json.loads(on_gpu.read_text(encoding="utf-8")), "###")]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
