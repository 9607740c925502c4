"""Waveform (B, T) -> standardised log-mel (B, N, F). Stage 1 of 4."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from hear_axlstm.config import F_MAX, F_MIN, HOP, N_FFT, N_MELS, SAMPLE_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.ops.backend import is_recorded

LOG_OFFSET = 1.1920929e-07  # the float32 epsilon, in every precision
STD_OFFSET = 1e-8
BLOCK_FRAMES = 65_536  # frames analysed at once, over all clips: bounds memory for any clip length
SUMS = {"mps": torch.float32}  # sums over a clip: elsewhere float64, for float32 errs by 0.2 % over an hour


def mel_filters() -> Tensor:
    """Triangles (201 bins, 80 bands), peak 1, between equally spaced points of the HTK mel scale, in float32."""
    bins = torch.linspace(0, SAMPLE_RATE // 2, N_FFT // 2 + 1, device="cpu", dtype=torch.float32)
    # As torchaudio has them with AVX2, to the bit, on any processor: float32's linspace and pow differ between processors.
    ends = [2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (F_MIN, F_MAX)]
    low, high = torch.tensor(ends, device="cpu", dtype=torch.float32).double().unbind()
    step, index = ((high - low) / (N_MELS + 1)).float().double(), torch.arange(N_MELS + 2, device="cpu", dtype=torch.float64)
    mel = torch.where(index <= N_MELS // 2, low + index * step, high - index.flip(0) * step).float()
    corners = 700.0 * ((10.0 ** (mel / 2595.0).double()).float() - 1.0)
    widths = corners.diff()
    distance = corners[None, :] - bins[:, None]  # (bins, bands + 2), Hz from each bin up to each corner
    return torch.minimum(-distance[:, :-2] / widths[:-1], distance[:, 2:] / widths[1:]).clamp(min=0.0)


@lru_cache(maxsize=16)
def _analysis(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Hann window and mel filters: float32 values, whatever ``dtype`` holds them."""
    with torch.inference_mode(False), torch.no_grad():  # cached tensors must serve callers that differentiate, too
        window = torch.hann_window(N_FFT, periodic=True, device="cpu", dtype=torch.float32)
        return window.to(device, dtype), mel_filters().to(device, dtype)


def reflected(audio: Tensor, end: Tensor, first: int, last: int) -> Tensor:
    """Samples first .. last - 1 of every clip, mirrored about the clip's own ends.

        index  -3 -2 -1 |0  1  2  3| 4  5         a clip of 4 samples
        reads   3  2  1 |0  1  2  3| 2  1

    end: each clip's last sample, (B, 1). Frames beyond a shorter clip read its first one; they are not used.
    """
    index = torch.arange(first, last, device=audio.device).abs()
    index = (end - (end - index).abs()).clamp(min=0)
    return audio.gather(1, index.expand(audio.shape[0], -1))


def log_mel_power(wave: Tensor) -> Tensor:
    """ln(mel power + 1.19e-7) of each whole window. Shape: (B, T) -> (B, N, F), N = 1 + (T - 400) // 160."""
    window, filters = (_analysis.__wrapped__ if is_recorded() else _analysis)(wave.dtype, wave.device)
    with torch.autocast(wave.device.type, enabled=False):
        spectrum = torch.stft(wave, N_FFT, HOP, window=window, center=False, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (power.transpose(1, 2) @ filters + LOG_OFFSET).log()


def log_mel_frames(audio: Tensor, lengths: Sequence[int]) -> Tensor:
    """``log_mel_power`` around every 160th sample; frames beyond a clip's own are arbitrary but finite.

    Shape: audio (B, T), B lengths -> (B, N, F), N = 1 + max(lengths) // 160.
    """
    total = 1 + max(lengths) // HOP
    step = max(1, BLOCK_FRAMES // audio.shape[0])
    end = torch.tensor(lengths, device=audio.device)[:, None] - 1
    blocks = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        wave = reflected(audio, end, start * HOP - N_FFT // 2, (stop - 1) * HOP + N_FFT // 2)
        blocks.append(log_mel_power(wave))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def log_mel(audio: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
    """Standardised log-mel of each clip: (x - mean) / (std + 1e-8) over the clip's own frames and bands.

    Equals ``torchaudio.transforms.MelSpectrogram(16000, n_fft=400, win_length=400, hop_length=160, f_min=50, f_max=8000,
    n_mels=80, power=2.0)`` before the logarithm. Runs on the audio's device, in its dtype (float32 or float64).

    Shape: audio (B, T), mono at 16 kHz in [-1, 1]; lengths (B,), samples of each clip, T when left out
    -> (B, N, F), N = 1 + max(lengths) // 160; zero in the frames beyond a shorter clip.

    Raises AudioError when a clip holds NaN, an infinity, or samples so large that their power overflows.

    >>> log_mel(torch.rand(2, 16_000)).shape
    torch.Size([2, 101, 80])
    """
    own = [audio.shape[1]] * len(audio) if lengths is None else [int(length) for length in lengths]
    mel = log_mel_frames(audio, own)
    mel = standardised(mel, torch.tensor([1 + length // HOP for length in own], device=mel.device))
    if not is_recorded() and (bad := mel[:, 0, 0].isnan().nonzero().flatten().tolist()):
        raise AudioError(
            f"clip {bad[0]} of the batch ({len(bad)} in all) holds NaN, infinity or samples too large to analyse; "
            "expected finite samples in [-1, 1]: look at the file it was read from"
        )
    return mel


def standardised(mel: Tensor, frames: Tensor, offset: float | Tensor = STD_OFFSET) -> Tensor:
    """(x - mean) / (std + offset) over each clip's own frames, 0 beyond, in mel's memory: (B, N, F), (B,) -> (B, N, F)."""
    frames = frames[:, None, None]
    count = frames * N_MELS
    inside = torch.arange(mel.shape[1], device=mel.device)[:, None] < frames
    # Sums are about the first value, so that silence has exactly no deviation; in place, so that hours of audio fit.
    deviation = mel.sub_(mel[:, :1, :1].clone()).masked_fill_(~inside, 0.0)
    sums = SUMS.get(mel.device.type, torch.float64)
    mean = deviation.sum(2, keepdim=True).to(sums).sum(1, keepdim=True) / count
    deviation = deviation.sub_(mean.to(mel.dtype)).masked_fill_(~inside, 0.0)
    norms = torch.linalg.vector_norm(deviation, dim=2, keepdim=True).to(sums)
    std = (torch.linalg.vector_norm(norms, dim=1, keepdim=True) / (count - 1).to(sums).sqrt()).to(mel.dtype)
    return deviation / (std + offset)
