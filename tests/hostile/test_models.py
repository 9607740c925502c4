"""Whatever happens to a model's parts is seen by the next call, and no default of torch changes an embedding."""

import copy
import io
import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, parametrize, prune
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.kernels import graphs
from hear_axlstm.kernels.graphs import Graph, replayed
from tests.conftest import noise

CONFIGS = [
    AxLSTMConfig(width=16, depth=2, flip=True, patch=(20, 16)),
    SSAMConfig(width=16, depth=1, bidirectional=True, patch=(40, 16)),
    SSASTConfig(width=16, depth=2, heads=2, patch=(20, 16)),
]
EVERY_FAMILY = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)
AUDIO, OTHER = noise(2, 20_000), noise(2, 20_000, seed=1)
CHUNKS = torch.randn(3, 200, 80, generator=torch.Generator().manual_seed(5))
CLOSE = {"rtol": 0, "atol": 1e-4}


def active(config, seed=0):
    """An encoder whose every parameter was moved off its initial value; the same for the same seed."""
    torch.manual_seed(seed)
    encoder = Encoder(config).eval()
    with torch.no_grad():
        for p in encoder.parameters():
            p += 0.1 * torch.randn_like(p)
    return encoder


# Changes


def stepped(optimizer, **options):
    def change(encoder):
        for p in encoder.parameters():
            p.grad = torch.randn_like(p)
        optimizer(encoder.parameters(), lr=0.1, **options).step()

    return change


def every(write):
    """Write to every parameter."""

    def change(encoder):
        for p in encoder.parameters():
            write(p)

    return change


def written_through_numpy(p):
    p.detach().numpy()[...] *= 1.5


def written_through_dlpack(p):
    torch.from_dlpack(p.detach()).mul_(1.5)


def replaced_storage(p):
    p.data = p.data * 1.5


class LowRank(nn.Module):
    """A layer with an adapter beside it."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weight, self.bias = layer, layer.weight, layer.bias
        self.down = nn.Parameter(torch.randn(2, layer.in_features))
        self.up = nn.Parameter(torch.randn(layer.out_features, 2))

    def forward(self, x):
        return self.layer(x) + x @ self.down.T @ self.up.T


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def of_a_layer(change):
    """Change one linear layer, given with the module that has it and its name there."""

    def changed(encoder):
        name, layer = next((name, m) for name, m in encoder.blocks.named_modules() if isinstance(m, nn.Linear))
        parent, _, own = name.rpartition(".")
        change(encoder.blocks.get_submodule(parent), own, layer)

    return changed


def other_forward(encoder):
    layer = encoder.blocks[0]
    forward = layer.forward

    def negated(*arguments):
        x, update = forward(*arguments)
        return x, -update

    layer.forward = negated


def other_epsilon(encoder):
    encoder.norm.eps = 0.5


def exchanged_blocks(encoder):
    encoder.blocks[0] = active(encoder.config, seed=7).blocks[0]


CHANGES = {
    **{
        f"{kind} step of {optimizer.__name__}": stepped(optimizer, **({} if kind == "plain" else {kind: True}))
        for kind in ("plain", "fused", "foreach")
        for optimizer in (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad)
    },
    "data.mul_": every(lambda p: p.data.mul_(1.5)),
    "data.add_": every(lambda p: p.data.add_(0.2)),
    "data.copy_": every(lambda p: p.data.copy_(torch.randn_like(p))),
    "data": every(replaced_storage),
    "init of data": every(lambda p: nn.init.normal_(p.data)),
    "numpy": every(written_through_numpy),
    "dlpack": every(written_through_dlpack),
    "load_state_dict": lambda encoder: encoder.load_state_dict(active(encoder.config, seed=7).state_dict()),
    "assigned": lambda encoder: encoder.load_state_dict(active(encoder.config, seed=7).state_dict(), assign=True),
    "a buffer": lambda encoder: encoder.pos_embed.data.mul_(3),
    "a block": exchanged_blocks,
    "an adapter": of_a_layer(lambda parent, name, layer: setattr(parent, name, LowRank(layer))),
    "a parametrisation": of_a_layer(lambda _, __, layer: parametrize.register_parametrization(layer, "weight", Doubled())),
    "weight norm": of_a_layer(lambda _, __, layer: every(replaced_storage)(parametrizations.weight_norm(layer))),
    "pruning": of_a_layer(lambda _, __, layer: prune.l1_unstructured(layer, "weight", 0.5)),
    "a hook": of_a_layer(lambda _, __, layer: layer.register_forward_hook(lambda _m, _i, out: 2 * out) and None),
    "a forward": other_forward,
    "an epsilon": other_epsilon,
}
EVERY_CHANGE = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


class Tape(TorchDispatchMode):
    """Operations, and the memory they read and wrote, to run again: on a CPU, what a CUDA graph is."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        for func, args, kwargs, out in self.calls:
            for kept, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)

    def pool(self):
        return None


@pytest.fixture
def captured(monkeypatch):
    """A CPU's work is captured, as CUDA's is."""
    sizes = []

    def of(encode, size, like, _pool):
        spectrogram = like.new_zeros(size, *like.shape[1:])
        with Tape() as tape:
            tokens = encode(spectrogram)
        sizes.append(size)
        return Graph(tape, spectrogram, tokens)

    monkeypatch.setattr(graphs, "CAPTURED", ("cpu",))
    monkeypatch.setattr(Graph, "of", of)
    return sizes


def encoded(encoder, dtype):
    """As an Embedder encodes on CUDA."""
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return (replayed(encoder, dtype, "auto") or encoder)(CHUNKS)


@EVERY_CHANGE
def test_an_embedding_follows_every_change(change):
    for config in CONFIGS:
        used, unused = active(config), active(config)
        with torch.no_grad():
            before = Embedder(used)(AUDIO)
        for encoder in (used, unused):
            torch.manual_seed(3)
            change(encoder)
        with torch.no_grad():
            after = Embedder(used)(AUDIO)
            assert not torch.allclose(after, before, atol=1e-4)
            assert torch.equal(after, Embedder(unused)(AUDIO))


@EVERY_CHANGE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_captured_run_follows_every_change(captured, dtype, change):
    for config in CONFIGS:
        used, unused = active(config), active(config)
        before = encoded(used, dtype)
        for encoder in (used, unused):
            torch.manual_seed(3)
            change(encoder)
        after = encoded(used, dtype)
        assert not torch.allclose(after, before, atol=1e-3)
        assert torch.equal(after, encoded(unused, dtype))


def test_a_write_needs_no_new_capture(captured):
    encoder = active(CONFIGS[0])
    for change in ("data.mul_", "numpy", "fused step of AdamW", "load_state_dict"):
        encoded(encoder, torch.bfloat16)
        CHANGES[change](encoder)
    encoded(encoder, torch.bfloat16)
    assert captured == [3]


def test_what_inference_mode_captured_serves_other_calls(captured):
    encoder = active(CONFIGS[0])
    with torch.inference_mode():
        expected = encoded(encoder, torch.bfloat16)
    assert torch.equal(encoded(encoder, torch.bfloat16), expected)


def test_a_setting_that_a_capture_depends_on_is_followed(captured):
    encoder = active(CONFIGS[0])
    encoded(encoder, torch.float32)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        encoded(encoder, torch.float32)
    finally:
        torch.set_float32_matmul_precision(precision)
    assert captured == [3, 3]


def test_the_rounding_of_convolutions_is_followed(captured, monkeypatch):
    encoder = active(CONFIGS[0])
    encoded(encoder, torch.float32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    encoded(encoder, torch.float32)
    assert captured == [3, 3]


@EVERY_FAMILY
def test_other_parameters_in_one_call_are_used_in_that_call(config):
    model = Embedder(active(config))
    with torch.no_grad():
        before = model(AUDIO)
        others = {name: 1.5 * p for name, p in model.named_parameters()}
        after = torch.func.functional_call(model, others, (AUDIO,))
        assert torch.equal(model(AUDIO), before)
        for p in model.parameters():
            p *= 1.5
        torch.testing.assert_close(after, model(AUDIO), **CLOSE)


# Wrappers


WRAPPERS = {
    "torch.compile": partial(torch.compile, backend="eager"),
    "DataParallel": nn.DataParallel,
    "an average": partial(torch.optim.swa_utils.AveragedModel),
    "DataParallel of torch.compile": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_is_taken(wrap):
    model = Embedder(active(CONFIGS[2]))
    wrapped = wrap(model).eval()
    for options in ({}, {"lengths": [20_000, 9_000]}, {"layers": [0, -1]}):
        with torch.no_grad():
            expected = hear_axlstm.get_scene_embeddings(AUDIO, model, **options)
            torch.testing.assert_close(hear_axlstm.get_scene_embeddings(AUDIO, wrapped, **options), expected, **CLOSE)
            expected = hear_axlstm.get_timestamp_embeddings(AUDIO, model, **options)
            ours = hear_axlstm.get_timestamp_embeddings(AUDIO, wrapped, **options)
            torch.testing.assert_close(ours, expected, equal_nan=True, **CLOSE)


def test_a_wrapper_is_called_and_not_passed_by():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *arguments):
            return 2 * self.module(*arguments)

    model = Embedder(active(CONFIGS[2]))
    assert torch.equal(hear_axlstm.get_scene_embeddings(AUDIO, Wrapper(model)), 2 * model(AUDIO))


@pytest.mark.parametrize("model", [nn.DataParallel(nn.Linear(1, 1)), nn.Linear(1, 1), None, "axlstm-tiny"], ids=repr)
def test_anything_else_is_named(model):
    with pytest.raises(ConfigError, match=rf"model is a {type(model).__name__}; expected what"):
        hear_axlstm.get_scene_embeddings(AUDIO, model)


# Tracing of whole models


def traced(model, audio):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, (audio,), check_trace=False)


TRACERS = {
    "jit.trace": traced,
    "make_fx": lambda model, audio: make_fx(model)(audio),
    "make_fx of fakes": lambda model, audio: make_fx(model, tracing_mode="fake", _allow_non_fake_inputs=True)(audio),
    "export": lambda model, audio: torch.export.export(model, (audio,), strict=False).module(),
    "strict export": lambda model, audio: torch.export.export(model, (audio,), strict=True).module(),
    "compile": lambda model, _: torch.compile(model, backend="aot_eager"),
    "vmap": lambda model, _: torch.vmap(lambda clip: model(clip[None])[0]),
}


@EVERY_FAMILY
@pytest.mark.parametrize("trace", TRACERS.values(), ids=TRACERS)
def test_a_whole_model_is_traced(trace, config):
    model = Embedder(active(config).requires_grad_(False))
    with torch.no_grad():
        torch.testing.assert_close(trace(model, AUDIO)(OTHER), model(OTHER), **CLOSE)
        assert torch.equal(model(OTHER), model(OTHER))


def test_timestamps_are_batched_by_vmap():
    model = Embedder(active(CONFIGS[0]))
    with torch.no_grad():
        ours = torch.vmap(lambda clip: model.timestamps(clip[None])[0][0])(AUDIO)
        torch.testing.assert_close(ours, model.timestamps(AUDIO)[0], **CLOSE)


def test_nothing_of_a_fake_run_is_kept():
    model = Embedder(active(CONFIGS[0])).double()
    with torch.no_grad(), torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert model(mode.from_tensor(AUDIO.double())).shape == (2, 80)
    assert torch.isfinite(model(AUDIO.double())).all()


def test_a_module_is_scripted_with_an_error_of_torch_that_says_so():
    with pytest.raises(Exception, match=r"forward|supported"):
        torch.jit.script(Embedder(active(CONFIGS[2])))


@EVERY_FAMILY
def test_the_derivative_forward_is_right(config):
    encoder = active(config).double().requires_grad_(False)
    chunks, direction = torch.randn(2, 1, 200, 80, dtype=torch.float64)
    difference = (encoder(chunks + 1e-6 * direction) - encoder(chunks - 1e-6 * direction)) / 2e-6
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(encoder(forward_ad.make_dual(chunks, direction))).tangent
    torch.testing.assert_close(tangent, difference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.func.jvp(encoder, (chunks,), (direction,))[1], tangent)
    single = active(config).requires_grad_(False)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(chunks.float(), direction.float())
        torch.testing.assert_close(forward_ad.unpack_dual(single(dual)).tangent.double(), tangent, rtol=1e-3, atol=1e-3)


class Watch(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen += 1
        return func(*args, **(kwargs or {}))


@EVERY_FAMILY
def test_a_function_mode_sees_every_operation(config):
    encoder, counts = active(config), []
    for backend in ("auto", "torch"):
        with torch.no_grad(), Watch() as watch:
            encoder(CHUNKS, backend=backend)
        counts.append(watch.seen)
    assert counts[0] == counts[1] > 0


def test_a_default_device_is_no_watcher():
    with torch.device("cpu"):
        assert not hear_axlstm.ops.backend.is_watched(AUDIO)
        with Watch():
            assert hear_axlstm.ops.backend.is_watched(AUDIO)


# Defaults


@pytest.fixture(params=[torch.float64, torch.float16, torch.bfloat16], ids=str)
def default_dtype(request):
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def default_device():
    yield torch.set_default_device
    torch.set_default_device(None)


def everything(model):
    embeddings, times = model.timestamps(AUDIO, [20_000, 9_000])
    return model(AUDIO), model(AUDIO, [20_000, 9_000]), embeddings, times, model(AUDIO, layers="all")


def assert_same(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5, equal_nan=True)


def test_the_default_dtype_changes_nothing(default_dtype):
    with torch.no_grad():
        for model in (hear_axlstm.load_model(), *(Embedder(active(config)) for config in CONFIGS)):
            expected = everything(model)
            torch.set_default_dtype(default_dtype)
            assert_same(everything(model), expected)
            if model.encoder.config not in CONFIGS:
                assert_same(everything(hear_axlstm.load_model()), expected)
            torch.set_default_dtype(torch.float32)


def test_the_default_device_changes_nothing(default_device):
    with torch.no_grad():
        expected = everything(hear_axlstm.load_model())
        default_device("meta")
        model = hear_axlstm.load_model()
        assert model.device.type == "cpu"
        assert_same(everything(model), expected)


def test_a_model_that_inference_mode_loaded_can_be_trained():
    with torch.inference_mode():
        model = hear_axlstm.load_model()
        expected = model(AUDIO)
    with torch.no_grad():
        torch.testing.assert_close(model(AUDIO), expected, **CLOSE)
    model(AUDIO).sum().backward()
    assert model.encoder.patch_embed.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_around_a_call_is_overruled_by_the_precision(dtype):
    model = Embedder(active(CONFIGS[0]), precision="float32")
    with torch.no_grad():
        expected = model(AUDIO)
        with torch.autocast("cpu", dtype):
            torch.testing.assert_close(model(AUDIO), expected, **CLOSE)


def test_a_model_on_the_meta_device_is_named():
    model = Embedder(active(CONFIGS[0])).to("meta")
    for method in (model, model.timestamps):
        with pytest.raises(ConfigError, match="the model is on the meta device"):
            method(AUDIO)


# Parts


def test_a_pruned_model_is_halved():
    encoder = active(CONFIGS[2])
    prune.l1_unstructured(encoder.blocks[0].qkv, "weight", 0.5)
    expected = Embedder(encoder)(AUDIO).detach()
    half = Embedder(encoder).bfloat16()
    assert encoder.blocks[0].qkv.weight_orig.dtype == torch.bfloat16
    with torch.no_grad():
        assert (half(AUDIO) - expected).norm() < 0.05 * expected.norm()


def test_models_may_share_parts():
    one, other = active(CONFIGS[2]), active(CONFIGS[2], seed=1)
    other.blocks[0] = one.blocks[0]
    other.blocks[1].proj.weight = one.blocks[1].proj.weight
    separate = copy.deepcopy(other)
    with torch.no_grad():
        Embedder(one)(AUDIO)
        torch.testing.assert_close(Embedder(other)(AUDIO), Embedder(separate)(AUDIO))


def test_a_quantised_model_embeds():
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = Embedder(active(CONFIGS[2]))
        expected = model(AUDIO)
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        assert (small(AUDIO) - expected).norm() < 0.2 * expected.norm()


def test_another_memory_format_changes_nothing():
    model = Embedder(active(CONFIGS[2]))
    with torch.no_grad():
        expected = model(AUDIO)
        torch.testing.assert_close(model.to(memory_format=torch.channels_last)(AUDIO), expected, **CLOSE)


# Audio


def as_subclass(audio):
    class Clip(Tensor):
        pass

    return audio.as_subclass(Clip)


SAME = {
    "not contiguous": lambda audio: audio.T.contiguous().T,
    "every second sample": lambda audio: audio.repeat_interleave(2, 1)[:, ::2],
    "negative view": lambda audio: torch.view_as_complex(torch.stack([audio, -audio], -1)).conj().imag,
    "expanded": lambda audio: audio[:1].expand(2, -1),
    "requires grad": lambda audio: audio.clone().requires_grad_(),
    "float64": lambda audio: audio.double(),
    "subclass": as_subclass,
    "parameter": nn.Parameter,
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_audio_is_its_values(make):
    model, audio = Embedder(active(CONFIGS[0])), make(AUDIO)
    with torch.no_grad():
        expected = model(torch.from_numpy(np.array(audio.detach().resolve_neg().numpy(), np.float32)))
        torch.testing.assert_close(Tensor(model(audio)), expected, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_audio_is_its_values(dtype):
    model, audio = Embedder(active(CONFIGS[0])), AUDIO.to(dtype)
    with torch.no_grad():
        assert torch.equal(model(audio), model(audio.float()))


BAD = {
    "sparse": lambda: AUDIO.to_sparse(),
    "rows sparse": lambda: AUDIO.to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([AUDIO[0], AUDIO[1, :9_000]]),
    "jagged": lambda: torch.nested.nested_tensor([AUDIO[0], AUDIO[1, :9_000]], layout=torch.jagged),
    "meta": lambda: AUDIO.to("meta"),
    "quantised": lambda: torch.quantize_per_tensor(AUDIO, 0.01, 0, torch.qint8),
    "huge": lambda: torch.full((1, 16_000), 1e30),
    "conjugate": lambda: torch.complex(AUDIO, AUDIO).conj(),
    "bool": lambda: AUDIO > 0,
    "none": lambda: None,
    "list": lambda: [AUDIO[0], AUDIO[1]],
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_audio_that_cannot_be_embedded_is_named(make):
    model = Embedder(active(CONFIGS[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audio = make()
    for method in (model, model.timestamps):
        with pytest.raises(AudioError, match="expected"):
            method(audio)


GOOD_LENGTHS = {
    "numpy": lambda: np.array([20_000, 9_000]),
    "uint16": lambda: torch.tensor([20_000, 9_000], dtype=torch.uint16),
    "numpy numbers": lambda: [np.int32(20_000), np.uint16(9_000)],
    "tensors": lambda: [torch.tensor(20_000), torch.tensor(9_000)],
    "tuple": lambda: (20_000, 9_000),
    "range": lambda: range(20_000, 8_999, -11_000),
}


@pytest.mark.parametrize("make", GOOD_LENGTHS.values(), ids=GOOD_LENGTHS)
def test_lengths_are_whole_numbers_however_they_come(make):
    model, audio = Embedder(active(CONFIGS[0])), AUDIO.clone()
    audio[1, 9_000:] = math.nan
    with torch.no_grad():
        assert torch.equal(model(audio, make()), model(AUDIO, [20_000, 9_000]))


@pytest.mark.parametrize(
    "lengths",
    [20_000, 20_000.0, "ab", [[20_000], [9_000]], [20_000, -1], [20_000, None], [True, True], [2**70, 9_000], {}, []],
    ids=str,
)
def test_other_lengths_are_named(lengths):
    with pytest.raises(AudioError, match=r"length.*expected 2 whole numbers.*from 201 to 20000"):
        Embedder(active(CONFIGS[2]))(AUDIO, lengths)


def test_a_model_survives_its_pickle():
    model, file = Embedder(active(CONFIGS[0])), io.BytesIO()
    with torch.no_grad():
        expected = model(AUDIO)
        torch.save(model, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(AUDIO), expected)
        assert torch.equal(copy.deepcopy(model)(AUDIO), expected)
