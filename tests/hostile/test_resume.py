"""Runs that are repeated, killed, or side by side: whatever happens between them, each embedding is of its source."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas
import pyarrow.parquet
import pytest
import soundfile

from hear_axlstm import embed, storage
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import OutputError
from hear_axlstm.files import decode, open_folder, parquet, plan
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.rows import FACTS
from hear_axlstm.files.sounds import Source
from hear_axlstm.storage import claim_folder, replacing, sweep
from tests.conftest import tone
from tests.hostile.conftest import held, parquet_rows
from tests.tolerances import BATCH_MATES

NAMES = ["a.wav", "b.flac", "below/c.ogg"]
VECTOR = np.ones(4, np.float32)
SETTINGS = {"embeddings": "scene", "format": "parquet"}


@pytest.fixture
def run(model, sound_folder, tmp_path, format):
    return lambda **options: embed([sound_folder], model, out=tmp_path / "out", format=format, **options)


def assert_current(folder, sound_folder, model):
    """Every embedding is of its source as that is now."""
    expected = embed([sound_folder], model)
    found = held(folder)
    assert sorted(found) == sorted(expected.embedded)
    for name, embedding in zip(expected.embedded, expected.embeddings, strict=True):
        np.testing.assert_allclose(found[name], embedding, rtol=0, atol=BATCH_MATES)


# What counts as done


def replaced_by_an_older_file(path):
    soundfile.write(path, tone(999, 1.3), SAMPLE_RATE)
    os.utime(path, (1, 1))


def of_the_same_size_a_nanosecond_later(path):
    before = path.stat()
    soundfile.write(path, tone(999, 1.3), SAMPLE_RATE)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def longer_with_its_old_time(path):
    before = path.stat()
    soundfile.write(path, tone(999, 1.7), SAMPLE_RATE)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [replaced_by_an_older_file, of_the_same_size_a_nanosecond_later, longer_with_its_old_time]
)
def test_whatever_has_changed_is_embedded_again(run, model, sound_folder, tmp_path, change):
    assert run().embedded == NAMES
    change(sound_folder / "a.wav")
    assert run().embedded == ["a.wav"]
    assert run().skipped == NAMES
    assert_current(tmp_path / "out", sound_folder, model)


def test_a_source_replaced_after_it_was_decoded_is_embedded_by_the_next_run(run, model, sound_folder, tmp_path, monkeypatch):
    real = decode.read_unless_longer

    def read(path, *rest):
        wave = real(path, *rest)
        if path.name == "a.wav":
            soundfile.write(path, tone(999, 1.3), SAMPLE_RATE)
        return wave

    monkeypatch.setattr(decode, "read_unless_longer", read)
    assert run().embedded == NAMES
    monkeypatch.setattr(decode, "read_unless_longer", real)
    assert run().embedded == ["a.wav"]
    assert_current(tmp_path / "out", sound_folder, model)


def test_a_source_that_vanishes_after_it_was_decoded_is_embedded_all_the_same(run, sound_folder, tmp_path, monkeypatch):
    real = decode.read_unless_longer

    def read(path, *rest):
        wave = real(path, *rest)
        path.unlink()
        return wave

    monkeypatch.setattr(decode, "read_unless_longer", read)
    result = run()
    assert (result.embedded, result.failures) == (NAMES, {})
    assert sorted(held(tmp_path / "out")) == NAMES


@pytest.mark.parametrize("keep", [0, 10, 200])
@pytest.mark.parametrize("suffix", [".embedding.npy", ".timestamps.json"])
def test_an_output_that_is_empty_or_cut_is_made_again(model, sound_folder, tmp_path, keep, suffix):
    again = lambda: embed([sound_folder], model, out=tmp_path, timestamps=True)  # noqa: E731
    again()
    path = tmp_path / f"a.wav{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert again().embedded == ["a.wav"]
    assert path.read_bytes() == whole
    path.write_bytes(bytes(len(whole)))  # power was lost before its content reached the disk
    assert again().embedded == ["a.wav"]
    path.unlink()
    assert again().embedded == ["a.wav"]
    assert again().skipped == NAMES


def test_moving_a_folder_of_embeddings_changes_nothing(run, model, sound_folder, tmp_path, format):
    run()
    shutil.copytree(tmp_path / "out", tmp_path / "copy")  # with other times
    assert embed([sound_folder], model, out=tmp_path / "copy", format=format).skipped == NAMES


def test_outputs_record_what_they_are_of(run, sound_folder, tmp_path, format):
    run()
    status = (sound_folder / "a.wav").stat()
    if format == "npy":
        lines = [json.loads(line) for line in (tmp_path / "out" / "_embed.jsonl").read_text().splitlines()]
        (row,) = [line for line in lines if line["name"] == "a.wav"]
        assert row["bytes"] == [(tmp_path / "out" / "a.wav.embedding.npy").stat().st_size]
    else:
        (row,) = [row for row in parquet_rows(tmp_path / "out") if row["name"] == "a.wav"]
        assert list(row) == [*FACTS, "error", "embedding"]
        assert (row["folder"], row["seconds"], row["error"]) == (sound_folder.name, 1.3, None)
        row["modified"] = row["modified"].value
    expected = (str(sound_folder / "a.wav"), status.st_size, status.st_mtime_ns)
    assert (row["path"], row["size"], row["modified"]) == expected


def test_other_readers_take_the_folder_as_it_is(run, tmp_path, format):
    run()
    if format == "parquet":
        assert sorted(pandas.read_parquet(tmp_path / "out")["name"]) == NAMES


# The ledger


def test_a_ledger_that_was_cut_loses_one_line(model, sound_folder, tmp_path):
    run = lambda: embed([sound_folder], model, out=tmp_path)  # noqa: E731
    run()
    ledger = tmp_path / "_embed.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-9])
    (last,) = run().embedded
    assert run().skipped == NAMES
    ledger.write_bytes(b'nonsense\n[1]\n{"name": 5}\n\xff\xfe\n' + ledger.read_bytes())
    assert run().skipped == NAMES
    assert last in NAMES
    ledger.unlink()
    assert run().embedded == NAMES


@pytest.mark.parametrize(
    "damage",
    [lambda line: b"[" * 100_000, lambda line: line.replace(b'"path": ', b'"path": null, "p": ')],
    ids=["deep", "no path"],
)
def test_a_line_of_the_ledger_that_is_damaged_is_passed_over(model, sound_folder, tmp_path, damage):
    embed([sound_folder], model, out=tmp_path / "o")
    ledger = tmp_path / "o" / "_embed.jsonl"
    first, *others = ledger.read_bytes().splitlines()
    ledger.write_bytes(b"\n".join([damage(first), *others, b""]))
    again = embed([sound_folder], model, out=tmp_path / "o")
    assert (len(again.embedded), len(again.skipped)) == (1, len(others))


def test_a_ledger_that_has_grown_is_written_anew(model, sound_folder, tmp_path):
    run = lambda: embed([sound_folder], model, out=tmp_path)  # noqa: E731
    run()
    ledger = tmp_path / "_embed.jsonl"
    lines = ledger.read_bytes()
    ledger.write_bytes(lines * 3)
    other = open_folder(tmp_path, model)  # it has read the long one
    ledger.write_bytes(lines * 3)
    assert run().skipped == NAMES
    assert sorted(ledger.read_bytes().splitlines()) == sorted(lines.splitlines())
    other.write(Outcome("d.wav", Source("/d.wav", 1, 1)), VECTOR)
    assert run().skipped == NAMES
    assert len(ledger.read_bytes().splitlines()) == 4


def test_a_folder_of_an_earlier_version_is_refused(model, sound_folder, tmp_path):
    (tmp_path / "embed.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds embed\.json, but no _embed\.json .* \(--overwrite\)"):
        embed([sound_folder], model, out=tmp_path)
    assert embed([sound_folder], model, out=tmp_path, overwrite=True).embedded == NAMES
    assert not (tmp_path / "embed.json").exists()


# Parquet parts


def test_a_part_with_any_name_is_part_of_the_data_set(model, sound_folder, tmp_path):
    run = lambda: embed([sound_folder], model, out=tmp_path / "out", format="parquet")  # noqa: E731
    run()
    (part,) = (tmp_path / "out").glob("*.parquet")
    part.rename(tmp_path / "out" / "embeddings-x.parquet")
    soundfile.write(sound_folder / "d.wav", tone(440, 1), SAMPLE_RATE)
    assert run().embedded == ["d.wav"]
    assert sorted(held(tmp_path / "out")) == ["a.wav", "b.flac", "below/c.ogg", "d.wav"]


def test_many_changed_sources_are_forgotten_in_one_pass(model, tmp_path, monkeypatch):
    folder = parquet.ParquetFolder(tmp_path, SETTINGS)
    monkeypatch.setattr(parquet, "FLUSH_ROWS", 100)
    for number in range(1_000):
        folder.write(Outcome(str(number), Source(f"/{number}", 1, 1)), VECTOR)
    folder.close()
    parts = set(tmp_path.glob("*.parquet"))
    assert len(parts) == 10
    again, written = parquet.ParquetFolder(tmp_path, SETTINGS), []
    real = again._files.write
    monkeypatch.setattr(again._files, "write", lambda part, table: [written.append(part), real(part, table)])
    assert not any(again.is_done(str(number), Source(f"/{number}", 1, 2)) for number in range(950))
    assert again.is_done("999", Source("/999", 1, 1))
    assert len(parquet_rows(tmp_path)) == 1_000  # nothing is lost before something is written
    again.write(Outcome("0", Source("/0", 1, 2)), VECTOR)
    again.close()
    assert len(written) == len(set(written)) <= 2  # others held nothing else
    assert sorted(held(tmp_path)) == sorted(["0", *map(str, range(950, 1_000))])


def test_parts_are_written_by_seconds_of_work(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    folder = parquet.ParquetFolder(tmp_path, SETTINGS)
    lost = []
    for second in range(8_000):
        now[0] = float(second)
        folder.write(Outcome(str(second), Source(f"/{second}", 1, 1)), VECTOR)
        lost.append(len(folder._held))  # a kill -9 now would lose as many seconds of work
    folder.close()
    assert max(lost[:40]) <= 2
    assert all(seconds <= min(max(2, 0.05 * second), 10) for second, seconds in enumerate(lost))
    assert len(list(tmp_path.iterdir())) == 2
    assert len(held(tmp_path)) == 8_000


def test_a_foreign_part_is_set_aside(model, sound_folder, tmp_path):
    run = lambda: embed([sound_folder], model, out=tmp_path, format="parquet")  # noqa: E731
    run()
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "embeddings-mine.parquet")
    assert run().skipped == NAMES
    assert (tmp_path.with_name(f"{tmp_path.name}.damaged") / "embeddings-mine.parquet").exists()


# Side by side


def test_two_runs_into_one_folder_lose_nothing(tmp_path, format, model):
    first, second = (open_folder(tmp_path, model, format=format) for _ in range(2))
    for number in range(30):
        for folder, side in ((first, "a"), (second, "b")):
            folder.write(Outcome(f"{side}{number}", Source(f"/{side}{number}", 1, 1)), VECTOR)
            folder.write(Outcome("both", Source("/both", 1, 1)), VECTOR)
            if number % 7 == 0:
                folder.close()
    assert first.close() == second.close() == []
    assert sorted(held(tmp_path)) == sorted(["both", *(f"{side}{n}" for side in "ab" for n in range(30))])
    third = open_folder(tmp_path, model, format=format)
    assert third.is_done("a7", Source("/a7", 1, 1))
    assert third.is_done("b29", Source("/b29", 1, 1))


def test_two_runs_that_find_the_same_changed_source_keep_one_embedding_of_it(tmp_path, format, model):
    open_folder(tmp_path, model, format=format).write(Outcome("x", Source("/x", 1, 1)), VECTOR)
    before = open_folder(tmp_path, model, format=format)
    before.write(Outcome("x", Source("/x", 1, 1)), VECTOR)
    before.close()
    first, second = (open_folder(tmp_path, model, format=format) for _ in range(2))
    for folder in (first, second):
        assert not folder.is_done("x", Source("/x", 1, 2))
    for folder, value in ((first, 2.0), (second, 2.0)):
        folder.write(Outcome("x", Source("/x", 1, 2)), VECTOR * value)
        folder.close()
    assert held(tmp_path)["x"][0] == 2.0


def test_of_two_runs_that_give_one_name_to_two_sources_the_second_fails(tmp_path, format, model):
    first, second = (open_folder(tmp_path, model, format=format) for _ in range(2))
    refused = []
    for folder, path in ((first, "/one/x"), (second, "/two/x")):
        assert not folder.is_done("x", Source(path, 1, 1))
        try:
            folder.write(Outcome("x", Source(path, 1, 1)), VECTOR)
        except OutputError as error:
            refused.append(str(error))
    first.close()
    refused += [outcome.failure for outcome in second.close()]
    (reason,) = refused
    assert reason.startswith("/two/x has the name x in the folder, which is that of /one/x, which is not there any more; ")
    assert list(held(tmp_path)) == ["x"]


def test_simultaneous_runs_keep_every_row(model, sound_folder, tmp_path, format, random_weights):
    command = [sys.executable, "-m", "hear_axlstm", "embed", "-o", tmp_path / "out", "--format", format]
    command += ["--model", random_weights("ssast-tiny")]
    inputs = [[sound_folder], [sound_folder / "a.wav", sound_folder / "below"]]
    runs = [subprocess.Popen([*command, *paths], stderr=subprocess.PIPE) for paths in inputs]
    assert [run.wait() for run in runs] == [0, 0], [run.stderr.read() for run in runs]
    for run in runs:
        run.stderr.close()
    assert sorted(held(tmp_path / "out")) == [*NAMES, "c.ogg"]


def test_starts_at_the_same_time_never_refuse_each_other(tmp_path):
    def start(number):
        header = tmp_path / f"folder{number // 40}" / "header.json"
        claim_folder(header, SETTINGS, ["*.npy"], overwrite=False)
        with replacing(header.parent / f"{number}.npy") as temporary:
            temporary.write_text("whole")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(400)))
    assert len(list(tmp_path.rglob("*.npy"))) == 400
    assert not list(tmp_path.rglob("*.part"))


def test_of_two_starts_with_other_settings_one_is_refused(tmp_path):
    def start(number):
        try:
            claim_folder(tmp_path / str(number // 2) / "header.json", {"seed": number % 2}, [])
        except OutputError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(200))) == 100


# Killed


def test_a_sweep_leaves_what_living_processes_write(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    with replacing(tmp_path / "below" / "x.npy") as mine:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        left = mine.with_name(mine.name.replace(f"-{os.getpid()}.", f"-{dead.pid}."))
        left.touch()
        elsewhere = [mine.with_name(f".{number}2345678-00000000-{os.getpid()}.part") for number in range(2)]
        for path in (*elsewhere, tmp_path / ".mine.part"):
            path.touch()
        os.utime(elsewhere[0], (time.time() - 2 * storage.OLD_PART_SECONDS,) * 2)
        os.utime(tmp_path / ".mine.part", (1, 1))
        sweep(tmp_path)
        assert left.exists()
        sweep(tmp_path, below=True)
        assert set(tmp_path.rglob("*.part")) == {mine, elsewhere[1], tmp_path / ".mine.part"}
    assert (tmp_path / "below" / "x.npy").exists()


def test_temporary_names_are_short(tmp_path):
    with replacing(tmp_path / ("n" * 255)) as temporary:
        assert len(temporary.name) < 40


def test_a_sound_that_was_killed_between_its_files_and_its_line_counts_for_neither_source(model, tmp_path, monkeypatch):
    old, new = Source("/x", 1, 1), Source("/x", 1, 2)
    open_folder(tmp_path, model).write(Outcome("x", old), VECTOR)
    folder = open_folder(tmp_path, model)
    monkeypatch.setattr(folder, "_write_files", lambda outcome, embedding: np.save(tmp_path / "x.embedding.npy", embedding))
    monkeypatch.setattr(folder, "_record", lambda *entry, real=folder._record: real(*entry) if entry[2] == [] else None)
    folder.write(Outcome("x", new), VECTOR * 2)
    for source in (old, new):
        assert not open_folder(tmp_path, model).is_done("x", source)


def test_what_a_plan_saw_is_what_counts(sound_folder):
    (batch,) = plan([sound_folder / "a.wav"]).batches
    status = (sound_folder / "a.wav").stat()
    assert batch[0].source == Source(str(sound_folder / "a.wav"), status.st_size, status.st_mtime_ns)
