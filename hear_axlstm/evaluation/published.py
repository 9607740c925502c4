"""tables/ -> published scores as typed rows: Table 2 of the AxLSTM paper, and HEAR's leaderboard."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from hear_axlstm.evaluation.protocols import PROTOCOLS, Protocol
from hear_axlstm.evaluation.statistics import Estimate
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS

TABLES = Path(__file__).with_name("tables")


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A row of a published table, a model and its scores.

    scores: percent, by task folder; a task that was not published is not there.

    aggregate: the papers' s(m). parameters: None where not known. pretraining: the paper's abbreviation of the data.
    """

    name: str
    scores: Mapping[str, Estimate]
    aggregate: Estimate | None = None
    parameters: int | None = None
    pretraining: str | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """Models that were evaluated with one protocol. date: the newest row's. note: what the numbers mean."""

    title: str
    protocol: str
    source: str
    url: str
    date: str
    note: str
    models: tuple[PublishedModel, ...] = field(repr=False)


@lru_cache
def papers_table() -> PublishedTable:
    """Table 2 of the AxLSTM paper: ten tasks, ten seeds, the authors' grid."""
    found = json.loads((TABLES / "axlstm_table2.json").read_text(encoding="utf-8"))
    models = tuple(
        PublishedModel(
            name=row["model"],
            scores={PAPER_TASKS[key].folder: Estimate(**row["scores"][key], n=10) for key in found["tasks"]},
            aggregate=Estimate(**row["s"], n=10),
            parameters=None if row["params_millions"] is None else round(row["params_millions"] * 1e6),
            pretraining=row["pretraining_data"],
        )
        for row in found["models"]
    )
    return PublishedTable(
        title="Table 2 of the AxLSTM paper",
        protocol="axlstm",
        source=found["source"],
        url="https://arxiv.org/abs/2408.16568",
        date="2025",
        note=f"{found['note']} Pretraining data: AS AudioSet, LL LibriLight, VP VoxPopuli, Mix several.",
        models=models,
    )


@lru_cache
def leaderboard() -> PublishedTable:
    """HEAR's leaderboard: up to 18 tasks, without intervals, upstream's grid. Its beehive column is of no one task here."""
    columns = {task.leaderboard: task.folder for task in KNOWN_TASKS.values() if task.leaderboard is not None}
    with open(TABLES / "hear_leaderboard.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    models = tuple(
        PublishedModel(
            name=row["Model"],
            scores={task: Estimate(100 * float(row[column])) for column, task in columns.items() if row[column]},
            url=row["URL"],
        )
        for row in rows
    )
    return PublishedTable(
        title="HEAR's leaderboard",
        protocol="hear2021",
        source="HEAR leaderboard, docs/leaderboard.csv of github.com/hearbenchmark/hearbenchmark.com",
        url="https://hearbenchmark.com/hear-leaderboard.html",
        date=max(row["Submission Date"] for row in rows if row["Submission Date"][:1].isdigit()),
        note="percent; published without intervals, and some models without some tasks.",
        models=models,
    )


def published_with(protocol: str, sha256: str) -> PublishedTable | None:
    """The table that was published with this very protocol, None where there is none."""
    known: Protocol | None = PROTOCOLS.get(protocol)
    if known is None or known.sha256 != sha256:
        return None
    return next((table for table in (papers_table(), leaderboard()) if table.protocol == protocol), None)
