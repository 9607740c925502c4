"""``search`` and ``duplicates`` on what ``embed`` wrote."""

import csv
import shutil

import pytest
import soundfile

import hear_axlstm
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.weights.save import save_weights
from tests.conftest import tone


@pytest.fixture(scope="module")
def made(tmp_path_factory, golden):
    """Eleven sounds, one of them twice, their embeddings by small weights, and the file of these."""
    here = tmp_path_factory.mktemp("search")
    (here / "sounds").mkdir()
    for number in range(10):
        soundfile.write(here / "sounds" / f"{number}.wav", tone(150 * 1.4**number, 0.3), SAMPLE_RATE)
    shutil.copy(here / "sounds" / "3.wav", here / "sounds" / "again.wav")
    model = golden("ssast").model()
    save_weights(model, here / "small.safetensors")
    for format in ("npy", "parquet"):
        hear_axlstm.embed(here / "sounds", here / "small.safetensors", out=here / format, format=format)
    return here


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_search_prints_what_is_like_a_sound(run, made, format):
    query, weights = made / "sounds" / "3.wav", made / "small.safetensors"
    done = run("search", made / format, query, query, "-k", 3, "--model", weights)
    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 6
    assert {row[3] for row in rows[:2]} == {"3.wav", "again.wav"}
    assert rows[0][:3] == ["3.wav", "1", "1.000"]
    assert rows[0][4].startswith(str(made / "sounds"))
    again = run("search", f"{made / format}.index", query, "-k", 3, "--model", weights)
    found = [line.split("\t") for line in again.stdout.splitlines()]  # the order of two that are the same sound is no one's
    assert sorted(row[2:] for row in found) == sorted(row[2:] for row in rows[:3])


def test_queries_that_fail_stop_no_other(run, made, tmp_path):
    (tmp_path / "bad\n.wav").write_bytes(b"bad")
    query = made / "sounds" / "5.wav"
    done = run(
        "search", made / "npy", tmp_path / "bad\n.wav", tmp_path / "absent.wav", query, "--model", made / "small.safetensors"
    )
    assert done.exit_code == 1
    assert done.stderr.count("failed: ") == 2
    assert len(done.stdout.splitlines()) == 10
    assert run("search", made / "npy", tmp_path / "absent.wav", "--model", made / "small.safetensors").exit_code == 1


def test_a_folder_without_sounds_is_no_query(run, made, tmp_path):
    done = run("search", made / "npy", tmp_path, "--model", made / "small.safetensors")
    assert done.exit_code == 2
    assert "no audio files below" in done.stderr


def test_other_weights_and_places_without_embeddings_are_refused(run, made, tmp_path):
    query = made / "sounds" / "5.wav"
    done = run("search", made / "npy", query)
    assert done.exit_code == 2
    assert "--model" in done.stderr
    done = run("search", made / "npy", query, "--model", "ssam-tiny-open")
    assert done.exit_code == 2
    assert "expected those of one model" in done.stderr
    for place in (made / "sounds", tmp_path / "nothing"):
        for command in (["search", place, query], ["duplicates", place]):
            done = run(*command)
            assert (done.exit_code, done.stdout) == (2, "")
            assert "expected a folder that hear-axlstm embed wrote" in done.stderr


def test_duplicates_prints_pairs_and_what_is_odd(run, made, tmp_path):
    done = run("duplicates", made / "npy", "--above", "0.999", "--odd", 2)
    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["twice", "1.000", "3.wav", "again.wav"] in rows
    assert [row[0] for row in rows].count("odd") == 2
    assert "with one sound of each kept" in done.stderr
    done = run("duplicates", made / "parquet", "-o", tmp_path / "pairs.csv", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    with open(tmp_path / "pairs.csv", newline="") as file:
        assert next(csv.DictReader(file))["other"] == "again.wav"


def test_a_folder_of_timestamps_is_refused(run, made, tmp_path):
    hear_axlstm.embed(made / "sounds", made / "small.safetensors", out=tmp_path / "steps", timestamps=True)
    for command in (["search", tmp_path / "steps", made / "sounds" / "1.wav"], ["duplicates", tmp_path / "steps"]):
        done = run(*command)
        assert done.exit_code == 2
        assert "every 40 ms" in done.stderr
