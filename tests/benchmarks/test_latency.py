"""Matrix products alone: that they are those of the encoder, and what a row makes of their time."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.latency import row
from benchmarks.products import Products
from benchmarks.subjects import Calls, by_turns
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder, build_encoder

CONFIGS = [AxLSTMConfig(width=64, depth=2), SSAMConfig(width=64, depth=2), SSASTConfig(width=64, heads=2, depth=2)]


def test_the_products_of_attention_are_all_that_torch_counts():
    encoder = Encoder(CONFIGS[2])
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        encoder(torch.zeros(3, 200, 80))
    assert Products(encoder, 3).flop == counted.get_total_flops()


@pytest.mark.parametrize(("variant", "gflop"), [("axlstm-tiny", 2.93), ("ssam-tiny", 2.25), ("ssast-tiny", 3.25)])
def test_the_operations_of_the_papers_variants(variant, gflop):
    """Blocks of 64 queries are multiplied with keys, too, that come after a query: not needed, and not counted here."""
    flop = Products(build_encoder(variant), 1).flop
    computed, needed = 64 * (64 + 128 + 192) + 59 * 251, 251 * 252 / 2  # scores
    unneeded = 12 * 4 * 576 * (computed - needed) if variant == "axlstm-tiny" else 0
    assert (flop - unneeded) / 1e9 == pytest.approx(gflop, rel=0.005)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)
def test_every_linear_map_is_multiplied_once_a_pass(config):
    encoder = Encoder(config)
    products = Products(encoder, 2)
    weights = [product.weight.data_ptr() for product in products.products if product.weight is not None]
    linear = [layer.weight for layer in encoder.blocks.modules() if isinstance(layer, nn.Linear)]
    assert len(set(weights)) == len(weights)
    assert {weight.data_ptr() for weight in (encoder.patch_embed.weight, *linear)} <= set(weights)
    products()


def test_a_row_compares_with_the_products():
    call, encoder, products = (Calls(8, (seconds,), (seconds,)) for seconds in (0.3, 0.2, 0.1))
    cells = row(call, encoder, products, flop=10**10)
    assert (cells["call p50 ms"], cells["encoder / products"], cells["call / products"]) == (300.0, 2.0, 3.0)
    assert cells["products' GFLOP/s"] == 100.0


def test_measurements_take_turns():
    order = []

    def measurement(name):
        def calls(seconds):
            order.append(name)
            return Calls(1, (seconds,), (seconds,))

        return calls

    first, second = by_turns([measurement("a"), measurement("b")], seconds=1.0, turns=4)
    assert order == ["a", "b"] * 4
    assert first.wall == second.wall == (0.25,) * 4
