"""The encoder: every option of the papers runs, masks hide, and the residual stays wide."""

import copy

import pytest
import torch

from hear_axlstm.config import VARIANTS, AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from tests.conftest import FAMILY_CASES, noise

OPTIONS = [
    *(
        AxLSTMConfig(width=16, depth=2, expansion=e, flip=f, input_gate=g)
        for e in (2, 3, 4)
        for f in (False, True)
        for g in ("exp", "sigmoid")
    ),
    *(SSAMConfig(width=16, depth=2, bidirectional=b) for b in (False, True)),
    SSASTConfig(width=16, depth=2, heads=2),
]


@pytest.mark.parametrize("patch", [(4, 16), (8, 16), (4, 8)])
@pytest.mark.parametrize("config", OPTIONS, ids=str)
def test_every_option_of_the_papers_runs(config, patch):
    config = type(config)(**{**vars(config), "patch": patch})
    tokens = Encoder(config)(noise(1, 200, 80))
    assert tokens.shape == (1, config.grid[0] * config.grid[1], 16)
    assert torch.isfinite(tokens).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_runs_on_the_cpu(variant):
    config = VARIANTS[variant]
    with torch.no_grad():
        tokens = Encoder(type(config)(**{**vars(config), "depth": 2}))(noise(1, 200, 80))
    assert tokens.shape == (1, 250, config.width)
    assert torch.isfinite(tokens).all()


@pytest.mark.parametrize("name", FAMILY_CASES)
def test_what_a_masked_patch_holds_does_not_matter(golden, golden_inputs, name):
    case = golden(name)
    spectrogram, mask = golden_inputs["spectrogram"].clone(), case.truth["mask"]
    with torch.no_grad():
        before = case.encoder(spectrogram, mask)
        frames, bands = case.config.patch
        hidden = mask.reshape(2, *case.config.grid).repeat_interleave(frames, 1).repeat_interleave(bands, 2).bool()
        spectrogram[hidden] = 9.0
        assert torch.equal(case.encoder(spectrogram, mask), before)
        assert not torch.equal(case.encoder(spectrogram), before)


@pytest.mark.parametrize("name", FAMILY_CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_keep_a_float32_residual(golden, golden_inputs, name, dtype):
    encoder = copy.deepcopy(golden(name).encoder).to(dtype)
    dtypes = {name: tensor.dtype for name, tensor in encoder.state_dict().items()}
    small = (".q", "norm.weight", "norm1.weight", "conv.weight", "dt_bias", "A_log", "gates", "pos_embed", "cls_token")
    matrices = ("patch_embed.weight", ".up.weight", "in_proj.weight", "qkv.weight", "dt_proj.weight", "head.0.bias")
    assert {dtypes[name] for name in dtypes if name.endswith(small)} == {torch.float32}
    assert {dtypes[name] for name in dtypes if name.endswith(matrices)} == {dtype}
    seen = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0].dtype))
    with torch.no_grad():
        encoder(golden_inputs["spectrogram"])
    assert seen == [torch.float32] * len(encoder.blocks)
