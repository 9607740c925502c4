"""Changed copies are found as the page of documentation says."""

from pathlib import Path

from benchmarks.duplicates import COPIES, DIFFERENT, THRESHOLDS, measure
from benchmarks.page import PAGE, page
from benchmarks.records import RESULTS, read_records, rows_table
from hear_axlstm import load_model
from hear_axlstm.synthesis.corpus import random_clip

DOCS = Path(__file__).parents[2] / "docs" / "explore.md"


def test_a_changed_copy_is_nearer_than_another_sound():
    waves = [random_clip("procedural", 0, index, 1.5) for index in range(2)]
    rows = measure(waves, [0], load_model())
    assert all(row["copy"].startswith(name) for row, name in zip(rows, [*COPIES, DIFFERENT], strict=True))
    assert rows[0]["median cosine"] > "0.99"
    assert [rows[0][f"> {above}"] for above in THRESHOLDS] == ["100"] * 4
    assert [rows[-1][f"> {above}"] for above in THRESHOLDS] == ["*0*"] * 4
    assert all(" kbit/s" in row["copy"] for row in rows[2:5])


def test_the_pages_tell_what_was_measured():
    record = read_records(RESULTS / "duplicates.json")[-1]
    assert rows_table(record["duplicates"]) in DOCS.read_text()
    assert PAGE.read_text() == page()
