"""What a run found, as Markdown: the machine, the parts, what failed, and tables of what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.records import table

RELEASED = Path(__file__).with_name("released.json")
BANNER = (
    "**REHEARSAL on a CPU, without a GPU: sizes are tiny, kernels ran in Triton's interpreter or not at all. "
    "No number below says anything about a GPU.**"
)


def page(record: Mapping[str, Any]) -> str:
    """A run's record as a page."""
    title = "# Rehearsal of the checks on a GPU" if record["rehearsal"] else "# Checked and measured on a GPU"
    return "\n".join([title, "", *sections(record)])


def sections(record: Mapping[str, Any], level: str = "##") -> Iterator[str]:
    """The parts of the page below its title."""
    rehearsal = "REHEARSAL: " if record["rehearsal"] else ""
    if rehearsal:
        yield f"{BANNER}\n"
    facts = {name: str(value) for name, value in record["machine"].items()}
    yield f"{level} {rehearsal}Machine\n"
    yield table(["fact", "value"], list(facts.items())) if facts else "Nothing is known yet.\n"
    yield f"{level} {rehearsal}Parts, after {record['seconds']:.0f} s\n"
    yield table(["part", "question", "state", "s", "checks passed", "why"], [_part_row(part) for part in record["parts"]])
    for part in record["parts"]:
        failed = {name: check for name, check in part.get("checks", {}).items() if check["state"] == "failed"}
        if failed or part.get("tail"):
            yield f"{level} {rehearsal}What failed: {part['name']}\n"
            yield "".join(f"- {name}: {check['error']}\n" for name, check in failed.items())
            yield "```text\n{}\n```\n".format("\n".join(part.get("tail", ())))
    for part in record["parts"][1:]:  # the first is about the machine, above
        for columns, rows in _tables(part).items():
            yield f"{level} {rehearsal}{part['name'].capitalize()}\n"
            yield table(["check", *columns, "s"], rows)
    released = json.loads(RELEASED.read_text(encoding="utf-8"))
    yield f"{level} For comparison, another run: the released code, chunks/s\n"
    yield f"{released['source']}\n"
    yield table(released["columns"], released["rows"])


def _part_row(part: Mapping[str, Any]) -> list[str]:
    checks = part.get("checks", {})
    passed = sum(check["state"] == "passed" for check in checks.values())
    count = f"{passed} of {len(checks)}" if checks else ""
    return [part["name"], part["question"], part["state"], f"{part.get('seconds', 0):.0f}", count, part.get("why", "")]


def _tables(part: Mapping[str, Any]) -> dict[tuple[str, ...], list[list[str]]]:
    """The values of a part's checks: columns -> rows of those that have them."""
    found: dict[tuple[str, ...], list[list[str]]] = {}
    for name, check in part.get("checks", {}).items():
        if values := check.get("values"):
            cells = [_cell(value) for value in values.values()]
            found.setdefault(tuple(values), []).append([name, *cells, f"{check['seconds']:.1f}"])
    return found


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
