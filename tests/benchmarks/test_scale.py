"""What grows with the number of files is measured on files that are embedded, by an encoder that does nothing."""

import pytest

from benchmarks import scale, stages
from benchmarks.scale import STEPS, list_of, make
from hear_axlstm import load_embeddings

NAMES = 200


def test_each_step_sees_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "FOLDER", 80)
    root, out = tmp_path / "sounds", tmp_path / "out"
    make(root, NAMES)
    assert [len(list(folder.iterdir())) for folder in sorted(root.iterdir())] == [80, 80, 40]
    assert len(list_of(root).read_text().splitlines()) == NAMES
    found = {step: STEPS[step](root, out, NAMES) for step in STEPS}
    assert "first_batch_seconds" in found["first_run"]
    assert "first_batch_seconds" not in found["second_run"]
    assert (found["open_folder"]["files"], found["open_folder"]["rows_a_file"]) == (1, NAMES)
    assert found["open_folder"]["table_bytes_a_row"] == 37
    assert found["second_run"]["peak_mib"] >= found["second_run"]["base_mib"] > 0
    assert len(load_embeddings(out)) == NAMES


def test_stages_have_rates(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LENGTHS", (0.5,))
    rows = stages.of_files(tmp_path, seconds=0)
    assert [row["kind"] for row in rows] == list(stages.KINDS)
    assert all(row["headers/s"] > row["decoded/s"] > 0 for row in rows)
    assert rows[0]["x real time"] == pytest.approx(rows[0]["decoded/s"] / 2, abs=1)
    (handed,) = stages.of_processes(tmp_path, seconds=0)
    assert handed["clips/s"] > 0
    sink = stages.of_sink(tmp_path / "sink", 300)
    assert 4 * stages.NUMBERS < sink["bytes a row"] < 8 * stages.NUMBERS
