"""Patches, positions, and the two ways of grouping tokens into steps."""

import math

import pytest
import torch

from hear_axlstm.config import SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.patches import sincos_positions, steps_from_tokens
from hear_axlstm.pretraining.objective import patchify
from tests.conftest import noise

PATCHES = [(4, 16), (8, 16), (4, 8)]


@pytest.mark.parametrize("patch", PATCHES)
def test_patches_are_time_major_and_run_over_time_first(patch):
    spectrogram = noise(2, 200, 80)
    patches = patchify(spectrogram, patch)
    rows = 80 // patch[1]
    for n in (0, 1, rows, 3 * rows + 2):
        t, f = n // rows * patch[0], n % rows * patch[1]
        assert torch.equal(patches[:, n], spectrogram[:, t : t + patch[0], f : f + patch[1]].flatten(1))


@pytest.mark.parametrize("patch", PATCHES)
def test_the_embedding_is_one_linear_map_of_each_patch(patch):
    embed = Encoder(SSASTConfig(width=12, depth=1, heads=3, patch=patch)).patch_embed
    spectrogram = noise(2, 200, 80)
    expected = patchify(spectrogram, patch) @ embed.weight.view(12, -1).T + embed.bias
    torch.testing.assert_close(embed(spectrogram[:, None]).flatten(2).mT, expected)


def test_positions_hold_frequency_in_the_first_half_and_time_in_the_second():
    table = sincos_positions(16, (50, 5))[0]
    assert (table[0] == 0).all()  # the class token's
    n, half = 1 + 7 * 5 + 3, 8  # column 7, row 3
    omega = [10_000 ** (-k / 4) for k in range(4)]
    expected = [f(p * w) for p in (3, 7) for f in (math.sin, math.cos) for w in omega]
    torch.testing.assert_close(table[n], torch.tensor(expected))
    assert torch.equal(table[1 : 1 + 5, half:], table[1:2, half:].expand(5, -1))


def test_time_layout_puts_a_patch_column_in_a_step():
    tokens = torch.arange(8).float().reshape(1, 8, 1)  # 4 columns of 2 rows
    assert steps_from_tokens(tokens, (4, 2), "time")[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_released_layout_strides_over_the_chunk():
    tokens = torch.arange(8).float().reshape(1, 8, 1)
    assert steps_from_tokens(tokens, (4, 2), "released")[0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_token_n_goes_to_step_n_mod_columns():
    tokens = torch.arange(250).float().reshape(1, 250, 1).expand(-1, -1, 3)
    steps = steps_from_tokens(tokens, (50, 5), "released")
    for n in range(250):
        assert (steps[0, n % 50, 3 * (n // 50) : 3 * (n // 50) + 3] == n).all()
