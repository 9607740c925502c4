"""A model as tensors alone: what torch.export and torch.compile make of it computes what the model does."""

import copy

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.doors.torch_export import exportable, program
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.frontend import log_mel
from tests.conftest import noise

AXLSTM = AxLSTMConfig(width=16, depth=1, expansion=2, patch=(8, 16), input_gate="sigmoid")
SSAM = SSAMConfig(width=16, depth=1, bidirectional=True, patch=(20, 16))
SSAST = SSASTConfig(width=16, depth=1, heads=2, patch=(20, 40))
EVERY_FAMILY = pytest.mark.parametrize("config", [AXLSTM, SSAM, SSAST], ids=lambda config: config.family)
RAGGED = [70_001, 201, 32_007]  # the second's last two chunks are all padding
CLOSE = {"rtol": 0, "atol": 3e-5}


def active_model(config, layout="released"):
    """A model of random weights, none of them at its initial value."""
    encoder = Encoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return Embedder(encoder, layout=layout, backend="torch")


def ragged():
    """Clips with the loudest noise beyond their ends."""
    audio = noise(3, RAGGED[0])
    return audio.masked_fill(torch.arange(RAGGED[0]) >= torch.tensor(RAGGED)[:, None], 0.99)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["time", "released"])
@EVERY_FAMILY
def test_scenes_are_those_of_the_model(config, layout):
    model = active_model(config, layout)
    module = exportable(model)
    torch.testing.assert_close(module(ragged(), torch.tensor(RAGGED)), model(ragged(), RAGGED), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("samples", [201, 239, 240, 879, 880, 31_999, 32_000, 40_000])
def test_timestamps_are_those_of_the_model(samples):
    model, audio = active_model(SSAST), noise(2, samples)
    lengths = [samples, max(201, samples // 2)]
    steps, times = exportable(model, "timestamps")(audio, torch.tensor(lengths))
    expected, milliseconds = model.timestamps(audio, lengths)
    torch.testing.assert_close(steps, expected, **CLOSE)
    torch.testing.assert_close(times, milliseconds, rtol=0, atol=0, equal_nan=True)


@torch.no_grad()
def test_tokens_are_the_encoders_and_nothing_beyond_a_clip():
    model = active_model(AXLSTM)
    tokens = exportable(model, "tokens")(ragged(), torch.tensor(RAGGED))
    assert tokens.shape == (3, 3 * 125, 16)
    chunks = log_mel(ragged(), RAGGED)[:, :400].unflatten(1, (2, 200))
    torch.testing.assert_close(tokens[0, :250], model.encoder(chunks[0]).flatten(0, 1), **CLOSE)
    empty = (tokens.unflatten(1, (3, 125)) == 0).all(3).all(2)
    assert empty.tolist() == [[False, False, False], [False, True, True], [False, False, True]]


@torch.no_grad()
def test_a_clean_tone_is_analysed_more_exactly_than_in_float32():
    t = torch.arange(32_000, dtype=torch.float64) / 16_000
    audio, lengths = (0.5 * torch.sin(2 * torch.pi * 440 * t))[None], torch.tensor([32_000])
    truth = log_mel(audio)
    ours, in_float32 = exportable(active_model(SSAST)).log_mel(audio.float(), lengths), log_mel(audio.float())
    assert (ours - truth).abs().max() < (in_float32 - truth).abs().max() / 10


@torch.no_grad()
def test_silence_has_an_embedding():
    model, audio = active_model(SSAST), torch.zeros(1, 16_000)
    torch.testing.assert_close(exportable(model)(audio, torch.tensor([16_000])), model(audio), **CLOSE)


@torch.no_grad()
def test_a_clip_that_is_not_finite_spoils_only_itself():
    audio = ragged()
    module, lengths = exportable(active_model(AXLSTM)), torch.tensor(RAGGED)
    expected = module(audio, lengths)
    audio[0, 5], audio[1, 300] = torch.nan, torch.nan  # the second beyond the clip's end
    found = module(audio, lengths)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1:], expected[1:], **CLOSE)


@torch.no_grad()
@EVERY_FAMILY
def test_a_program_takes_batches_and_lengths_that_it_was_not_made_with(config):
    model = active_model(config)
    run = program(model).module()
    torch.testing.assert_close(run(ragged(), torch.tensor(RAGGED)), model(ragged(), RAGGED), **CLOSE)
    for samples in (201, 31_840):
        audio = noise(1, samples)
        torch.testing.assert_close(run(audio, torch.tensor([samples])), model(audio), **CLOSE)


@torch.no_grad()
def test_steps_may_be_as_long_as_a_chunk():
    model = active_model(SSASTConfig(width=16, depth=1, heads=2, patch=(200, 80)))
    run = program(model, "timestamps").module()
    for samples in (50_000, 160_000):
        audio = noise(2, samples)
        torch.testing.assert_close(run(audio, torch.tensor([samples] * 2))[0], model.timestamps(audio)[0], **CLOSE)


@torch.no_grad()
def test_a_program_of_fixed_time_is_saved_and_loaded(tmp_path):
    model, audio = active_model(SSAST), noise(3, 24_000)
    torch.export.save(program(model, "timestamps", seconds=1.5), tmp_path / "model.pt2")
    run = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(run(audio, torch.tensor([24_000] * 3))[0], model.timestamps(audio)[0], **CLOSE)


@torch.no_grad()
def test_a_compiled_module_computes_what_the_model_does():
    model = active_model(SSAST)
    compiled = torch.compile(exportable(model), backend="aot_eager", dynamic=True, fullgraph=True)
    torch.testing.assert_close(compiled(ragged(), torch.tensor(RAGGED)), model(ragged(), RAGGED), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("strict", [False, True])
def test_the_model_itself_is_exported_for_one_shape(strict):
    model, audio = active_model(SSAST), noise(2, 40_000)
    exported = torch.export.export(model, (noise(2, 40_000, seed=1),), strict=strict).module()
    torch.testing.assert_close(exported(audio), model(audio), **CLOSE)


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.double, torch.nn.Module.train])
def test_the_model_stays_as_it_is(convert):
    model = convert(active_model(SSAST))
    before = copy.deepcopy(model)
    module = exportable(model)
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())
    assert (model.training, module.training) == (before.training, False)
    for ours, theirs in zip(model.parameters(), before.parameters(), strict=True):
        assert (ours.dtype, ours.requires_grad) == (theirs.dtype, theirs.requires_grad)
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_a_change_of_the_model_later_on_is_not_in_the_copy():
    model, audio, lengths = active_model(SSAST), noise(1, 5_000), torch.tensor([5_000])
    module = exportable(model)
    before = module(audio, lengths)
    model.encoder.norm.weight.zero_()
    assert torch.equal(module(audio, lengths), before)


def test_what_is_no_model_is_refused():
    with pytest.raises(ConfigError, match="expected what hear_axlstm"):
        exportable(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="what is 'scenes'; expected one of 'scene'"):
        exportable(active_model(SSAST), "scenes")
    with pytest.raises(ConfigError, match="meta device"):
        exportable(active_model(SSAST).to("meta"))


def test_an_encoder_that_was_taken_apart_is_refused():
    model = active_model(SSAST)
    torch.nn.utils.parametrizations.weight_norm(model.encoder.blocks[0].qkv)
    with pytest.raises(WeightsError):
        exportable(model)


@pytest.mark.parametrize("seconds", [0, -1.0, 0.01, float("nan"), float("inf"), "2"])
def test_a_time_that_no_encoder_takes_is_refused(seconds):
    with pytest.raises(ConfigError, match=r"expected 0\.0126 or more"):
        program(active_model(SSAST), seconds=seconds)
