"""Files decoded by another process: what happens to it, and what it costs."""

import os
import signal
import sys
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from hear_axlstm.audio import read_audio
from hear_axlstm.errors import AudioError
from hear_axlstm.files import decoder_process as reader
from hear_axlstm.files.decoder_process import Reader


@pytest.fixture
def elsewhere():
    reader = Reader()
    yield reader
    reader.end()


def test_another_process_decodes_the_same(elsewhere, sound_folder):
    for name in ["a.wav", "b.flac", "below/c.ogg"]:
        assert np.array_equal(elsewhere.read_audio(sound_folder / name), read_audio(sound_folder / name))


def test_names_may_hold_anything(elsewhere, sound_folder):
    path = (sound_folder / "a.wav").rename(sound_folder / "ü, \n.wav")
    assert len(elsewhere.read_audio(path)) == 1.3 * 16_000
    with pytest.raises(AudioError, match="no such file"):
        elsewhere.read_audio(sound_folder / "absent.wav")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_does_without_torch(elsewhere, sound_folder):
    elsewhere.read_audio(sound_folder / "a.wav")
    libraries = Path(f"/proc/{elsewhere.process.pid}/maps").read_text()
    assert "libsndfile" in libraries
    assert "torch" not in libraries


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that is never read to its end")
def test_a_process_that_is_killed_is_told_and_replaced(elsewhere, sound_folder):
    os.mkfifo(sound_folder / "endless.wav")
    elsewhere.read_audio(sound_folder / "a.wav")
    Timer(0.2, os.kill, (elsewhere.process.pid, signal.SIGKILL)).start()
    with pytest.raises(AudioError, match=r"endless\.wav: .*ended with SIGKILL"):
        elsewhere.read_audio(sound_folder / "endless.wav")
    assert len(elsewhere.read_audio(sound_folder / "a.wav")) == 1.3 * 16_000
    os.kill(elsewhere.process.pid, signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(AudioError, match="ended with SIGKILL"):  # no file is tried twice: it may be to blame
        elsewhere.read_audio(sound_folder / "a.wav")


def test_a_process_that_cannot_start_is_told(elsewhere, sound_folder, monkeypatch):
    monkeypatch.setattr(reader, "PROGRAM", "raise SystemExit(3)")
    with pytest.raises(OSError, match=r"ended with exit status 3 as it started; workers=0 does without"):
        elsewhere.read_audio(sound_folder / "a.wav")
