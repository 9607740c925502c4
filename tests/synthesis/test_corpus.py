"""A corpus: its files, its header, and how it is taken up again."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm.audio import read_audio
from hear_axlstm.errors import AudioError, ConfigError, OutputError
from hear_axlstm.synthesis import corpus
from hear_axlstm.synthesis.corpus import random_clip, write_corpus
from hear_axlstm.synthesis.procedural import synthesize

SECOND = 1 / 3_600  # of an hour
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "corpus"


def clips(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "corpus.json"}


def make(out, seconds=2, **options):
    return write_corpus(out, "procedural", seconds * SECOND, **{"clip_seconds": 0.5, **options})


def test_a_clip_is_what_its_kind_seed_and_number_make(out):
    assert make(out, seed=3) == 4
    assert sorted(clips(out)) == [f"procedural-3-00000{index}.flac" for index in range(4)]
    for index in range(4):
        expected = synthesize(torch.tensor([index]), 3, 0.5)[0]
        np.testing.assert_allclose(read_audio(out / f"procedural-3-00000{index}.flac"), expected, atol=2**-15)


def test_clips_are_flac_at_16_khz_with_16_bits(out):
    assert make(out, seconds=3, clip_seconds=1.5) == 2
    info = soundfile.info(out / "procedural-0-000001.flac")
    assert (info.format, info.subtype) == ("FLAC", "PCM_16")
    assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 24_000)


def test_hours_are_rounded_up_to_whole_clips(out):
    assert make(out, seconds=0.6) == 2
    assert make(out, seconds=1.1) == 1


def test_what_is_there_is_left_alone_and_the_rest_is_made_again_alike(out):
    assert make(out) == 4
    before = clips(out)
    (out / "procedural-0-000002.flac").unlink()
    (out / "procedural-0-000001.flac").write_bytes(b"mine")
    assert make(out, workers=1) == 1
    assert clips(out) == {**before, "procedural-0-000001.flac": b"mine"}
    assert make(out, seconds=3) == 2
    assert make(out, seconds=1, seed=1) == 2
    assert len(clips(out)) == 8


def test_an_interrupted_run_is_taken_up_again(out, monkeypatch):
    def interrupted(*arguments):
        if arguments[2] == 2:
            raise KeyboardInterrupt
        return random_clip(*arguments)

    monkeypatch.setattr(corpus, "random_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(out, seconds=50, workers=1)
    kept = clips(out)
    assert 2 <= len(kept) < 99
    assert not any(name.endswith(".part") for name in kept)
    monkeypatch.setattr(corpus, "random_clip", random_clip)
    assert make(out) == 4 - len([name for name in kept if name <= "procedural-0-000003.flac"])
    assert kept.items() <= clips(out).items()


def test_a_full_disk_leaves_no_part_of_a_clip(out, monkeypatch):
    def full(path, content):
        with open(path, "wb") as file:
            file.write(bytes(content)[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        make(out)
    assert clips(out) == {}
    assert not list(out.glob(".*"))


def test_other_settings_are_refused(out):
    make(out)
    header = json.loads((out / "corpus.json").read_text())
    assert header["kind"] == "procedural"
    assert header["soundfont_sha256"] is None
    with pytest.raises(OutputError, match=r"other settings: --clip-seconds was 0\.5 and is 1\.0 now; choose another folder"):
        make(out, clip_seconds=1.0)
    (out / "corpus.json").write_text(json.dumps({**header, "made_by": "hear-axlstm 0.0.1"}))
    with pytest.raises(OutputError, match=r"its clips were made by hear-axlstm 0\.0\.1 and"):
        make(out)
    (out / "corpus.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        make(out)
    (out / "corpus.json").unlink()
    with pytest.raises(OutputError, match=r"holds procedural-0-.*, but no corpus\.json"):
        make(out)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        make(tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("noise", 1), {}, "kind is 'noise'; expected one of 'procedural', 'speech', 'music'"),
        (("speech", 0), {}, "hours is 0; expected a positive number"),
        (("speech", float("nan")), {}, "hours is nan"),
        (("speech", 1), {"clip_seconds": 61}, r"clip_seconds is 61; expected 0\.1 to 60"),
        (("speech", 1), {"seed": -1}, "seed is -1"),
        (("speech", 1), {"soundfont": "a.sf2"}, "goes with music"),
        (("speech", 1), {}, "espeak-ng is not on the PATH"),
        (("music", 1), {}, r"no TimGM6mb\.sf2"),
    ],
)
def test_what_cannot_be_made_is_refused_before_there_is_a_folder(out, monkeypatch, arguments, options, message):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("hear_axlstm.synthesis.music.SOUNDFONT_FOLDERS", ())
    with pytest.raises(ConfigError, match=message):
        write_corpus(out, *arguments, **options)
    assert not out.exists()


# With stand-ins for the programs


def test_speech_has_training_voices_at_random_levels(out, fake_espeak):
    assert write_corpus(out, "speech", 8 * SECOND, clip_seconds=1.0, workers=2) == 8
    variants = {call["arguments"][1].partition("+")[2] for call in fake_espeak() if call["stdin"]}
    assert variants <= {"adam", "Storm", "klatt", "klatt2"}
    peaks = [np.abs(read_audio(out / name)).max() for name in clips(out)]
    assert max(peaks) > 3 * min(peaks)
    assert max(peaks) < 0.9
    assert json.loads((out / "corpus.json").read_text())["made_by"].endswith(", espeak-ng 1.99")


def test_music_remembers_its_soundfont(out, fake_fluidsynth, fake_soundfont):
    options = {"clip_seconds": 0.5, "soundfont": fake_soundfont}
    assert write_corpus(out, "music", 1 * SECOND, **options) == 2
    assert all(str(fake_soundfont) in call["arguments"] for call in fake_fluidsynth() if len(call["arguments"]) > 1)
    fake_soundfont.write_bytes(fake_soundfont.read_bytes() + b"more")
    with pytest.raises(OutputError, match=r"the SoundFont was another \(--soundfont\)"):
        write_corpus(out, "music", 1 * SECOND, **options)


def test_a_failing_program_stops_the_run_and_what_was_finished_is_kept(out, installed, fake_soundfont):
    failing = 'if "--version" not in sys.argv: sys.exit("no more voices")'
    calls = installed("fluidsynth", failing)
    with pytest.raises(AudioError, match="no more voices"):
        write_corpus(out, "music", 1, soundfont=fake_soundfont, workers=1)
    assert len(calls()) < 50  # of 360
    assert [path.name for path in out.iterdir()] == ["corpus.json"]


# With the programs themselves


@needs_espeak
def test_a_corpus_of_speech_is_the_same_whatever_the_order(out, tmp_path):
    options = {"clip_seconds": 2.0, "seed": 1}
    write_corpus(out, "speech", 8 * SECOND, workers=3, **options)
    write_corpus(tmp_path / "again", "speech", 8 * SECOND, workers=1, **options)
    assert clips(out) == clips(tmp_path / "again")
    assert len(set(clips(out).values())) == 4
