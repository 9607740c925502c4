"""Names: not UTF-8, too long, taken by another source, or in the way of a folder."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from hear_axlstm import embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.files import npy
from hear_axlstm.files.folder import valid_text
from hear_axlstm.pretraining.shards import write_shards
from tests.conftest import tone
from tests.hostile.conftest import held, parquet_rows

ODD = os.fsdecode(b"m\xe4.wav")
bytes_names = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")


@pytest.fixture
def sites(tmp_path):
    """Two folders with files of one name, and different sound."""
    for number, site in enumerate(("siteA", "siteB")):
        (tmp_path / site).mkdir()
        soundfile.write(tmp_path / site / "x.wav", tone(220 + 220 * number, 1), SAMPLE_RATE)
    return tmp_path / "siteA", tmp_path / "siteB"


# Bytes


@bytes_names
@pytest.mark.parametrize("timestamps", [False, True])
def test_a_name_that_is_not_utf_8_is_embedded(model, sound_folder, tmp_path, format, timestamps):
    (sound_folder / "a.wav").rename(sound_folder / ODD)
    options = {"out": tmp_path / "out", "format": format, "timestamps": timestamps}
    result = embed([sound_folder], model, **options)
    assert result.failures == {}
    assert ODD in result.embedded
    assert embed([os.fsencode(sound_folder)], model, **options).embedded == []
    if format == "npy":
        assert f"{ODD}.embedding.npy" in os.listdir(tmp_path / "out")
    else:
        assert {row["name"] for row in parquet_rows(tmp_path / "out")} == {r"m\xe4.wav", "b.flac", "below/c.ogg"}


@bytes_names
@pytest.mark.parametrize("together", [True, False])
def test_a_name_that_reads_as_the_escapes_of_another_is_not_that_file(model, tmp_path, format, together):
    (tmp_path / "d").mkdir()
    paths = [tmp_path / "d" / ODD, tmp_path / "d" / r"m\xe4.wav"]
    for path, frequency in zip(paths, (220, 440), strict=True):
        soundfile.write(tmp_path / "t.wav", tone(frequency, 1), SAMPLE_RATE)
        (tmp_path / "t.wav").rename(path)
    options = {"out": tmp_path / "out", "format": format}
    results = [embed(paths, model, **options)] if together else [embed([path], model, **options) for path in paths]
    assert sum(len(result.embedded) for result in results) == len(held(tmp_path / "out")) == (2 if format == "npy" else 1)
    before = held(tmp_path / "out")
    again = embed(paths, model, **options)
    assert again.embedded == []
    assert len(again.failures) == (0 if format == "npy" else 1)
    assert all(np.array_equal(before[name], value) for name, value in held(tmp_path / "out").items())


@bytes_names
@pytest.mark.parametrize("locale", ["C.UTF-8", "ASCII"])
def test_the_command_bears_any_name_in_any_locale(sound_folder, random_weights, tmp_path, locale):
    (sound_folder / "a.wav").rename(sound_folder / ODD)
    (sound_folder / "b.flac").rename(sound_folder / "ü.flac")
    (sound_folder / os.fsdecode(b"broken \xff.wav")).write_bytes(b"RIFF nothing")
    environment = {"LC_ALL": locale} if locale != "ASCII" else {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "hear_axlstm", "embed", sound_folder, "-o", tmp_path / "out"]
    run = subprocess.run(
        [*command, "--model", random_weights("ssast-tiny")], env=os.environ | environment, capture_output=True
    )
    said = run.stderr.decode(errors="replace")
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert "3 sounds embedded, 0 were there already, 1 failed" in said
    assert "failed: broken" in said
    there = os.listdir(os.fsencode(tmp_path / "out"))
    assert {b"m\xe4.wav.embedding.npy", "ü.flac.embedding.npy".encode()} <= set(there)


@bytes_names
def test_shards_bear_any_name(sound_folder, tmp_path):
    (sound_folder / "a.wav").rename(sound_folder / ODD)
    packed = write_shards([sound_folder], tmp_path / "shards")
    assert packed.failures == {}
    assert packed.clips == 3


def test_what_is_written_of_a_name_is_text():
    assert valid_text("ü, \n.wav") == "ü, \n.wav"
    assert valid_text("lone \ud800") == r"lone \ud800"


# Length


def test_a_name_as_long_as_the_system_takes_fails_alone(model, sound_folder, tmp_path, format):
    for length in (227, 241, 251):
        soundfile.write(sound_folder / f"{'n' * (length - 4)}.wav", tone(440, 1), SAMPLE_RATE)
    result = embed([sound_folder], model, out=tmp_path / "out", format=format)
    too_long = {"n" * 247 + ".wav"} if format == "npy" else set()
    assert set(result.failures) == too_long
    assert len(result.embedded) == 6 - len(too_long)
    assert all("its embedding cannot be written (File name too long)" in reason for reason in result.failures.values())
    assert len(held(tmp_path / "out")) == len(result.embedded)
    again = embed([sound_folder], model, out=tmp_path / "out", format=format)
    assert (again.embedded, set(again.failures)) == ([], too_long)


# One name, two sources


def test_two_sources_never_share_an_output(model, sites, tmp_path, format):
    one, other = sites
    assert embed([one], model, out=tmp_path / "out", format=format).embedded == ["x.wav"]
    before = held(tmp_path / "out")["x.wav"]
    for _ in range(2):
        result = embed([other], model, out=tmp_path / "out", format=format)
        assert (result.embedded, result.skipped) == ([], [])
        assert f"is that of {one}/x.wav; embed it into another folder" in result.failures["x.wav"]
    assert np.array_equal(held(tmp_path / "out")["x.wav"], before)
    assert embed([one], model, out=tmp_path / "out", format=format).skipped == ["x.wav"]
    assert embed([other], model, out=tmp_path / "out", format=format, overwrite=True).embedded == ["x.wav"]


def test_the_second_of_two_sources_in_one_call_fails(model, sites, tmp_path, format):
    result = embed(sites, model, out=tmp_path / "out", format=format)
    assert result.embedded == ["x.wav"]
    assert f"is that of {sites[0]}/x.wav" in result.failures["x.wav"]
    apart = embed([tmp_path / "siteA", tmp_path], model, out=tmp_path / "apart", format=format)
    assert apart.embedded == ["x.wav", "siteA/x.wav", "siteB/x.wav"]


def test_one_source_given_twice_is_written_once(model, sites, tmp_path, format):
    result = embed([sites[0], sites[0] / "x.wav"], model, out=tmp_path / "out", format=format)
    assert (result.embedded, result.skipped, result.failures) == (["x.wav"], [], {})


def test_in_memory_a_shared_name_is_no_problem(model, sites):
    result = embed([*sites, sites[0] / "absent.wav", sites[1] / "absent.wav"], model)
    assert result.embedded == [f"{site}/x.wav" for site in sites]
    assert not np.array_equal(*result.embeddings[:2])
    assert set(result.failures) == {f"{site}/absent.wav" for site in sites}


def test_shards_keep_files_of_one_name_apart(sites, tmp_path):
    (sites[1] / "x.wav").write_bytes(b"RIFF nothing")
    packed = write_shards(sites, tmp_path / "shards")
    assert packed.clips == 1
    assert set(packed.failures) == {f"{sites[1]}/x.wav"}


def test_where_case_does_not_count_a_name_in_another_case_is_taken(model, sites, tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "ignores_case", lambda folder: True)
    (sites[1] / "x.wav").rename(sites[1] / "X.wav")
    result = embed(sites, model, out=tmp_path / "out")
    assert result.embedded == ["x.wav"]
    assert f"is that of {sites[0]}/x.wav" in result.failures["X.wav"]
    assert "is that of" in embed([sites[1]], model, out=tmp_path / "out").failures["X.wav"]
    assert embed([sites[0]], model, out=tmp_path / "out").skipped == ["x.wav"]


def test_an_output_that_was_removed_frees_its_name(model, sites, tmp_path):
    embed([sites[0]], model, out=tmp_path / "out")
    (tmp_path / "out" / "x.wav.embedding.npy").unlink()
    assert embed([sites[1]], model, out=tmp_path / "out").embedded == ["x.wav"]


# In the way


def test_a_folder_in_the_place_of_an_output_fails_one_sound(model, sound_folder, tmp_path):
    (tmp_path / "out" / "a.wav.embedding.npy").mkdir(parents=True)
    (tmp_path / "out" / "below").write_text("a file where a folder would be")
    result = embed([sound_folder], model, out=tmp_path / "out", timestamps=True)
    assert result.embedded == ["b.flac"]
    assert set(result.failures) == {"a.wav", "below/c.ogg"}
    assert all("its embedding cannot be written" in reason for reason in result.failures.values())
    assert not list((tmp_path / "out").rglob("*.part"))


def test_the_ledger_is_lines_of_ascii_json(model, sound_folder, tmp_path):
    (sound_folder / "a.wav").rename(sound_folder / "ü.wav")
    embed([sound_folder], model, out=tmp_path / "out")
    lines = (tmp_path / "out" / "_embed.jsonl").read_text(encoding="ascii").splitlines()
    assert {json.loads(line)["name"] for line in lines} == {"b.flac", "below/c.ogg", "ü.wav"}
