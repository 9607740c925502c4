"""The encoder token by token against the encoder of whole chunks."""

from __future__ import annotations

import copy
from itertools import cycle

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.stream.recurrence import Recurrence, reads_forward
from tests.conftest import noise
from tests.tolerances import BATCH_MATES

SIZE = {"width": 16, "depth": 2}
CONFIGS = [
    AxLSTMConfig(**SIZE),
    AxLSTMConfig(**SIZE, expansion=2, input_gate="sigmoid", patch=(8, 16)),
    SSAMConfig(**SIZE),
    SSAMConfig(**SIZE, patch=(4, 8)),
]
WAYS = pytest.mark.parametrize("columns", [(1,), (2,), (7,), (50,), (3, 1, 11, 2)], ids=str)


def shaken(config):
    """An encoder whose every parameter was moved off its initial value."""
    encoder = Encoder(config).requires_grad_(False)
    for parameter in encoder.blocks.parameters():
        parameter += 0.3 * torch.randn_like(parameter) * parameter.abs().mean().clamp(min=0.1)
    return encoder


def spectrograms(streams, dtype=torch.float32):
    return 4 * noise(streams, 200, 80).to(dtype)


@torch.inference_mode()
def column_by_column(recurrence, mel, columns, places, patch=4):
    """The tokens of a chunk of each stream, so many patch columns at a time."""
    tokens, count = [], mel.shape[1] // patch
    for place in places:
        recurrence.begin(place)
    start, sizes = 0, cycle(columns)
    while start < count:
        stop = min(start + next(sizes), count)
        part = mel[:, start * patch : stop * patch]
        tokens.append(recurrence.advance(places, part, torch.full((len(places),), start)))
        start = stop
    return torch.cat(tokens, dim=1)


@WAYS
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_any_number_of_columns_at_a_time_is_the_whole_chunk(config, columns):
    encoder, mel = shaken(config), spectrograms(2)
    ours = column_by_column(Recurrence(encoder, 2), mel, columns, [0, 1], config.patch[0])
    torch.testing.assert_close(ours, encoder(mel), rtol=0, atol=10 * BATCH_MATES)
    assert ours.dtype == torch.float32


@WAYS
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_in_float64_to_the_ninth_digit(config, columns):
    encoder, mel = shaken(config).double(), spectrograms(2, torch.float64)
    ours = column_by_column(Recurrence(encoder, 2), mel, columns, [0, 1], config.patch[0])
    torch.testing.assert_close(ours, encoder(mel), rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]], ids=lambda config: config.family)
class TestOfEachFamily:
    def test_streams_have_places_in_any_order_and_come_and_go(self, config):
        """Places are dirty, streams are at different columns, and the tokens of each are those that it has alone."""
        encoder, mel = shaken(config), spectrograms(3)
        recurrence = Recurrence(encoder, 5)
        for state in recurrence.state.values():
            state.fill_(torch.nan)
        expected, got = encoder(mel), {}
        with torch.inference_mode():
            recurrence.begin(4)
            got[4, 0] = recurrence.advance([4], mel[:1, :8], torch.tensor([0]))
            recurrence.begin(1)
            both = recurrence.advance([4, 1], torch.stack([mel[0, 8:20], mel[1, :12]]), torch.tensor([2, 0]))
            recurrence.begin(4)
            again = recurrence.advance([1, 4], torch.stack([mel[1, 12:16], mel[2, :4]]), torch.tensor([3, 0]))
        ours = torch.cat([got[4, 0][0], both[0], both[1], again[0], again[1]])
        theirs = torch.cat([expected[0, :25], expected[1, :20], expected[2, :5]])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=10 * BATCH_MATES)
        for state in recurrence.state.values():
            assert state[[0, 2, 3]].isnan().all()

    def test_a_state_can_be_copied_to_another_place(self, config):
        encoder, mel = shaken(config), spectrograms(1)
        recurrence = Recurrence(encoder, 3)
        with torch.inference_mode():
            recurrence.begin(0)
            recurrence.advance([0], mel[:, :40], torch.tensor([0]))
            recurrence.copy(0, 2)
            there, here = (recurrence.advance([place], mel[:, 40:80], torch.tensor([10])) for place in (2, 0))
        assert torch.equal(there, here)

    def test_every_chunk_begins_with_the_same_state(self, config):
        encoder, mel = shaken(config), spectrograms(1)
        recurrence = Recurrence(encoder, 1)
        first = column_by_column(recurrence, mel, (7,), [0])
        assert torch.equal(column_by_column(recurrence, mel, (7,), [0]), first)

    def test_bfloat16_is_near_and_the_state_stays_float32(self, config):
        encoder, mel = shaken(config), spectrograms(2)
        expected = encoder(mel)
        recurrence = Recurrence(encoder, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            whole = encoder(mel)
            ours = column_by_column(recurrence, mel, (2,), [0, 1])
        assert ours.dtype == torch.float32
        assert {state.dtype for state in recurrence.state.values()} == {torch.float32}
        assert (ours - expected).norm() <= 1.5 * (whole - expected).norm()

    def test_it_runs_in_plain_torch_and_with_half_precision_weights(self, config):
        encoder, mel = shaken(config), spectrograms(2)
        plain = column_by_column(Recurrence(encoder, 2, backend="torch"), mel, (3,), [1, 0])
        torch.testing.assert_close(plain, encoder(mel), rtol=0, atol=10 * BATCH_MATES)
        half = copy.deepcopy(encoder).bfloat16()
        ours, whole = column_by_column(Recurrence(half, 2), mel, (3,), [0, 1]), half(mel)
        assert ours.dtype == torch.float32
        assert (ours - plain).norm() <= 1.5 * (whole - plain).norm()


def test_which_encoders_read_forward():
    forward = [*CONFIGS, AxLSTMConfig(width=16, depth=1, flip=True)]
    others = [AxLSTMConfig(**SIZE, flip=True), SSAMConfig(**SIZE, bidirectional=True), SSASTConfig(**SIZE, heads=2)]
    assert all(reads_forward(Encoder(config)) for config in forward)
    for config in others:
        assert not reads_forward(Encoder(config))
        with pytest.raises(ConfigError, match="expected one that reads_forward"):
            Recurrence(Encoder(config), 1)


@pytest.mark.parametrize(
    ("places", "frames", "message"),
    [
        ([0, 0], 4, "expected 2 different ones from 0 to 2"),
        ([2, 3], 4, "expected 2 different"),
        ([-1, 0], 4, "expected 2 different"),
        ([0, 1, 2], 4, "expected 2 different"),
        ([0, 1], 6, "there are 6 frames; expected a multiple of 4"),
    ],
)
def test_what_would_move_the_wrong_state_is_refused(places, frames, message):
    recurrence = Recurrence(Encoder(CONFIGS[0]), 3)
    before = {name: state.clone() for name, state in recurrence.state.items()}
    with torch.inference_mode(), pytest.raises(ConfigError, match=message):
        recurrence.advance(places, spectrograms(2)[:, :frames], torch.tensor([0, 0]))
    assert all(torch.equal(state, before[name]) for name, state in recurrence.state.items())
