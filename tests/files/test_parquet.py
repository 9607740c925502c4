"""A parquet folder: nothing but parquet, no row lost, none twice, whoever else writes and whatever is killed."""

import errno
import fcntl
import itertools
import os
import resource
import subprocess
import sys

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest

from hear_axlstm import embed, load_embeddings
from hear_axlstm.errors import OutputError
from hear_axlstm.files import folder as folders
from hear_axlstm.files import load, open_folder, parquet, sink
from hear_axlstm.files.known import ASKED, FACT, Known
from hear_axlstm.files.load import read_blocks, read_parquet
from hear_axlstm.files.npy import NpyFolder
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.parquet import ParquetFolder
from hear_axlstm.files.rows import COLUMNS
from hear_axlstm.files.settings import read_settings
from hear_axlstm.files.sounds import Source
from tests.files.test_result import model, sounds  # noqa: F401

SETTINGS = {"embeddings": "scene", "format": "parquet", "layers": None, "seed": 0}
VECTOR = np.arange(4, dtype=np.float32)


def done(name, modified=1, size=1, path=""):
    return Outcome(name, Source(path or f"/{name}", size, modified), VECTOR, seconds=1.5, sample_rate=44_100.0)


def failed(name, why="broken", size=1, modified=1):
    return Outcome(name, Source(f"/{name}", size, modified), failure=why, seconds=float("nan"))


def write(folder, *outcomes):
    """Writes outcomes; each call is a run of its own."""
    opened = ParquetFolder(folder, SETTINGS)
    for outcome in outcomes:
        if outcome.failure:
            opened.write_failure(outcome)
        else:
            opened.write(outcome, outcome.embedding)
    return opened.close()


def rows(folder):
    found = pyarrow.dataset.dataset(folder).to_table().to_pylist()
    assert len({row["name"] for row in found}) == len(found), "a name has several rows"
    return {row["name"]: row for row in found}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# Nothing but parquet


def by_pandas(folder):
    return pytest.importorskip("pandas").read_parquet(folder).to_dict("records")


def by_pyarrow(folder):
    return pyarrow.dataset.dataset(folder).to_table().to_pylist()


def by_duckdb(folder):
    return pytest.importorskip("duckdb").sql(f"from '{folder}/*.parquet'").arrow().read_all().to_pylist()


def by_polars(folder):
    return pytest.importorskip("polars").read_parquet(folder).to_dicts()


@pytest.mark.parametrize("read", [by_pandas, by_pyarrow, by_duckdb, by_polars])
def test_every_reader_takes_the_folder_as_it_is_while_a_run_writes(tmp_path, read, monkeypatch):
    """The first part has failures alone, the second has none, and a killed run has left half of a third."""
    monkeypatch.setattr(parquet, "FLUSH_ROWS", 1)
    write(tmp_path / "out", Outcome("gone", Source("/gone", -1, -1), failure="no such file"))
    write(tmp_path / "out", done("a"))
    beside = tmp_path / ".out.writing"
    beside.mkdir()
    (beside / ".12345678-12345678-1.part").write_text("half")
    found = {row["name"]: row for row in read(tmp_path / "out")}
    assert len(files(tmp_path / "out")) == 2
    assert list(found["a"]) == COLUMNS["scene"]
    assert list(found["a"]["embedding"]) == VECTOR.tolist()
    assert found["gone"]["error"] == "no such file"
    assert found["a"]["sample_rate"] == 44_100
    for column, row in [("error", "a"), *((name, "gone") for name in ("embedding", "size", "seconds", "sample_rate"))]:
        assert found[row][column] is None or found[row][column] != found[row][column]  # or NaN, as pandas has it


def test_a_folder_holds_parquet_alone_and_what_it_was_made_with(model, sounds, tmp_path):  # noqa: F811
    for round in range(2):
        result = embed(sounds, model, out=tmp_path / "out", format="parquet")
        assert all(name.endswith(".parquet") for name in files(tmp_path / "out"))
        assert (files(tmp_path), len(result.skipped)) == (["out", "sounds"], 3 * round)
    settings = read_settings(tmp_path / "out")
    assert (settings["columns"], settings["format"]) == (COLUMNS["scene"], "parquet")
    row = rows(tmp_path / "out")["a.wav"]
    assert (row["seconds"], row["error"]) == (1.3, None)
    (part,) = (tmp_path / "out").iterdir()
    assert b"hear_axlstm" in pyarrow.parquet.read_schema(part).metadata


@pytest.mark.parametrize(("layers", "shape"), [(None, (4,)), ([0, 1], (2, 4))])
@pytest.mark.parametrize("embeddings", ["scene", "timestamp"])
def test_parts_of_failures_alone_have_the_columns_of_all(tmp_path, layers, shape, embeddings, monkeypatch):
    monkeypatch.setattr(parquet, "FLUSH_ROWS", 1)
    settings = SETTINGS | {"layers": layers, "embeddings": embeddings}
    folder = ParquetFolder(tmp_path, settings)
    folder.write_failure(failed("x"))
    steps = None if embeddings == "scene" else np.array([20, 60], np.float32)
    one = np.ones(shape if steps is None else (*shape[:-1], 2, shape[-1]), np.float32)
    folder.write(Outcome("y", Source("/y", 1, 1), one, steps), one)
    folder.close()
    assert len(files(tmp_path)) == 2
    found = by_polars(tmp_path)
    assert [row["name"] for row in found] == (["x", "y"] if steps is None else ["x", "y", "y"])
    assert [np.shape(row["embedding"]) for row in found[1:]] == [shape] * (len(found) - 1)
    stored = {one.name: one for one in read_parquet(tmp_path, steps is not None)}
    assert stored["y"].embedding.shape == one.shape
    assert (stored["x"].embedding, stored["x"].failure) == (None, "broken")


def test_a_damaged_part_is_set_aside_beside_the_folder(tmp_path, caplog):
    write(tmp_path / "out", done("a"))
    (part,) = (tmp_path / "out").iterdir()
    part.write_bytes(b"PAR1")
    write(tmp_path / "out", done("a"))
    assert list(rows(tmp_path / "out")) == ["a"]
    assert files(tmp_path / "out.damaged") == [part.name]
    assert f"set aside as {tmp_path / 'out.damaged' / part.name}" in caplog.text


def test_where_nothing_can_be_written_beside_a_folder_parts_are_hidden_in_it(tmp_path):
    (tmp_path / ".out.writing").write_text("a file of somebody's")
    write(tmp_path / "out", done("a"))
    write(tmp_path / "out", done("b"))
    assert list(rows(tmp_path / "out")) == ["a", "b"]
    assert len(files(tmp_path / "out")) == 1
    left = tmp_path / "out" / ".12345678-00000000-1.part"
    left.touch()
    os.utime(left, (1, 1))
    write(tmp_path / "out")
    assert len(files(tmp_path / "out")) == 1


def test_a_full_disk_costs_what_was_not_written_yet(tmp_path):
    write(tmp_path / "out", *(done(f"a{number}") for number in range(100)))
    folder = ParquetFolder(tmp_path / "out", SETTINGS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            list(sink(iter([done("b")]), folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(rows(tmp_path / "out")) == 100
    assert len(files(tmp_path / "out")) == 1
    assert files(tmp_path) == ["out"]
    write(tmp_path / "out", done("b"))
    assert len(rows(tmp_path / "out")) == 101


def test_parts_that_other_programs_have_put_together_grow_on(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FLUSH_ROWS", 1)
    write(tmp_path, done("a"), failed("b"))
    monkeypatch.undo()
    table = pyarrow.dataset.dataset(tmp_path).to_table().to_pandas()
    together = pyarrow.Table.from_pandas(table)  # of other types
    settings = pyarrow.parquet.read_schema(next(tmp_path.iterdir())).metadata[b"hear_axlstm"]
    for part in list(tmp_path.iterdir()):
        part.unlink()
    path = tmp_path / "embeddings-together.parquet"
    pyarrow.parquet.write_table(together, path)
    with pytest.raises(OutputError, match="does not say how its embeddings were made"):
        write(tmp_path, done("c"))
    pyarrow.parquet.write_table(together.replace_schema_metadata({"hear_axlstm": settings}), path)
    write(tmp_path, done("c"))
    assert list(rows(tmp_path)) == ["a", "b", "c"]
    assert [block.names for block in _blocks(tmp_path)] == [["a", "c"]]
    assert files(tmp_path) == [path.name]


def _blocks(folder):
    return load.BLOCKS["parquet"](folder)


# Failures


def test_what_failed_is_a_row_until_it_succeeds(tmp_path):
    write(tmp_path, done("a"), failed("b"))
    folder, same, changed = ParquetFolder(tmp_path, SETTINGS), Source("/b", 1, 1), Source("/b", 1, 2)
    assert not folder.is_done("b", same)
    assert folder.failure_of("b", same) == folder.failure_of("b", Source("/b", -1, -1)) == "broken"
    assert [folder.failure_of(name, source) for name, source in (("b", changed), ("c", same))] == ["", ""]
    assert folder.failure_of("a", Source("/a", 1, 1)) == ""
    write(tmp_path, failed("b", "still broken"))
    assert rows(tmp_path)["b"]["error"] == "still broken"
    write(tmp_path, failed("a"))  # another run has embedded it
    assert rows(tmp_path)["a"]["error"] is None
    write(tmp_path, done("b"))
    assert rows(tmp_path)["b"]["error"] is None
    assert rows(tmp_path)["b"]["embedding"] == VECTOR.tolist()
    assert ParquetFolder(tmp_path, SETTINGS).is_done("b", same)
    write(tmp_path, failed("b", modified=2))  # it has changed, and is broken now
    assert rows(tmp_path)["b"]["embedding"] is None


def test_a_failure_takes_no_name_from_an_embedding(tmp_path):
    other = Outcome("a", Source("/other/a", 1, 1), failure="broken")
    write(tmp_path, done("a"))
    assert write(tmp_path, other) == []
    assert rows(tmp_path)["a"]["path"] == "/a"
    write(tmp_path, failed("b"))
    write(tmp_path, done("b", path="/other/b"))
    assert rows(tmp_path)["b"]["path"] == "/other/b"


def test_npy_has_no_place_for_failures(tmp_path, model):  # noqa: F811
    folder = open_folder(tmp_path, model)
    folder.write_failure(failed("a"))
    assert isinstance(folder, NpyFolder)
    assert (folder.failure_of("a", Source("/a", 1, 1)), files(tmp_path)) == ("", ["_embed.json"])


def test_failures_are_loaded_as_embed_gives_them(model, sounds, tmp_path):  # noqa: F811
    (sounds / "broken.flac").write_bytes((sounds / "b.flac").read_bytes()[:9_000])
    (sounds / "below" / "none.wav").unlink()
    result = embed(sounds, model, out=tmp_path / "out", format="parquet")
    loaded = load_embeddings(tmp_path / "out")
    assert (loaded.failures, loaded.gone) == (result.failures, [])
    assert loaded[np.array(loaded.names) == "broken.flac"].embeddings == [None]
    assert list(loaded.names) == ["a.wav", "b.flac", "below/c.ogg", "broken.flac"]
    assert [block.names for block in read_blocks(tmp_path / "out")] == [["a.wav", "b.flac", "below/c.ogg"]]


def test_addresses_are_never_gone_and_any_size_is_theirs(tmp_path):
    there = "https://here.org/a.wav"
    write(tmp_path, done("a.wav", path=there, modified=-1), done("b"), failed("c"))
    folder = ParquetFolder(tmp_path, SETTINGS)
    assert folder.gone() == ["b"]
    assert folder.is_done("a.wav", Source(there, -1, -1))
    assert not folder.is_done("a.wav", Source(there, 2, -1))
    assert ParquetFolder(tmp_path, SETTINGS).prune() == ["b"]
    assert list(rows(tmp_path)) == ["a.wav"]


# Several runs


def test_whoever_writes_first_says_with_which_settings(tmp_path):
    first, second = (ParquetFolder(tmp_path, SETTINGS | {"seed": seed}) for seed in (0, 1))
    first.write(done("a"), VECTOR)
    first.close()
    with pytest.raises(OutputError, match="was begun with other settings: seed was 0 and is 1 now; choose another"):
        list(sink([done("b")], second))
    with pytest.raises(OutputError, match="seed was 0 and is 1 now"):
        ParquetFolder(tmp_path, SETTINGS | {"seed": 1})
    assert list(rows(tmp_path)) == ["a"]


def test_a_folder_that_another_run_made_one_of_npy_is_refused(tmp_path):
    folder = ParquetFolder(tmp_path, SETTINGS)
    NpyFolder(tmp_path, SETTINGS | {"format": "npy"})
    with pytest.raises(OutputError, match="--format was npy and is parquet now"):
        list(sink([done("a")], folder))


def test_a_part_grows_until_it_is_full_whoever_began_it(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FLUSH_ROWS", 5)
    for number in range(12):
        write(tmp_path, done(f"{number:02}"))
    assert [len(pyarrow.parquet.read_table(path)) for path in sorted(tmp_path.iterdir())] == [5, 5, 2]
    assert list(rows(tmp_path)) == [f"{number:02}" for number in range(12)]


def test_two_runs_and_a_pruning_one_share_a_part(tmp_path):
    sides = [ParquetFolder(tmp_path / "out", SETTINGS) for _ in range(2)]
    (tmp_path / "kept").touch()
    for number, (side, folder) in itertools.product(range(4), enumerate(sides)):
        folder.write(done(f"{side}-{number}", path=str(tmp_path / "kept")), VECTOR)
        folder.write(done(f"gone-{number}"), VECTOR)
        folder.close()
        if side:
            assert ParquetFolder(tmp_path / "out", SETTINGS).prune() == [f"gone-{number}"]
    assert sorted(rows(tmp_path / "out")) == sorted(f"{side}-{number}" for side in range(2) for number in range(4))
    assert len(files(tmp_path / "out")) == 1


def test_where_folders_cannot_be_locked_a_file_is_and_does_not_stay(tmp_path, monkeypatch):
    real = fcntl.flock

    def flock(descriptor, operation):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBADF, "not open for writing")
        real(descriptor, operation)

    monkeypatch.setattr(folders.fcntl, "flock", flock)
    with folders.locked(tmp_path) as is_alone:
        assert is_alone
        assert files(tmp_path) == [".lock"]
    assert files(tmp_path) == []
    monkeypatch.setattr(folders, "fcntl", None)  # as on Windows
    with folders.locked(tmp_path) as is_alone:
        assert not is_alone


def test_without_locks_a_run_lets_the_parts_of_others_grow_no_more(tmp_path, monkeypatch):
    write(tmp_path, done("a"))
    monkeypatch.setattr(folders, "fcntl", None)
    folder = ParquetFolder(tmp_path, SETTINGS)
    for name in "bc":
        folder.write(done(name), VECTOR)
        folder.close()
    assert [len(pyarrow.parquet.read_table(path)) for path in sorted(tmp_path.iterdir())] == [1, 2]


def test_one_thread_asks_what_is_done_while_another_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SHORTEST", 0)
    monkeypatch.setattr(parquet, "LONGEST", 0)
    folder, names = ParquetFolder(tmp_path, SETTINGS), [f"{number}" for number in range(60)]
    planned = (done(name) for name in names if not folder.is_done(name, Source(f"/{name}", 1, 1)))
    assert len(list(sink(planned, folder))) == 60
    assert all(folder.is_done(name, Source(f"/{name}", 1, 1)) for name in names)
    assert set(rows(tmp_path)) == set(names)


KILLED = """
import os, random, signal, sys, time
import numpy as np
import pandas, pyarrow.compute, pyarrow.parquet  # what would take a child its time
from hear_axlstm.files import parquet
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.sounds import Source

out, settings = sys.argv[1], {"embeddings": "scene", "format": "parquet"}
parquet.FLUSH_ROWS, parquet.SHORTEST, parquet.LONGEST, parquet.SHARE = 40, 0, 0, 1e9  # each row is written at once

def run(round, side):
    folder = parquet.ParquetFolder(parquet.Path(out), settings)
    told = open(f"{out}.told", "a")
    assert all(folder.is_done(name, Source("/" + name, 1, 1)) for name in open(f"{out}.told").read().split()), "lost"
    folder.is_done("changes", Source("/changes", 1, round))
    for number in range(1_000):
        for name, modified in ((f"{round}-{side}-{number}", 1), (f"{round}-both-{number}", 1), ("changes", round)):
            folder.write(Outcome(name, Source("/" + name, 1, modified)), np.full(8, modified, np.float32))
        told.write(f"{round}-{side}-{number}\\n")
        told.flush()

random.seed(0)
for round in range(1, int(sys.argv[2]) + 1):
    children = []
    for side in "ab":
        child = os.fork()
        if not child:
            try:
                run(round, side)
            except BaseException as error:
                print(error, file=sys.stderr, flush=True)
            os._exit(1)
        children.append(child)
    time.sleep(random.uniform(0.05, 0.4))
    for child in children:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"
"""


def test_two_runs_that_are_killed_at_any_moment_lose_nothing_and_double_nothing(tmp_path):
    out = tmp_path / "out"
    result = subprocess.run([sys.executable, "-c", KILLED, out, "12"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    found, told = rows(out), (tmp_path / "out.told").read_text().split()
    assert len(told) > 12
    assert set(told) <= set(found)
    assert all(name.endswith(".parquet") for name in files(out))
    assert len(files(out)) <= len(found) / 40 + 1
    assert len(by_polars(out)) == len(found)
    ParquetFolder(out, SETTINGS | {"seed": None})
    assert files(tmp_path) == ["out", "out.told"]


# What is known


def test_what_is_known_of_a_sound_takes_few_bytes():
    known, count = Known(), 100_000
    facts = np.zeros(count, FACT)
    names = np.array([hash(f"sound {number}") for number in range(count)])
    for part in range(4):
        facts["part"] = part
        known.add(names[part::4], facts[part::4])
    assert known.nbytes / count < 50
    assert [known.get(f"sound {number}").part for number in range(8)] == [0, 1, 2, 3] * 2
    known.forget([1, 2])
    assert [known.get(f"sound {number}") is None for number in range(4)] == [False, True, True, False]
    assert {part: len(names) for part, names in known.not_asked().items()} == {0: count // 4, 3: count // 4}


def test_what_is_added_little_by_little_is_known_once():
    known, expected, random = Known(), {}, np.random.default_rng(0)
    for part in range(40):
        numbers = random.integers(0, 2_000, 50)
        facts = np.zeros(50, FACT)
        facts["part"], facts["path"], facts["size"] = part, numbers, np.arange(50)
        known.add(np.array([hash(f"sound {number}") for number in numbers]), facts)
        new = {number: (part, size) for size, number in reversed(list(enumerate(numbers.tolist())))}
        expected |= new
        known.mark(f"sound {numbers[0]}", ASKED)
    found = {number: known.get(f"sound {number}") for number in range(2_000)}
    assert {number: (fact.part, fact.size) for number, fact in found.items() if fact} == expected
    assert known.nbytes == len(expected) * (8 + FACT.itemsize)
    assert sum(map(len, known.not_asked().values())) < len(expected)
    assert known.get("sound 2000") is None
    known.mark("sound 2000", ASKED)
