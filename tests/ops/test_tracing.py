"""Who traces, transforms or watches torch operations sees them all: then no kernel of ours runs."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from tests.conftest import noise

CONFIGS = [
    AxLSTMConfig(width=16, depth=2, flip=True, patch=(20, 16)),
    SSAMConfig(width=16, depth=2, bidirectional=True, patch=(20, 16)),
    SSASTConfig(width=16, depth=2, heads=2, patch=(20, 16)),
]
EVERY_FAMILY = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)
CHUNKS, OTHERS = torch.randn(2, 3, 200, 80, generator=torch.Generator().manual_seed(0))
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture
def encoder(config):
    encoder = Encoder(config).eval().requires_grad_(False)
    for p in encoder.parameters():
        p += 0.1 * torch.randn_like(p)
    return encoder


@EVERY_FAMILY
def test_a_jit_trace_computes_what_the_encoder_does(encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(encoder, (CHUNKS,), check_trace=False)
    torch.testing.assert_close(traced(OTHERS), encoder(OTHERS), **CLOSE)


@EVERY_FAMILY
def test_a_graph_of_make_fx_computes_what_the_encoder_does(encoder):
    graph = make_fx(encoder)(CHUNKS)
    torch.testing.assert_close(graph(OTHERS), encoder(OTHERS), **CLOSE)


@EVERY_FAMILY
def test_an_exported_program_computes_what_the_encoder_does(encoder):
    exported = torch.export.export(encoder, (CHUNKS,)).module()
    torch.testing.assert_close(exported(OTHERS), encoder(OTHERS), **CLOSE)


@EVERY_FAMILY
def test_a_compiled_encoder_computes_what_the_encoder_does(encoder):
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(OTHERS), encoder(OTHERS), **CLOSE)


@EVERY_FAMILY
def test_tensors_without_values_pass_through(encoder):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert encoder(mode.from_tensor(CHUNKS)).shape == (3, 50, 16)


@EVERY_FAMILY
def test_a_counter_of_operations_counts_the_operations(encoder):
    counts = []
    for backend in ("auto", "torch"):
        with FlopCounterMode(display=False) as counter:
            encoder(CHUNKS, backend=backend)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda config: config.family)  # torch's attention has none on a CPU
def test_a_derivative_forward_is_that_of_plain_torch(encoder):
    tangents = []
    for backend in ("auto", "torch"):
        with forward_ad.dual_level():
            tokens = encoder(forward_ad.make_dual(CHUNKS, OTHERS), backend=backend)
            tangents.append(forward_ad.unpack_dual(tokens).tangent)
    assert tangents[0].abs().max() > 0
    torch.testing.assert_close(*tangents)


@EVERY_FAMILY
def test_transforms_of_functions_see_the_operations(encoder):
    summed = torch.func.grad(lambda chunks: encoder(chunks).square().sum())(CHUNKS)
    chunks = CHUNKS.clone().requires_grad_()
    encoder(chunks).square().sum().backward()
    torch.testing.assert_close(summed, chunks.grad, rtol=1e-3, atol=1e-4)


def test_a_whole_model_is_traced_with_its_front_end():
    model, audio = hear_axlstm.load_model(), noise(1, 20_000)
    with torch.no_grad():
        expected = model(audio)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(model, (noise(1, 20_000, seed=3),), check_trace=False)
        torch.testing.assert_close(traced(audio), expected, **CLOSE)


FORK = """
import os, signal, sys
import torch
import hear_axlstm
torch.set_num_threads(2)
model, audio = hear_axlstm.load_model(), torch.rand(1, 20_000) - 0.5
with torch.no_grad():
    before = model(audio)
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)  # ends the child if it hangs
        deviation = (model(audio) - before).abs().max().item()
        os._exit(0 if deviation < 1e-4 else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_process_that_is_forked_after_use_goes_on_in_plain_torch():
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@EVERY_FAMILY
def test_a_trace_takes_batches_of_another_size(encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(encoder, (CHUNKS,), check_trace=False)
    torch.testing.assert_close(traced(OTHERS[:1]), encoder(OTHERS[:1]), **CLOSE)
