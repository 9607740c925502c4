"""Folders of audio become webdataset shards: every clip is there, whole, once; a second run does what is missing."""

import io
import tarfile

import numpy as np
import pytest
import soundfile
import torch
import webdataset

from hear_axlstm.audio import read_audio
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.frontend import log_mel
from hear_axlstm.pretraining.shards import write_shards
from tests.conftest import noise, tone


def members(shard):
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def durations(shards):
    return sorted(soundfile.info(io.BytesIO(content)).duration for shard in shards for content in members(shard).values())


@pytest.fixture
def long_folder(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index, seconds in enumerate((0.5, 4.0, 9.0, 11.0)):
        soundfile.write(folder / f"{index}.wav", noise(round(seconds * SAMPLE_RATE), seed=index).numpy(), SAMPLE_RATE)
    return folder


def test_long_recordings_are_cut_and_nothing_is_lost(long_folder, tmp_path):
    packed = write_shards([long_folder], tmp_path / "shards", clip_seconds=4.0)
    assert durations(packed.shards) == sorted([0.5, 4.0, 4.0, 5.0, 4.0, 4.0, 3.0])
    assert (packed.clips, packed.seconds, packed.failures) == (7, 24.5, {})


def test_any_rate_and_channel_count_becomes_16_khz_mono(sound_folder, tmp_path):
    packed = write_shards([sound_folder], tmp_path / "shards")
    for shard in packed.shards:
        for content in members(shard).values():
            info = soundfile.info(io.BytesIO(content))
            assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
    assert packed.clips == 3


def test_audio_is_what_went_in(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440, 3.0), SAMPLE_RATE)
    packed = write_shards([tmp_path / "a.wav"], tmp_path / "shards")
    (name, content), *rest = members(packed.shards[0]).items()
    assert name == "000000000-0000.flac"
    assert not rest
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    np.testing.assert_allclose(samples, read_audio(tmp_path / "a.wav"), atol=2**-15)


def test_log_mels_are_standardised_over_the_clip(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(3 * SAMPLE_RATE).numpy(), SAMPLE_RATE)
    packed = write_shards([tmp_path / "a.wav"], tmp_path / "shards", format="log-mel")
    mel = np.load(io.BytesIO(members(packed.shards[0])["000000000-0000.npy"]))
    assert (mel.dtype, mel.shape) == (np.float16, (301, 80))
    truth = log_mel(torch.from_numpy(read_audio(tmp_path / "a.wav").copy())[None])[0].numpy()
    np.testing.assert_allclose(mel.astype(np.float32), truth, atol=4e-3)  # half of float16's step at 8 deviations


def test_webdataset_reads_the_shards(sound_folder, tmp_path):
    packed = write_shards([sound_folder], tmp_path / "shards", files_per_shard=2)
    assert len(packed.shards) == 2
    dataset = webdataset.WebDataset([str(shard) for shard in packed.shards], shardshuffle=False)
    samples = list(dataset)
    assert len(samples) == 3
    assert len({sample["__key__"] for sample in samples}) == 3
    assert all(soundfile.info(io.BytesIO(sample["flac"])).samplerate == SAMPLE_RATE for sample in samples)


def test_a_broken_file_is_told_and_does_not_stop_the_others(sound_folder, tmp_path):
    (sound_folder / "broken.wav").write_bytes(b"RIFF and nothing")
    for _ in range(2):  # told again by a run that finds the shards made
        packed = write_shards([sound_folder], tmp_path / "shards")
        assert packed.clips == 3
        assert list(packed.failures) == ["broken.wav"]
        assert "cannot be decoded" in packed.failures["broken.wav"]


def test_a_second_run_makes_what_is_missing(sound_folder, tmp_path):
    first = write_shards([sound_folder], tmp_path / "shards", files_per_shard=1)
    content = {shard: shard.read_bytes() for shard in first.shards}
    first.shards[1].unlink()
    kept = {shard: shard.stat().st_mtime_ns for shard in (first.shards[0], first.shards[2])}
    again = write_shards([sound_folder], tmp_path / "shards", files_per_shard=1)
    assert (again.clips, again.seconds) == (first.clips, first.seconds)
    assert {shard: shard.read_bytes() for shard in again.shards} == content
    assert all(shard.stat().st_mtime_ns == modified for shard, modified in kept.items())


def test_shards_of_other_files_or_settings_are_refused(sound_folder, tmp_path):
    write_shards([sound_folder], tmp_path / "shards")
    with pytest.raises(OutputError, match="other settings: --format was flac and is log-mel now"):
        write_shards([sound_folder], tmp_path / "shards", format="log-mel")
    (sound_folder / "a.wav").unlink()
    with pytest.raises(OutputError, match="other settings: the recordings were others"):
        write_shards([sound_folder], tmp_path / "shards")
    assert write_shards([sound_folder], tmp_path / "shards", overwrite=True).clips == 2


def test_a_folder_of_somebodys_tar_files_is_left_alone(sound_folder, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "holiday.tar").write_bytes(b"")
    with pytest.raises(OutputError, match=r"holds holiday\.tar, but no shards\.json"):
        write_shards([sound_folder], tmp_path / "shards")


def test_bad_values_are_refused(sound_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no audio files below"):
        write_shards([tmp_path / "empty"], tmp_path / "shards")
    with pytest.raises(ConfigError, match="clip_seconds is 1"):
        write_shards([sound_folder], tmp_path / "shards", clip_seconds=1.0)
    with pytest.raises(ConfigError, match="format is 'mp3'"):
        write_shards([sound_folder], tmp_path / "shards", format="mp3")
    with pytest.raises(ConfigError, match="files_per_shard is 0"):
        write_shards([sound_folder], tmp_path / "shards", files_per_shard=0)
    assert not (tmp_path / "shards").exists()
