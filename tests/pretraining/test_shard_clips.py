"""Shards, ours and those of webdataset itself, are read at random; what is not whole is told by name."""

import io

import numpy as np
import pytest
import soundfile
import torch
import webdataset

from hear_axlstm.audio import read_audio
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.shards import write_shards
from tests.conftest import noise


def encoded(samples, **options):
    content = io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, **options)
    return content.getvalue()


def test_clips_come_back_standardised(sound_folder, tmp_path):
    corpus = ShardClips([write_shards([sound_folder], tmp_path / "shards").shards[0].parent])
    assert len(corpus) == 3
    found = sorted(corpus.log_mel(index).shape[0] for index in range(3))
    assert found == sorted(1 + len(read_audio(path)) // 160 for path in sound_folder.rglob("*.*"))
    for index in range(3):
        mel = corpus.log_mel(index)
        assert mel.mean().item() == pytest.approx(0, abs=1e-4)
        assert mel.std().item() == pytest.approx(1, abs=1e-4)


def test_shards_that_webdataset_wrote_are_read(tmp_path):
    wave = noise(2 * SAMPLE_RATE).numpy()
    mel = log_mel(torch.from_numpy(wave)[None])[0].numpy()
    with webdataset.TarWriter(str(tmp_path / "other.tar"), encoder=False) as writer:
        writer.write({"__key__": "speech/one", "wav": encoded(wave, format="WAV"), "json": b"{}"})
        writer.write({"__key__": "speech/two", "ogg": encoded(wave, format="OGG", subtype="VORBIS"), "cls": b"3"})
        content = io.BytesIO()
        np.save(content, mel)
        writer.write({"__key__": "three", "npy": content.getvalue()})
    corpus = ShardClips([tmp_path / "*.tar"])
    assert len(corpus) == 3
    by_name = {member.name: corpus.log_mel(index) for index, member in enumerate(corpus.members)}
    torch.testing.assert_close(by_name["three.npy"], torch.from_numpy(mel))
    assert (by_name["speech/one.wav"] - torch.from_numpy(mel)).abs().mean() < 1e-3  # 16 bits
    assert by_name["speech/two.ogg"].shape == mel.shape


def array(values):
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def test_targets_stand_beside_their_clip(tmp_path):
    spoken = np.arange(12, dtype=np.float16).reshape(4, 3)
    with webdataset.TarWriter(str(tmp_path / "taught.tar"), encoder=False) as writer:
        sound = encoded(noise(SAMPLE_RATE).numpy(), format="WAV")
        writer.write({"__key__": "a/one", "wav": sound, "speech.npy": array(spoken), "pitch.npy": array(spoken[:, :2])})
        writer.write({"__key__": "b/one", "wav": sound, "pitch.npy": array(spoken[:, 1:])})
    corpus = ShardClips([tmp_path])
    assert [member.name for member in corpus.members] == ["a/one.wav", "b/one.wav"]
    assert corpus.sizes == {"pitch": 2, "speech": 3}
    assert corpus.targets(0, ["speech"])["speech"].tolist() == spoken.tolist()
    assert corpus.targets(1, ["speech", "pitch"])["pitch"].tolist() == spoken[:, 1:].tolist()
    assert corpus.targets(1, ["speech"]) == {}


def test_log_mels_have_no_samples_to_learn_targets_from(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "mels.tar"), encoder=False) as writer:
        writer.write({"__key__": "one", "npy": array(np.zeros((300, 80), np.float32))})
    with pytest.raises(AudioError, match=r"one\.npy is a log-mel; expected audio.*--format flac"):
        ShardClips([tmp_path]).wave(0)


def test_clips_are_grouped_by_source(sound_folder, tmp_path):
    write_shards([sound_folder], tmp_path / "shards", files_per_shard=1)
    corpus = ShardClips([tmp_path / "shards" / "shard-000002.tar", tmp_path / "shards" / "shard-00000[01].tar"])
    assert corpus.groups == [[2], [0, 1]]


def test_sources_that_overlap_count_once(sound_folder, tmp_path):
    write_shards([sound_folder], tmp_path / "shards", files_per_shard=1)
    assert len(ShardClips([tmp_path / "shards", tmp_path / "shards" / "shard-00000[01].tar"])) == 3


def test_no_sources_are_an_empty_corpus():
    assert len(ShardClips([])) == 0


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.tar"])
def test_a_source_without_shards_is_told(source):
    with pytest.raises(ConfigError, match="no shards at nowhere"):
        ShardClips([source])


def test_a_damaged_shard_is_told(tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"this is no tar file" * 100)
    with pytest.raises(ConfigError, match=r"bad\.tar: not a whole tar file"):
        ShardClips([tmp_path])


def test_shards_without_clips_are_told(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "texts.tar"), encoder=False) as writer:
        writer.write({"__key__": "a", "txt": b"words"})
    with pytest.raises(ConfigError, match="no clips in 1 shard"):
        ShardClips([tmp_path])


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        ("flac", b"not sound", "flac"),
        ("wav", encoded(np.zeros(100), format="WAV"), "too short"),
        ("npy", b"not an array", "npy"),
    ],
)
def test_a_clip_that_cannot_be_decoded_is_told_with_its_shard(tmp_path, suffix, content, reason):
    with webdataset.TarWriter(str(tmp_path / "some.tar"), encoder=False) as writer:
        writer.write({"__key__": "bad", suffix: content})
    with pytest.raises(AudioError, match=rf"some\.tar: member bad\.{suffix}: ") as caught:
        ShardClips([tmp_path]).log_mel(0)
    assert reason in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros((80, 300), np.float32), np.zeros((300, 80), np.int16), np.zeros(80, np.float32)])
def test_an_array_that_is_no_log_mel_is_told(tmp_path, array):
    content = io.BytesIO()
    np.save(content, array)
    with webdataset.TarWriter(str(tmp_path / "some.tar"), encoder=False) as writer:
        writer.write({"__key__": "bad", "npy": content.getvalue()})
    with pytest.raises(AudioError, match=r"expected floating point \(frames, 80\)"):
        ShardClips([tmp_path]).log_mel(0)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with webdataset.TarWriter(str(tmp_path / "some.tar"), encoder=False) as writer:
        writer.write({"__key__": "bad", "npy": content.getvalue()})
    with pytest.raises(AudioError, match="allow_pickle=False"):
        ShardClips([tmp_path]).log_mel(0)
