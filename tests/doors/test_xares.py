"""Our encoders under X-ARES: its check of an encoder, its padding, and a run of a task of our own."""

import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.doors.xares import Timestamps
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, WeightsError
from hear_axlstm.weights.find import list_models
from tests.conftest import noise, tone


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The class of a small encoder."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    hear_axlstm.save_weights(Encoder(AxLSTMConfig(width=16, depth=1)), path)

    class SmallEncoder(Timestamps):
        weights = str(path)

    return SmallEncoder


def alone(encoder, clip):
    return encoder.model.timestamps(clip[None])[0][0]


def test_an_encoder_gives_timestamp_embeddings(small):
    encoder, audio = small(), noise(3, 50_000)
    found = encoder(audio)
    assert found.shape == (3, 78, encoder.output_dim)
    assert found.dtype == torch.float32
    assert (encoder.sampling_rate, encoder.hop_size_in_ms, encoder.training) == (16_000, 40, False)
    torch.testing.assert_close(found, encoder.model.timestamps(audio)[0])
    torch.testing.assert_close(encoder(audio[0]), found[:1])


def test_padding_changes_no_clip_unless_zeros_are_sound(small):
    encoder, clips = small(), [noise(40_000, seed=1), noise(9_000, seed=2)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    found = encoder(batch)
    for row, clip in zip(found, clips, strict=True):
        own = alone(encoder, clip)
        torch.testing.assert_close(row[: len(own)], own, rtol=0, atol=1e-5)
        assert not row[len(own) :].any()

    class SoundEncoder(small):
        zeros_are_padding = False

    torch.testing.assert_close(SoundEncoder()(batch), encoder.model.timestamps(batch)[0])
    assert not torch.allclose(SoundEncoder()(batch)[1, :10], found[1, :10], atol=1e-2)


def test_the_number_of_steps_follows_from_the_length_of_the_batch(small):
    encoder, silent = small(), torch.zeros(2, 32_000)
    silent[0, :5_000] = noise(5_000)
    assert encoder(silent).shape == (2, 50, encoder.output_dim)
    assert encoder(silent).isfinite().all()
    assert encoder(noise(1, 201)).shape[1] == 1


def test_what_is_no_sound_is_an_error(small):
    for audio, said in [
        (torch.zeros(1, 200), "201"),
        (torch.zeros(1, 2, 400), "shape"),
        (torch.zeros(1, 400).short(), "int16"),
    ]:
        with pytest.raises(AudioError, match=said):
            small()(audio)


@pytest.mark.parametrize("variant", list_models())
def test_each_variant_has_a_module_with_one_encoder(variant, monkeypatch):
    utils = pytest.importorskip("xares.utils", exc_type=ImportError)
    found = utils.attr_from_py_path(f"hear_axlstm/doors/xares/{variant.replace('-', '_')}.py", endswith="Encoder")
    assert issubclass(found, Timestamps)
    assert found.weights == variant
    assert found.__name__ == "".join(part.capitalize() for part in variant.split("-")) + "Encoder"


def test_a_variant_without_weights_says_how_to_get_them():
    from hear_axlstm.doors.xares.ssam_base import SsamBaseEncoder

    with pytest.raises(WeightsError, match="no weights of ssam-base"):
        SsamBaseEncoder()


def test_the_check_of_xares_passes():
    checker = pytest.importorskip("xares.audio_encoder_checker", exc_type=ImportError)
    from hear_axlstm.doors.xares.axlstm_tiny_open import AxlstmTinyOpenEncoder

    assert checker.check_audio_encoder(AxlstmTinyOpenEncoder())


def test_a_task_of_ones_own_runs(small, tmp_path):
    """Tones of many lengths, so that batches are padded; X-ARES decodes, encodes, trains and scores."""
    try:
        from xares.audiowebdataset import write_audio_tar
        from xares.task import TaskConfig, XaresTask
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"xares with torchaudio is not here: {error}")
    folder = tmp_path / "tones"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        paths, labels = [], []
        for number in range(16):
            path = tmp_path / f"{split}{number}.wav"
            soundfile.write(path, 0.8 * tone((300, 3_000)[number % 2] * (1 + number / 80), 0.2 + number / 20), 16_000)
            paths.append(str(path))
            labels.append({"label": number % 2})
        write_audio_tar(paths, labels, str(folder / f"{split}*.tar"), num_shards=1)
    (folder / ".audio_tar_ready").touch()

    config = TaskConfig(
        name="tones",
        encoder=small(),
        env_root=tmp_path,
        output_dim=2,
        epochs=20,
        learning_rate=1e-2,
        label_processor=lambda facts: facts["label"],
        num_encoder_workers=0,
        eval_weight=16,
    )
    (mlp, size), (knn, _) = XaresTask(config=config).run()
    assert (mlp, size) == (1.0, 16)
    assert knn == 1.0
