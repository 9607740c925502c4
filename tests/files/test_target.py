"""The folder that a run writes to: opened when there is something to write, never among the sounds, work begins at once."""

import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm import embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import find, run
from hear_axlstm.files.find import each_file, find_files
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.planning import Plan
from hear_axlstm.files.sounds import FileSound, Source
from tests.conftest import tone

NAMES = ["a.wav", "b.flac", "below/c.ogg"]


@pytest.fixture
def model(golden):
    return golden("ssast").model()


@pytest.fixture(params=["npy", "parquet"])
def format(request):
    return request.param


# Found one after the other


def test_a_walk_gives_paths_in_order_and_looks_no_further_than_it_is_asked(sound_folder, monkeypatch):
    for name in ("a/b/x.wav", "a/a.wav", "a.b/x.wav", "A.wav", "below/d/e.wav", "z/x.wav"):
        (sound_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (sound_folder / name).write_bytes(b"")
    names = [sound.name for sound in find_files([sound_folder])]
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert len(names) == 9
    searched, names_of = [], find._Walk._names
    monkeypatch.setattr(find._Walk, "_names", lambda self, here: [searched.append(here), names_of(self, here)][1])
    walk = each_file([sound_folder])
    assert next(walk).name == "A.wav"
    assert next(walk).name == "a/a.wav"
    assert searched == ["", "a"]


def test_work_begins_before_all_is_listed(model, sound_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "FIRST_WINDOW", 2)
    monkeypatch.setattr(run, "WINDOW", 1)
    out, begun, paths = tmp_path / "out", [], [sound_folder / f"{number:02d}.ogg" for number in range(12)]
    for path in paths:
        shutil.copy(sound_folder / "below" / "c.ogg", path)

    def sounds():
        yield from paths
        begun.extend(out.glob("*.embedding.npy"))
        yield sound_folder / "absent.wav"

    result = embed(sounds(), model, out=out)
    assert begun
    assert result.names == [*(path.name for path in paths), "absent.wav"]
    assert result.ok.tolist() == [*[True] * 12, False]
    assert np.round(result.durations[:12], 1).tolist() == [0.6] * 12
    assert embed(list(sounds()), model, out=out).skipped == result.embedded


def test_memory_grows_with_names_alone(monkeypatch):
    count = 4_000
    monkeypatch.setattr(Source, "of", lambda path: Source(os.path.abspath(path), 320_000, 1_700_000_000_000_000_000))
    monkeypatch.setattr(FileSound, "measured", lambda sound: replace(sound, seconds=10.0))
    names = (f"site{number % 9}/2024-05-30/{number:08d}.wav" for number in range(count))
    found = (FileSound(name, Path("/data/archive/recordings", name)) for name in names)
    planned = Plan()

    def outcomes():
        for batch in planned.batch(found, 64.0, lambda name, source: False, windows=[1_000] * 9):
            for sound in batch:
                yield Outcome(sound.name, sound.source, index=sound.index, seconds=sound.seconds)

    class NoBar:
        def finish(self, outcome):
            pass

    tracemalloc.start()
    result = run._collected(planned, outcomes(), NoBar(), False)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.ok.all()
    assert used / count < 500  # bytes


# Where nothing is to be written


def test_a_folder_is_opened_with_the_first_sound_that_can_be_embedded(model, sound_folder, tmp_path):
    out, bad = tmp_path / "out", sound_folder / "bad.wav"
    bad.write_bytes(b"RIFF nothing")
    soundfile.write(sound_folder / "short.wav", tone(440, 0.005), SAMPLE_RATE)
    nothing = [bad, tmp_path / "absent.wav", sound_folder / "short.wav"]
    result = embed(nothing, model, out=out)
    assert (list(result.failures), result.folder) == (["bad.wav", "absent.wav", "short.wav"], None)
    assert not out.exists()
    result = embed([*nothing, sound_folder / "a.wav"], model, out=out)
    assert (result.embedded, len(result.failures), result.folder) == (["a.wav"], 3, out)
    assert embed(nothing[2:], model, out=tmp_path / "padded", pad_short=True).padded == ["short.wav"]


def test_nothing_is_pruned_where_no_sound_is_found(model, sound_folder, tmp_path):
    embed(sound_folder, model, out=tmp_path / "out")
    shutil.rmtree(sound_folder)
    sound_folder.mkdir()  # where a disk would be
    result = embed(sound_folder, model, out=tmp_path / "out", prune=True)
    assert (result.pruned, result.gone) == ([], NAMES)


def test_embeddings_among_the_sounds_are_refused_before_anything_is_done(model, sound_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    soundfile.write(other / "x.wav", tone(440, 1), SAMPLE_RATE)
    before = sorted(tmp_path.rglob("*"))
    for sounds, out in [
        ([other, sound_folder], sound_folder),
        ([other, sound_folder], sound_folder / "below"),
        ([other / "x.wav", sound_folder / "a.wav"], sound_folder),
        ([sound_folder], sound_folder),
    ]:
        with pytest.raises(ConfigError, match="would mix embeddings with the sounds in"):
            embed(sounds, model, out=out)
    assert sorted(tmp_path.rglob("*")) == before
    assert embed(sound_folder, model, out=sound_folder / "new").embedded == NAMES
    assert embed(sound_folder, model, out=sound_folder / "new").skipped == NAMES


def test_an_embedding_is_kept_of_what_is_not_there_any_more(model, sound_folder, tmp_path, format):
    run = lambda: embed([sound_folder / "a.wav", sound_folder / "b.flac"], model, out=tmp_path / "out", format=format)  # noqa: E731
    run()
    (sound_folder / "a.wav").rename(sound_folder / "elsewhere.wav")
    for _ in range(2):
        result = run()
        assert (result.failures, result.skipped) == ({"a.wav": "no such file"}, ["b.flac"])
    (sound_folder / "elsewhere.wav").rename(sound_folder / "a.wav")
    assert run().skipped == ["a.wav", "b.flac"]


# What failed before


def test_what_failed_is_tried_again_when_it_has_changed_or_is_asked_for(model, sound_folder, tmp_path, monkeypatch):
    bad = sound_folder / "bad.wav"
    bad.write_bytes(b"RIFF nothing")
    measured, looked = FileSound.measured, []
    monkeypatch.setattr(FileSound, "measured", lambda sound: [looked.append(sound.name), measured(sound)][1])
    again = lambda **options: embed(sound_folder, model, out=tmp_path / "out", format="parquet", **options)  # noqa: E731
    failures = again().failures
    looked.clear()
    result = again()
    assert (result.skipped, result.failures, looked) == (NAMES, failures, [])
    assert again(retry=True).failures == failures
    assert looked == ["bad.wav"]
    soundfile.write(bad, tone(440, 1), SAMPLE_RATE)
    assert again().embedded == ["bad.wav"]
    assert again().failures == {}
    with pytest.raises(ConfigError, match="retry is for what failed before in a folder"):
        embed(sound_folder, model, retry=True)
