"""Batches decoded ahead of their use, by threads and by processes."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_axlstm import parallel
from hear_axlstm.audio import read_audio
from hear_axlstm.files import decode
from hear_axlstm.files.decode import decode_batches
from hear_axlstm.files.find import find_files
from hear_axlstm.files.sounds import ArraySound, FileSound
from tests.conftest import noise
from tests.processes import is_running, read_or_wait_for_ever, wait_until


def arrays(*lengths):
    return [ArraySound(str(n), noise(n, seed=n).numpy(), 16_000) for n in lengths]


def test_batches_come_in_order_padded_with_silence():
    groups = [arrays(9_000), arrays(8_000, 7_000, 3), arrays(2)]
    one, two, three = decode_batches(iter(groups))
    assert (one.sounds, one.lengths, one.audio.shape) == (groups[0], [9_000], (1, 9_000))
    assert (two.sounds, two.lengths, two.audio.shape) == (groups[1][:2], [8_000, 7_000], (2, 8_000))
    assert torch.equal(two.audio[1, :7_000], noise(7_000, seed=7_000))
    assert torch.equal(two.audio[1, 7_000:], torch.zeros(1_000))
    assert list(two.failures) == groups[1][2:]
    assert (three.sounds, three.lengths, list(three.failures)) == ([], [], groups[2])


@pytest.mark.parametrize(
    ("processes", "sounds", "expected"),
    [(0, 1, decode.BATCHES_AHEAD), (5, 1, 5), (5, 2, decode.BATCHES_AHEAD), (2, 1, decode.BATCHES_AHEAD)],
)
def test_every_process_has_a_long_recording_to_decode(sound_folder, processes, sounds, expected):
    taken = []
    recordings = find_files([sound_folder / "a.wav"]) * sounds
    groups = (taken.append(number) or recordings for number in range(20))
    with closing(decode_batches(groups, processes)) as batches:
        next(batches)
        assert len(taken) == expected


def test_leaving_waits_for_no_process(sound_folder, monkeypatch):
    endless = FileSound("endless.wav", sound_folder / "endless")  # the file in which its reader says that it is at work
    (sound,) = find_files([sound_folder / "a.wav"])
    monkeypatch.setattr(decode, "read_unless_longer", read_or_wait_for_ever)
    with closing(decode_batches(iter([[sound], [endless, sound], [endless] * 9]), 2)) as batches:
        batch = next(batches)
        assert np.array_equal(batch.audio[0], sound.load())
        wait_until(lambda: endless.path.exists() and endless.path.read_text())
    assert not is_running(int(endless.path.read_text()))


def test_another_process_decodes_the_same_whatever_the_name_holds(sound_folder):
    (sound_folder / "a.wav").rename(sound_folder / "ü, \n.wav")
    sounds = [*find_files([sound_folder]), FileSound("absent.wav", sound_folder / "absent.wav")]
    (batch,) = decode_batches([sounds], 1)
    assert len(batch.sounds) == 3
    for wave, length, sound in zip(batch.audio, batch.lengths, batch.sounds, strict=True):
        assert np.array_equal(wave[:length], sound.load())
    assert list(batch.failures.values()) == ["no such file"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_a_process_that_decodes_does_without_torch(sound_folder):
    worker = parallel.Worker()
    worker.call(read_audio, sound_folder / "a.wav")
    libraries = Path(f"/proc/{worker.process.pid}/maps").read_text()
    worker.close()
    assert "libsndfile" in libraries
    assert "torch" not in libraries
