"""Batches decoded ahead of their use."""

import os
import time

import numpy as np
import pytest
import torch

from hear_axlstm.files import decode as decoding
from hear_axlstm.files.decode import Decoding
from hear_axlstm.files.find import ArraySound, FileSound, find_files
from tests.conftest import noise


def arrays(*lengths):
    return [ArraySound(str(n), noise(n, seed=n).numpy(), 16_000) for n in lengths]


def test_batches_come_in_order_padded_with_silence():
    groups = [arrays(9_000), arrays(8_000, 7_000, 3), arrays(2)]
    with Decoding() as ahead:
        one, two, three = ahead.batches(iter(groups))
    assert (one.sounds, one.lengths, one.audio.shape) == (groups[0], [9_000], (1, 9_000))
    assert (two.sounds, two.lengths, two.audio.shape) == (groups[1][:2], [8_000, 7_000], (2, 8_000))
    assert torch.equal(two.audio[1, :7_000], noise(7_000, seed=7_000))
    assert torch.equal(two.audio[1, 7_000:], torch.zeros(1_000))
    assert list(two.failures) == groups[1][2:]
    assert (three.sounds, three.lengths, list(three.failures)) == ([], [], groups[2])


@pytest.mark.parametrize(("processes", "expected"), [(0, decoding.BATCHES_AHEAD + 1), (5, 5)])
def test_every_process_has_a_long_recording_to_decode(processes, expected):
    taken = []
    groups = (taken.append(number) or arrays(9_000 + number) for number in range(20))
    with Decoding(processes) as ahead:
        next(ahead.batches(groups))
        assert len(taken) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that is never read to its end")
def test_leaving_waits_for_no_process(sound_folder):
    os.mkfifo(sound_folder / "endless.wav")
    endless = FileSound("endless.wav", sound_folder / "endless.wav")
    (sound,) = find_files([sound_folder / "a.wav"])
    with Decoding(2) as ahead:
        batch = next(ahead.batches(iter([[sound], [endless, sound], [endless] * 9])))
        assert np.array_equal(batch.audio[0], sound.load())
        time.sleep(0.2)
        start = time.monotonic()
    assert time.monotonic() - start < 2
