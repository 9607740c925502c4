"""Generators and data sets: embedded as they come, few of their sounds held at a time, as if all were there at once."""

import gc
import io
import mmap
import re
import sys
import tarfile
import weakref

import numpy as np
import pytest

from hear_axlstm import embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from tests.conftest import noise, tone


@pytest.fixture
def model(golden):
    return golden("ssast").model()


def test_few_sounds_of_a_generator_are_held_at_a_time(model):
    alive, most = set(), 0

    def sounds():
        nonlocal most
        for index in range(2_000):
            wave = tone(200 + index, 0.02 + 0.001 * (index % 7))
            alive.add(index)
            weakref.finalize(wave, alive.discard, index)
            most = max(most, len(alive))
            yield wave, SAMPLE_RATE
            del wave

    result = embed(sounds(), model, batch_seconds=8)
    gc.collect()
    assert result.names == [str(index) for index in range(2_000)]
    assert result.ok.all()
    assert most <= 200
    assert not alive
    few = [0, 1, 31, 32, 999, 1_999]
    expected = embed([(tone(200 + index, 0.02 + 0.001 * (index % 7)), SAMPLE_RATE) for index in few], model)
    np.testing.assert_allclose(result[few].matrix, expected.matrix, atol=1e-5)
    np.testing.assert_allclose(result.durations[few], expected.durations)


def test_a_stream_gives_what_a_list_gives(model, sound_folder):
    """Files, folders, failures and arrays among each other, over many windows."""
    broken = sound_folder / "broken.wav"
    broken.write_bytes(b"nothing")
    items = []
    for index in range(30):
        items += [(noise(3_000 + 500 * index, seed=index).numpy(), SAMPLE_RATE), (np.zeros(9), SAMPLE_RATE)]
        items += [sound_folder / "a.wav"] if index % 9 == 0 else [None] if index % 7 == 0 else []
    items += [broken, sound_folder]
    one, other = embed(items, model, batch_seconds=1), embed((item for item in items), model, batch_seconds=1)
    assert (one.names, one.paths) == (other.names, other.paths)
    assert dict(one.failures) == dict(other.failures)
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-5)
    np.testing.assert_array_equal(one.durations, other.durations)
    assert one.audio_seconds == pytest.approx(other.audio_seconds)


def test_timestamps_layers_and_padding_are_of_the_whole_stream(model):
    clips = [noise(150 + 40 * index, seed=index).numpy() for index in range(12)]
    for options in ({"timestamps": True, "pad_short": True}, {"layers": "all"}, {"pad_short": True}):
        one = embed(clips, model, sample_rate=SAMPLE_RATE, batch_seconds=0.5, **options)
        other = embed(iter(clips), model, sample_rate=SAMPLE_RATE, batch_seconds=0.5, **options)
        assert (one.names, one.padded, dict(one.failures)) == (
            other.names,
            sorted(other.padded, key=int),
            dict(other.failures),
        )
        for first, second in zip(one.embeddings, other.embeddings, strict=True):
            assert (first is None) == (second is None)
            if first is not None:
                np.testing.assert_allclose(first, second, atol=1e-5)


def test_what_cannot_be_pickled_is_decoded_here_while_processes_decode_files(model, sound_folder):
    with open(sound_folder / "b.flac", "rb") as file:
        mixed = [sound_folder / "a.wav", file, (noise(4_000).numpy(), SAMPLE_RATE), sound_folder / "below/c.ogg"]
        result = embed(mixed, model, workers=2)
        np.testing.assert_array_equal(result.matrix, embed(iter(mixed), model, workers=1).matrix)
    assert result.failures == {}


def test_open_files_may_share_what_they_read(model, sound_folder, tmp_path):
    """Several threads decode them: one file given often, and members of an archive, which seek in the file below them."""
    names = ["a.wav", "b.flac"] * 10
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name in ("a.wav", "b.flac"):
            archive.add(sound_folder / name, name)
    expected = embed([sound_folder / name for name in names], model).matrix
    with tarfile.open(tmp_path / "all.tar") as archive, open(sound_folder / "b.flac", "rb") as file:
        np.testing.assert_array_equal(embed([archive.extractfile(name) for name in names], model).matrix, expected)
        np.testing.assert_array_equal(embed([file] * 10, model).matrix, expected[1::2])


def test_an_open_file_may_be_closed_when_the_next_is_drawn(model, sound_folder, tmp_path):
    paths = [sound_folder / "a.wav", sound_folder / "b.flac"] * 3

    def files():
        for path in paths:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield file
                yield mapped

    np.testing.assert_array_equal(embed(files(), model).matrix[::2], embed(paths, model).matrix)
    np.testing.assert_array_equal(embed(files(), model).matrix[1::2], embed(paths, model).matrix)


def test_files_of_one_name_are_told_apart_wherever_they_come_in_a_stream(model, sound_folder):
    (sound_folder / "below" / "a.wav").write_bytes((sound_folder / "a.wav").read_bytes())
    there, other, gone = (str(sound_folder / place) for place in ("a.wav", "below/a.wav", "gone/a.wav"))
    clips = [(noise(8_000, seed=seed).numpy(), SAMPLE_RATE) for seed in range(8)]
    result = embed(iter([gone, *clips, there, *clips, other, sound_folder / "b.flac"]), model, batch_seconds=0.5)
    assert [name for name in result.names if not name.isdigit()] == [gone, there, other, "b.flac"]
    assert result.failures == {gone: "no such file"}


def test_the_paths_of_a_generator_are_one_plan(model, sound_folder, tmp_path):
    paths = [sound_folder / name for name in ("a.wav", "b.flac", "below/c.ogg")]
    result = embed(iter(paths), model, out=tmp_path / "out", batch_seconds=0.1)
    assert result.embedded == ["a.wav", "b.flac", "c.ogg"]
    assert embed(iter(paths), model, out=tmp_path / "out").skipped == result.embedded


def test_what_a_generator_raises_is_raised_with_a_note(model, sound_folder, tmp_path):
    def broken(items):
        yield from items
        raise RuntimeError("the disk is gone")

    clips = [(noise(3_000).numpy(), SAMPLE_RATE)] * 40
    with pytest.raises(RuntimeError, match="the disk is gone") as raised:
        embed(broken(clips), model, batch_seconds=0.2)
    assert (
        "raised by what gives the sounds, after 40 of them; give None for what cannot be read" in raised.value.__notes__[0]
    )
    with pytest.raises(RuntimeError, match="the disk is gone"):
        embed(broken([sound_folder / "a.wav"]), model, out=tmp_path / "out")
    assert embed([sound_folder / "a.wav"], model, out=tmp_path / "out").embedded == ["a.wav"]  # nothing was left half done


def test_what_cannot_be_is_refused_before_anything_is_embedded(model):
    for items in (iter([1, 2, 3]), (value for value in np.zeros(3))):
        with pytest.raises(ConfigError, match="sounds is a list of numbers"):
            embed(items, model)
    with pytest.raises(ConfigError, match="sound 0 is an array, and nothing says at which sample rate"):
        embed(iter([np.zeros(600)]), model)
    assert len(embed(iter([]), model)) == 0


def test_the_bar_grows_with_the_stream(model, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("hear_axlstm.files.bar.EVERY", 0.0)
    embed(((noise(8_000).numpy(), SAMPLE_RATE) for _ in range(30)), model, batch_seconds=2, progress=True)
    text = sys.stderr.getvalue()
    known = [int(count) for count in re.findall(r"/(\d+) sounds", text)]
    assert "sounds known so far" in text
    assert known == sorted(known)
    assert len(set(known)) > 2
    assert "30/30 sounds, 15 s of 15 s" in text
