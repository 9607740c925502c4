"""Who speaks: the states of the LSTM of Resemblyzer (Apache-2.0), trained to tell 7,000 voices apart.

They know more of what is said and played than the 256 numbers that it makes of a voice.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teachers.moments import MOMENT, moments
from teachers.wheels import Wheel

WHEEL = Wheel(
    "resemblyzer",
    "0.1.4",
    "Resemblyzer-0.1.4-py3-none-any.whl",
    "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
)
SAMPLE_RATE, WINDOW, HOP, BANDS = 16_000, 400, 160, 40
FRAMES, STEP = 160, 80  # of what it has been trained on, 1.6 s; of these, as many are listened through before
LEVEL = 10 ** (-30 / 20)  # quieter clips are raised to this root mean square
PRECISION = torch.bfloat16  # three times as fast as float32; states are 0.5 % off
BATCH = 192  # windows

Layer = tuple[Tensor, Tensor, Tensor]


def load(wheels: Path) -> Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    content = io.BytesIO(WHEEL.read(wheels, "resemblyzer/pretrained.pt"))
    state = torch.load(content, map_location="cpu", weights_only=True)["model_state"]
    layers = [_layer(state, number) for number in range(3)]
    bank = _mel_bank()
    return lambda waves: _taught(waves, layers, bank)


def _taught(waves: Sequence[NDArray[np.float32]], layers: list[Layer], bank: Tensor) -> list[NDArray[np.float32]]:
    heard = [_windows(_mel(wave, bank)) for wave in waves]
    with torch.inference_mode():
        states = torch.cat([_states(batch, layers) for batch in torch.cat(heard).split(BATCH)])
    rows = states.split([len(windows) for windows in heard])
    return [_joined(own)[: moments(wave)].numpy() for own, wave in zip(rows, waves, strict=True)]


def _mel(wave: NDArray[np.float32], bank: Tensor) -> Tensor:
    """Powers in mel bands, 4 frames a moment, frame n about the samples around 160 n + 80. Shape: -> (4 * moments, 40)."""
    level = np.sqrt(np.square(wave).mean(dtype=np.float64))
    scale = max(1.0, LEVEL / max(level, 1e-9))
    edge = (WINDOW - HOP) // 2
    rest = moments(wave) * MOMENT - len(wave)
    padded = torch.from_numpy(np.pad(wave * np.float32(scale), (edge, edge + rest)))
    spectrum = torch.stft(padded, WINDOW, HOP, window=torch.hann_window(WINDOW), center=False, return_complex=True)
    return (bank @ spectrum.abs().square()).T


def _windows(mel: Tensor) -> Tensor:
    """Windows of 160 frames every 80, silence after the end. Shape: -> (windows, 160, 40)."""
    count = max(1, -(-len(mel) // STEP) - 1)
    padded = torch.nn.functional.pad(mel, (0, 0, 0, (count + 1) * STEP - len(mel)))
    return padded.unfold(0, FRAMES, STEP).transpose(1, 2)


def _joined(states: Tensor) -> Tensor:
    """Of the first window all, of the others the later half. Shape: (windows, 40, 256) -> (20 * windows + 20, 256)."""
    half = STEP * HOP // MOMENT
    return torch.cat([states[0, :half], states[:, half:].flatten(0, 1)])


def _states(windows: Tensor, layers: list[Layer]) -> Tensor:
    """What the top layer holds, the mean of 4 frames. Shape: (B, 160, 40) -> (B, 40, 256), float32."""
    sequence = windows.transpose(0, 1).to(PRECISION)
    for layer in layers:
        sequence = _lstm(sequence, layer)
    return sequence.float().unflatten(0, (-1, MOMENT // HOP)).mean(1).transpose(0, 1)


def _lstm(sequence: Tensor, layer: Layer) -> Tensor:
    """One layer of an LSTM, from zero. Shape: (S, B, inputs) -> (S, B, H)."""
    weights, recurrent, bias = layer
    size = len(recurrent)
    inputs = torch.addmm(bias, sequence.flatten(0, 1), weights).unflatten(0, sequence.shape[:2])
    state = sequence.new_zeros(sequence.shape[1], size)
    cell = torch.zeros(sequence.shape[1], size)
    out = sequence.new_empty(*sequence.shape[:2], size)
    for step, own in enumerate(inputs):
        gates = torch.addmm(own, state, recurrent).float()
        let_in, keep, _, let_out = gates.sigmoid().chunk(4, 1)
        cell = keep * cell + let_in * gates[:, 2 * size : 3 * size].tanh()
        state = (let_out * cell.tanh()).to(sequence.dtype)
        out[step] = state
    return out


def _layer(state: dict[str, Tensor], number: int) -> Layer:
    """Weights of the input, of the state, and the bias."""
    weights, recurrent = (state[f"lstm.weight_{part}_l{number}"].T.contiguous() for part in ("ih", "hh"))
    bias = state[f"lstm.bias_ih_l{number}"] + state[f"lstm.bias_hh_l{number}"]
    return weights.to(PRECISION), recurrent.to(PRECISION), bias.to(PRECISION)


def _mel_bank() -> Tensor:
    """Triangles of equal area on Slaney's scale, linear up to 1 kHz, to 8 kHz. Shape: (40, 201)."""
    top = 15 + np.log(8) / (np.log(6.4) / 27)
    marks = np.linspace(0, top, BANDS + 2)
    hertz = np.where(marks < 15, marks * 200 / 3, 1000 * np.exp((marks - 15) * np.log(6.4) / 27))[:, None]
    bins = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW
    rise = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    fall = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    triangles = np.maximum(0, np.minimum(rise, fall)) * 2 / (hertz[2:] - hertz[:-2])
    return torch.from_numpy(triangles.astype(np.float32))
