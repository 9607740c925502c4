"""The copy that inference runs: it follows the encoder, and shares what it can."""

import copy
import itertools
import pickle

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.kernels.graphs import GRAPH_SIZES, Graph, converted_copy, fold_together, replayed
from tests.conftest import noise

CONFIGS = [
    AxLSTMConfig(width=16, depth=2, flip=True),
    SSAMConfig(width=16, depth=2),
    SSASTConfig(width=16, depth=2, heads=2),
]
EVERY_FAMILY = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)
CHUNKS = torch.randn(3, 200, 80, generator=torch.Generator().manual_seed(5))


def tokens(encoder):
    with torch.no_grad():
        return encoder(CHUNKS, backend="torch")


def replay(encoder, dtype=torch.float32, backend="torch"):
    return replayed(encoder, dtype, backend)


@EVERY_FAMILY
def test_the_copy_computes_what_the_encoder_does(config):
    encoder = Encoder(config)
    torch.testing.assert_close(replay(encoder)(CHUNKS), tokens(encoder), rtol=0, atol=1e-6)


@EVERY_FAMILY
def test_a_change_of_the_parameters_is_followed(config):
    encoder = Encoder(config)
    before = replay(encoder)(CHUNKS)
    with torch.no_grad():
        for p in encoder.blocks.parameters():
            p += 0.1 * torch.randn_like(p)
    after = replay(encoder)(CHUNKS)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, tokens(encoder), rtol=0, atol=1e-5)
    encoder.load_state_dict(Encoder(config).state_dict())
    torch.testing.assert_close(replay(encoder)(CHUNKS), tokens(encoder), rtol=0, atol=1e-6)


def test_every_backend_and_dtype_of_an_encoder_is_kept_apart():
    encoder = Encoder(CONFIGS[0])
    assert replay(encoder) is replay(encoder)
    assert replay(encoder, backend="auto") is not replay(encoder)
    assert replay(encoder, torch.float16) is not replay(encoder)


def test_what_has_not_moved_is_not_copied_again():
    encoder = Encoder(CONFIGS[0])
    first = replay(encoder)._copy
    with torch.no_grad():
        encoder.cls_token.add_(1)
    assert replay(encoder.train())._copy is first


@EVERY_FAMILY
def test_a_copy_shares_the_tensors_that_are_not_converted_and_leaves_the_encoder_alone(config):
    encoder = Encoder(config)
    state = copy.deepcopy(encoder.state_dict())
    same, copies, _ = converted_copy(encoder, torch.float32)
    assert not copies
    assert all(ours is theirs for ours, theirs in zip(same.parameters(), encoder.parameters(), strict=True))
    half, copies, originals = converted_copy(encoder, torch.float16)
    assert {id(tensor) for tensor in half.parameters()} == {
        id(tensor) for tensor in [*copies, *encoder.parameters()] if not any(tensor is original for original in originals)
    }
    assert half.patch_embed.weight.dtype == torch.float16
    for name, tensor in encoder.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_blocks_are_folded_together_as_each_would_be(dtype):
    encoder = Encoder(AxLSTMConfig(width=16, depth=3))
    encoder.blocks[1] = Encoder(AxLSTMConfig(width=16, depth=1, expansion=2)).blocks[0]  # of another size
    blocks = list(converted_copy(encoder, dtype)[0].blocks)
    fold_together(blocks)
    for block in blocks:
        torch.testing.assert_close(block.folded, block.fold("torch"))


def test_a_copy_of_inference_tensors_can_be_made():
    with torch.inference_mode():
        encoder = Encoder(CONFIGS[0])
        out = replay(encoder)(CHUNKS)
    torch.testing.assert_close(out, tokens(encoder), rtol=0, atol=1e-6)


def test_an_encoder_whose_parts_somebody_watches_is_not_replayed():
    encoder = Encoder(CONFIGS[0])
    encoder.blocks[1].register_forward_hook(lambda *_: None)
    assert replay(encoder) is None


def test_a_model_that_was_used_can_be_copied_and_pickled():
    model = Embedder(Encoder(CONFIGS[0]))
    audio = noise(1, 20_000)
    with torch.no_grad():
        expected = model(audio)
        replay(model.encoder)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(other(audio), expected, rtol=0, atol=1e-6)


def test_graph_sizes_waste_a_third_at_most():
    assert GRAPH_SIZES[0] == 1
    for size, following in itertools.pairwise(GRAPH_SIZES):
        assert (following - (size + 1)) / following <= 1 / 3


def test_a_replay_sees_the_chunks_that_it_is_given_and_returns_theirs():
    class Captured:
        def replay(self):
            static.tokens.copy_(static.spectrogram.sum((1, 2))[:, None, None])

    static = Graph(Captured(), torch.zeros(4, 200, 80), torch.zeros(4, 1, 1))
    for count in (4, 3, 1):
        chunks = torch.randn(count, 200, 80)
        assert torch.equal(static.replay(chunks), chunks.sum((1, 2))[:, None, None])
    kept = static.replay(CHUNKS)
    expected = kept.clone()
    static.replay(torch.zeros(4, 200, 80))
    assert torch.equal(kept, expected)
