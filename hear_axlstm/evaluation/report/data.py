"""Summary -> data for other programs: CSV, a row a model and task, and JSON, everything."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from hear_axlstm.evaluation.report.rows import Column, Row
from hear_axlstm.evaluation.report.summary import Section, Summary
from hear_axlstm.storage import strict_json

SCHEMA = 1
COLUMNS = (
    "protocol",
    "protocol_sha256",
    "origin",
    "model",
    "engine",
    "weights_sha256",
    "parameters",
    "task",
    "metric",
    "unit",
    "mean",
    "ci95",
    "n",
    "status",
    "remark",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula


def to_csv(summary: Summary) -> str:
    """The scores as CSV, a row a model and task.

    origin: "results", or where it was published. status: "ok", or a Gap's kind. remark: why, or how the task differs.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section in summary.sections:
        for row in (*section.rows, *(row for row in section.other_rows if row not in section.rows)):
            for column in section.columns:
                if column.task in row.cells or column.task in row.gaps:
                    writer.writerow(_record(section, row, column))
    return file.getvalue()


def _record(section: Section, row: Row, column: Column) -> dict[str, Any]:
    cell, gap = row.cells.get(column.task), row.gaps.get(column.task)
    remarks = [gap.reason] if gap is not None else []
    if cell is not None and cell.differences and column.is_hears:
        what = "a synthesised imitation, which compares with nothing published" if cell.imitated else "not as in HEAR"
        remarks.append(f"{what}: {'; '.join(cell.differences)}")
    origin = "results" if row.ours or section.table is None else section.table.title
    metric = cell.metric if cell is not None else column.metric
    return {
        "protocol": _text(section.protocol),
        "protocol_sha256": section.sha256,
        "origin": origin,
        "model": _text(row.model),
        "engine": row.engine,
        "weights_sha256": row.weights_sha256,
        "parameters": row.parameters,
        "task": _text(column.task),
        "metric": _text(metric),
        "unit": "%" if cell is not None and cell.percent else "",
        "mean": cell and cell.estimate.mean,
        "ci95": cell and cell.estimate.ci95,
        "n": cell and cell.estimate.n,
        "status": gap.kind if gap is not None else "ok",
        "remark": _text("; ".join(remarks)),
    }


def _text(text: str) -> str:
    """The text, quoted where a spreadsheet would run it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def to_json(summary: Summary) -> str:
    """The whole summary as strict JSON. Floats that are not finite are strings: "NaN", "Infinity"."""
    found = asdict(summary)
    for section in found["sections"]:
        if section["table"] is not None:
            del section["table"]["models"]  # "published" has them
    return strict_json({"schema": SCHEMA, **found})
