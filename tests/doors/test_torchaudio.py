"""torchaudio: what it loads is embedded as it is, and its log-mel is ours. Its last release needs one build of torch."""

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import embed
from hear_axlstm.audio import to_wave
from hear_axlstm.frontend import LOG_OFFSET, log_mel_frames, mel_filters
from tests.conftest import noise, tone

try:
    import torchaudio
except (ImportError, OSError, RuntimeError) as error:
    pytest.skip(f"torchaudio cannot be imported ({error})", allow_module_level=True)


@pytest.fixture
def paths(tmp_path):
    """Sounds of one and two channels, at four rates."""
    for index, (rate, channels) in enumerate([(16_000, 1), (44_100, 2), (22_050, 1), (8_000, 2)]):
        wave = np.stack([tone(300 * (1 + channel), 0.6, rate) for channel in range(channels)], axis=1)
        soundfile.write(tmp_path / f"{index}.wav", 0.4 * wave, rate)
    return sorted(tmp_path.iterdir())


def loaded(path):
    """``torchaudio.load`` is torchcodec's, which needs FFmpeg's libraries."""
    try:
        return torchaudio.load(path)
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchaudio cannot load ({error})")


def test_what_it_loads_is_embedded_as_the_files_are(golden, paths):
    model = golden("ssast").model()
    expected = embed(paths, model).matrix
    np.testing.assert_allclose(embed([loaded(path) for path in paths], model).matrix, expected, atol=1e-5)
    np.testing.assert_allclose(embed((loaded(path) for path in paths), model).matrix, expected, atol=1e-5)
    np.testing.assert_allclose(embed(loaded(paths[1]), model).matrix, expected[1:2], atol=1e-5)


def test_a_short_sound_in_stereo_has_its_channels_first(tmp_path):
    wave = np.stack([tone(440, 0.002), tone(880, 0.002)], axis=1)
    soundfile.write(tmp_path / "short.wav", wave, 16_000, subtype="FLOAT")
    samples, rate = loaded(tmp_path / "short.wav")
    assert samples.shape == (2, 32)
    np.testing.assert_allclose(to_wave((samples, rate), pad=True)[:32], wave.mean(axis=1), atol=1e-7)


def test_its_log_mel_is_ours():
    """The filters to the last bit, the logarithms but for the power, of which it takes a root first, and then squares it."""
    transform = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=400, win_length=400, hop_length=160, f_min=50, f_max=8_000, n_mels=80, power=2.0
    )
    audio = noise(3, 20_123)
    if "AVX" in torch.backends.cpu.get_cpu_capability():  # ours are as it has them there
        assert torch.equal(mel_filters(), transform.mel_scale.fb)
    theirs = (transform(audio) + LOG_OFFSET).log().transpose(1, 2)
    torch.testing.assert_close(log_mel_frames(audio, [20_123] * 3), theirs, rtol=0, atol=2e-6)


def test_its_transform_of_ours_is_equal_to_the_last_bit():
    """With the power of ours, all that follows is equal: window, frames, filters and their product."""
    audio = noise(2, 20_123)
    spectrogram = torchaudio.transforms.Spectrogram(n_fft=400, win_length=400, hop_length=160, power=None)(audio)
    scale = torchaudio.transforms.MelScale(80, 16_000, 50, 8_000, 201)
    theirs = scale(torch.view_as_real(spectrogram).square().sum(-1))
    assert torch.equal((theirs + LOG_OFFSET).log().transpose(1, 2), log_mel_frames(audio, [20_123] * 2))
