"""Waveform -> log-mel: equality with torchaudio, and what a log-mel means."""

import hashlib
import importlib.util
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_axlstm import frontend
from hear_axlstm.config import HOP, MIN_SAMPLES, N_MELS
from hear_axlstm.errors import AudioError
from hear_axlstm.frontend import log_mel, log_mel_frames, mel_filters
from tests.conftest import noise, tone
from tests.tolerances import BATCH_MATES


@pytest.mark.skipif(importlib.util.find_spec("torchaudio") is None, reason="torchaudio is not installed")
def test_equals_torchaudio(tmp_path):
    audio = noise(2, 20_123)
    torch.save(audio, tmp_path / "wave.pt")
    command = [sys.executable, "-m", "tests.torchaudio_mel", tmp_path / "wave.pt", tmp_path / "mel.pt"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = torch.load(tmp_path / "mel.pt")
    fused = "AVX" in torch.backends.cpu.get_cpu_capability()  # without multiply-adds theirs round otherwise
    torch.testing.assert_close(mel_filters(), theirs["filters"], rtol=0, atol=1e-6 if fused else 1e-5)
    ours = log_mel_frames(audio, [20_123, 20_123]).exp() - frontend.LOG_OFFSET
    torch.testing.assert_close(ours, theirs["mel"].transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_filters_are_the_same_on_every_processor():
    """To the bit: the released numbers depend on them, in float64, too."""
    digest = hashlib.sha256((mel_filters() + 0.0).numpy().tobytes()).hexdigest()
    assert digest == "c45e34a058b8769986f845ebceeafc6cc79acae45147285e08827b3562a5130b"


def test_a_tone_peaks_in_its_band():
    def mel(hertz):
        return 2595 * torch.log10(1 + hertz / 700)

    hertz = torch.tensor([250.0, 1_000.0, 4_000.0])
    points = mel(torch.tensor([50.0, 8_000.0]))
    expected = ((mel(hertz) - points[0]) / (points[1] - points[0]) * (N_MELS + 1)).round() - 1
    waves = torch.stack([torch.from_numpy(tone(h.item(), 0.5)) for h in hertz])
    bands = log_mel(waves)[:, 10:-10].mean(1).argmax(-1)
    assert (bands - expected).abs().max() <= 1


@pytest.mark.parametrize("samples", [MIN_SAMPLES, 16_000, 16_159, 16_160, 51_360])
def test_frame_count(samples):
    assert log_mel(noise(1, samples)).shape == (1, samples // HOP + 1, N_MELS)


def test_mean_zero_and_deviation_one_over_each_clip():
    mel = log_mel(torch.stack([noise(16_000), 0.01 * noise(16_000, seed=1)]))
    assert mel.mean((1, 2)).abs().max() < 1e-5
    torch.testing.assert_close(mel.flatten(1).std(1), torch.ones(2), rtol=1e-5, atol=0)


def test_half_an_hour_is_standardised_as_exactly_as_a_second(monkeypatch):
    frames = 180_000
    monkeypatch.setattr(frontend, "log_mel_frames", lambda audio, lengths: 3 * torch.randn(1, frames, N_MELS) - 8)
    mel = log_mel(torch.zeros(1, 1), torch.tensor([HOP * (frames - 1)]))
    assert mel.mean(dtype=torch.float64).abs() < 2e-7
    deviation = torch.linalg.vector_norm(mel.double()) / (mel.numel() - 1) ** 0.5
    torch.testing.assert_close(deviation, torch.ones_like(deviation), rtol=2e-7, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_constant_signal_is_finite(value):
    assert torch.isfinite(log_mel(torch.full((1, 16_000), value))).all()


def test_digital_silence_is_exactly_zero_in_any_batch():
    assert (log_mel(torch.zeros(1, 16_000)) == 0).all()
    assert (log_mel(torch.stack([torch.zeros(32_000), noise(32_000)]), torch.tensor([9_000, 32_000]))[0] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(MIN_SAMPLES, 8_000), min_size=1, max_size=4), st.integers(0, 3_000))
def test_lengths_hide_whatever_lies_beyond(lengths, extra):
    width = max(lengths) + extra
    audio = torch.full((len(lengths), width), torch.nan)
    for row, length in zip(audio, lengths, strict=True):
        row[:length] = noise(length, seed=length)
    together = log_mel(audio, torch.tensor(lengths))
    assert together.shape[1] == max(lengths) // HOP + 1
    for index, length in enumerate(lengths):
        alone = log_mel(audio[index : index + 1, :length])
        frames = alone.shape[1]
        torch.testing.assert_close(together[index, :frames], alone[0], rtol=0, atol=BATCH_MATES)
        assert (together[index, frames:] == 0).all()


def test_long_audio_is_analysed_in_blocks(monkeypatch):
    audio = noise(2, 30_000)
    whole = log_mel(audio)
    monkeypatch.setattr(frontend, "BLOCK_FRAMES", 34)
    torch.testing.assert_close(log_mel(audio), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_samples_that_are_not_finite_name_the_clip(value):
    audio = noise(3, 4_000)
    audio[1, 2_000] = value
    with pytest.raises(AudioError, match=r"clip 1 of the batch \(1 in all\)"):
        log_mel(audio)


def test_autocast_around_it_changes_nothing():
    audio = noise(1, 8_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_mel(audio)
    assert torch.equal(inside, log_mel(audio))


def test_gradients_after_a_first_use_in_inference_mode():
    frontend._analysis.cache_clear()
    audio = noise(1, 4_000)
    with torch.inference_mode():
        log_mel(audio)
    audio.requires_grad_()
    (log_mel(audio) * torch.randn(1, 26, N_MELS)).sum().backward()
    assert torch.isfinite(audio.grad).all()
    assert audio.grad.abs().sum() > 0


def test_gradients_of_silence_are_finite():
    audio = torch.zeros(1, 4_000, requires_grad=True)
    log_mel(audio).sum().backward()
    assert torch.isfinite(audio.grad).all()
