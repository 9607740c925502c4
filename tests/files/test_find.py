"""Sounds found in files, folders and memory, and put into batches."""

import pickle

import numpy as np
import pytest
import soundfile

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import plan
from hear_axlstm.files.find import find_files
from tests.conftest import tone

NAMES = ["a.wav", "b.flac", "below/c.ogg"]


def test_folders_are_searched_and_files_keep_their_name(sound_folder):
    (sound_folder / "notes.txt").write_text("not audio")
    (sound_folder / ".hidden").mkdir()
    (sound_folder / ".hidden" / "d.wav").write_bytes(b"")
    assert [sound.name for sound in find_files([sound_folder])] == NAMES
    assert [sound.name for sound in find_files([sound_folder / "below" / "c.ogg", sound_folder])] == ["c.ogg", *NAMES]
    assert [sound.name for sound in find_files([sound_folder, sound_folder])] == NAMES
    with pytest.raises(ConfigError, match=r"expected a list of paths: \[path\]"):
        find_files(str(sound_folder))  # its first letter would be the folder of all files


def test_files_that_share_a_name_are_called_by_their_paths_in_memory(sound_folder, tmp_path):
    (tmp_path / "other").mkdir()
    soundfile.write(tmp_path / "other" / "a.wav", tone(1, 1), SAMPLE_RATE)
    paths = [str(sound_folder / "a.wav"), *NAMES[1:], str(tmp_path / "other" / "a.wav")]
    assert plan([sound_folder, tmp_path / "other"]).names == paths


# Batches


def test_batches_hold_mixed_lengths_up_to_a_duration():
    sounds = dict(zip("abcdefg", [1, 30, 2, 9, 4, 4, 1], strict=True))
    arrays = [np.zeros(1_000 * seconds) for seconds in sounds.values()]
    planned = plan(arrays, sample_rate=1_000, batch_seconds=10)
    names = ["".join("abcdefg"[int(sound.name)] for sound in batch) for batch in planned.batches]
    assert names == ["b", "d", "ef", "cag"]
    assert list(planned.seconds) == list(sounds.values())


def test_a_plan_can_be_pickled(sound_folder):
    planned = plan([sound_folder, "absent.wav"], batch_seconds=3)
    again = pickle.loads(pickle.dumps(planned))
    assert again.names == planned.names == [*NAMES, "absent.wav"]
    assert [[sound.name for sound in batch] for batch in again.batches] == [["b.flac"], ["a.wav", "below/c.ogg"]]
    assert again.failures == {"absent.wav": "no such file"}
    assert plan(again.batches[0]).batches[0][0].path == sound_folder / "b.flac"


def test_what_is_done_is_skipped(sound_folder):
    planned = plan([sound_folder], is_done=lambda name, path: name == "a.wav")
    assert planned.skipped == ["a.wav"]
    assert [sound.name for batch in planned.batches for sound in batch] == ["b.flac", "below/c.ogg"]
