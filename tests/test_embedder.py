"""From waveforms to embeddings: counts, batches, lengths, timestamps, precision, gradients, memory."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_axlstm.config import HOP, MIN_SAMPLES, SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.patches import scene_steps, timestamp_steps, timestamps_ms
from tests.conftest import FAMILY_CASES, noise
from tests.tolerances import BATCH_MATES, BATCH_MATES_FLOAT64, HALF_VS_AUTOCAST

EVERY_FAMILY = pytest.mark.parametrize("name", FAMILY_CASES)
lengths_lists = st.lists(st.integers(MIN_SAMPLES, 70_000), min_size=2, max_size=5)


def clips(lengths):
    """One batch, NaN beyond each clip's own samples."""
    audio = torch.full((len(lengths), max(lengths)), torch.nan)
    for row, length in zip(audio, lengths, strict=True):
        row[:length] = noise(length, seed=length)
    return audio


def encoded_chunks(model, method, *arguments):
    """How many chunks the encoder was given in each batch while ``method(*arguments)`` ran."""
    batches = []
    handle = model.encoder.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    with torch.no_grad():
        method(*arguments)
    handle.remove()
    return batches


@pytest.fixture
def model(golden):
    return golden("axlstm_e2_flip").model()


# Steps and chunks


@pytest.mark.parametrize(("seconds", "steps"), [(2.0, 51), (1.07, 27), (10.0, 251), (3.21, 81)])
def test_step_counts_of_the_released_code(seconds, steps):
    assert scene_steps(round(seconds * SAMPLE_RATE), 50) == steps


@given(st.integers(MIN_SAMPLES, 10**7), st.sampled_from([25, 50]))
def test_trimming_is_the_released_arithmetic(samples, columns):
    frames = samples // 160 + 1
    pad = 200 - frames % 200  # a full 200 when frames divide evenly, as the released code has it
    released = (frames + pad) // 200 * columns - columns * pad // 200
    assert scene_steps(samples, columns) == released
    assert -(-released // columns) == -(-frames // 200)  # chunks with steps that count: all that have frames


def test_a_chunk_of_padding_alone_is_never_encoded(model):
    frames_divide_evenly = 199 * 160  # 200 frames
    assert encoded_chunks(model, model, noise(3, frames_divide_evenly)) == [3]


def test_chunks_of_all_clips_are_encoded_together_in_bounded_batches(model):
    assert encoded_chunks(model, model, noise(5, 32_000)) == [8, 2]
    model.max_chunks = 4
    assert encoded_chunks(model, model, noise(5, 32_000)) == [4, 4, 2]
    lengths = [70_000, 5_000, 33_000]  # 4.4 s, 0.3 s, 2.1 s
    assert encoded_chunks(model, model.timestamps, clips(lengths), lengths) == [4, 2]


# A clip and its batch-mates


@EVERY_FAMILY
@settings(max_examples=8, deadline=None)
@given(lengths=lengths_lists)
def test_a_clip_alone_equals_the_clip_in_a_batch(golden, name, lengths):
    model, audio = golden(name).model().double(), clips(lengths).double()
    with torch.no_grad():
        scenes = model(audio, lengths)
        embeddings, times = model.timestamps(audio, lengths)
        for index, length in enumerate(lengths):
            own = audio[index : index + 1, :length]
            torch.testing.assert_close(scenes[index], model(own)[0], rtol=0, atol=BATCH_MATES_FLOAT64)
            alone, own_times = model.timestamps(own)
            count = alone.shape[1]
            torch.testing.assert_close(embeddings[index, :count], alone[0], rtol=0, atol=BATCH_MATES_FLOAT64)
            assert torch.equal(times[index, :count], own_times[0])
            assert (embeddings[index, count:] == 0).all()
            assert times[index, count:].isnan().all()


@EVERY_FAMILY
def test_a_clip_alone_equals_the_clip_in_a_batch_in_float32(golden, name):
    model, lengths = golden(name).model(), [70_000, 8_000, 31_840, 48_000, 16_000]
    audio = clips(lengths)
    with torch.no_grad():
        scenes = model(audio, lengths)
        for index, length in enumerate(lengths):
            alone = model(audio[index : index + 1, :length])[0]
            torch.testing.assert_close(scenes[index], alone, rtol=0, atol=BATCH_MATES)


@EVERY_FAMILY
def test_equal_lengths_need_no_lengths_argument(golden, name):
    model, audio = golden(name).model(), noise(3, 40_000)
    with torch.no_grad():
        batch = model(audio)
        assert torch.equal(batch, model(audio, [40_000] * 3))
        assert torch.equal(batch, model(audio, torch.tensor([40_000] * 3, dtype=torch.int32)))
        torch.testing.assert_close(batch[1], model(audio[1:2])[0], rtol=0, atol=BATCH_MATES)


def test_the_chunk_batch_does_not_change_an_embedding(model):
    audio = noise(2, 150_000)
    with torch.no_grad():
        expected = model(audio)
        model.max_chunks = 3
        torch.testing.assert_close(model(audio), expected, rtol=0, atol=BATCH_MATES)


@EVERY_FAMILY
@pytest.mark.parametrize("layout", ["released", "time"])
def test_whole_chunks_may_come_in_any_order(golden, name, layout):
    """Each chunk is encoded on its own, so sounds 2 s long with silent edges can trade places."""
    model = golden(name).model(layout=layout).double()
    parts = [torch.nn.functional.pad(noise(32_000 - 800, seed=s).double(), (400, 400)) for s in range(3)]
    with torch.no_grad():
        first, second = (model.timestamps(torch.cat([parts[i] for i in o])[None])[0] for o in ((0, 1, 2), (1, 2, 0)))
        torch.testing.assert_close(first.roll(-50, 1), second, rtol=0, atol=BATCH_MATES_FLOAT64)
        scenes = [model(torch.cat([parts[i] for i in order])[None, :-160]) for order in ((0, 1, 2), (1, 2, 0))]
    torch.testing.assert_close(scenes[0], scenes[1], rtol=0, atol=BATCH_MATES_FLOAT64)


@EVERY_FAMILY
def test_silence_and_the_shortest_clip_are_finite(golden, name):
    model = golden(name).model()
    with torch.no_grad():
        assert torch.isfinite(model(torch.zeros(1, 48_000))).all()
        assert torch.isfinite(model(noise(2, MIN_SAMPLES))).all()
        assert model.timestamps(noise(2, MIN_SAMPLES))[0].shape[:2] == (2, 1)


# Layouts


def test_layouts_hold_the_same_tokens_in_another_order(golden):
    case, audio = golden("ssam"), noise(1, 199 * 160)  # exactly one chunk: nothing is trimmed
    tokens_mean = []
    for layout in ("released", "time"):
        with torch.no_grad():
            scene = case.model(layout=layout)(audio)
        tokens_mean.append(scene.reshape(5, -1).mean(0))
    torch.testing.assert_close(tokens_mean[0], tokens_mean[1], rtol=0, atol=1e-5)


def test_timestamps_of_one_chunk_average_to_the_scene_in_the_time_layout(golden):
    model, audio = golden("ssam").model(layout="time"), noise(2, 199 * 160)
    with torch.no_grad():
        torch.testing.assert_close(model.timestamps(audio)[0].mean(1), model(audio), rtol=0, atol=1e-5)
        released = golden("ssam").model(layout="released")
        assert torch.equal(released.timestamps(audio)[0], model.timestamps(audio)[0])


# Timestamps


@given(st.integers(MIN_SAMPLES, 16 * 60 * SAMPLE_RATE), st.sampled_from([4, 8]))
def test_timestamps_are_centres_within_the_clip(samples, patch_frames):
    times = timestamps_ms([samples], patch_frames)[0]
    spacing, duration = 10 * patch_frames, 1_000 * samples / SAMPLE_RATE
    assert times.dtype == torch.float32
    assert times[0] > 0
    assert times[-1] <= duration
    assert times[-1] + spacing > duration  # the next centre would lie beyond the end
    if len(times) > 1:
        assert times[0] == 5 * (patch_frames - 1)
        assert (times.diff() == spacing).all()


def test_timestamps_without_lengths_are_the_documented_ones():
    assert timestamps_ms([32_000], 4)[0, [0, 1, -1]].tolist() == [15.0, 55.0, 1975.0]
    assert [timestamp_steps(length, 4) for length in (MIN_SAMPLES, 240, 880, 879)] == [1, 1, 2, 1]
    assert timestamps_ms([MIN_SAMPLES], 4).tolist() == [[5.0]]  # the centre of its two frames


def test_an_event_moves_the_timestamps_that_cover_it(golden):
    model, audio = golden("ssast").model(), 0.01 * noise(1, 31_900)
    with torch.no_grad():
        before, times = model.timestamps(audio)
        audio[:, 16_000:16_320] += noise(320, seed=9)  # 20 ms from 1,000 ms on
        moved = (model.timestamps(audio)[0] - before).norm(dim=-1)[0]
    assert abs(times[0, moved.argmax()] - 1_010) <= 40


# Precision, devices, training


@EVERY_FAMILY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_deviates_no_more_than_autocast_of_the_float32_model(golden, golden_inputs, name, dtype):
    case, audio = golden(name), golden_inputs["audio.51360"].float()
    truth = case.truth["scene.51360"]
    plain = case.model(precision="float32")
    wrapped = plain.encoder.forward
    plain.encoder.forward = lambda x, **options: torch.autocast("cpu", dtype=dtype)(wrapped)(x, **options)
    ours, weights = case.model(precision=str(dtype)[6:]), case.model().to(dtype)
    with torch.no_grad():
        autocast_error = (plain(audio) - truth).norm()
        assert 0 < (ours(audio) - truth).norm() <= HALF_VS_AUTOCAST * autocast_error
        assert (weights(audio) - truth).norm() <= HALF_VS_AUTOCAST * autocast_error
        assert ours(audio).dtype == weights(audio).dtype == torch.float32


def test_what_a_model_computes_in(model):
    assert model.compute_dtype == torch.float32
    assert copy.deepcopy(model).half().compute_dtype == torch.float16
    assert copy.deepcopy(model).double().compute_dtype == torch.float64
    assert Embedder(model.encoder, precision="bfloat16").compute_dtype == torch.bfloat16


def test_autocast_around_the_model_does_not_lower_a_chosen_precision(model):
    audio = noise(1, 20_000)
    with torch.no_grad():
        expected = model(audio)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model(audio), expected)


@EVERY_FAMILY
def test_fine_tuning_through_scene_embeddings_trains(golden, name):
    model, audio, lengths = golden(name).model(), noise(4, 40_000), [40_000, 30_000, 9_000, 32_000]
    target = torch.randn(4, model.scene_embedding_size)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = (model(audio, lengths) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    heads = {"mask_token", "head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"}
    assert {n for n, p in model.encoder.named_parameters() if p.grad is None} == heads


def test_timestamp_embeddings_are_differentiable(model):
    model.timestamps(noise(2, 20_000), [20_000, 12_000])[0].square().mean().backward()
    assert model.encoder.patch_embed.weight.grad.abs().sum() > 0


def test_a_model_can_be_copied_saved_and_restored(model):
    audio = noise(1, 20_000)
    other = Embedder(Encoder(model.encoder.config))
    other.load_state_dict(model.state_dict())
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    with torch.no_grad():
        assert torch.equal(other(audio), model(audio))
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(audio), model(audio))


@EVERY_FAMILY
@pytest.mark.skipif(not hasattr(torch.ao.quantization, "quantize_dynamic"), reason="this torch has it no more")
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_model_goes_on(golden, name):
    audio, model = noise(1, 20_000), golden(name).model()
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        expected = model(audio)
        assert (quantised(audio) - expected).norm() <= 0.2 * expected.norm()


def test_timestamps_in_another_default_dtype(model):
    audio, before = noise(1, 20_000), torch.get_default_dtype()
    with torch.no_grad():
        expected = model.timestamps(audio)[0]
        torch.set_default_dtype(torch.float64)
        try:
            assert torch.equal(model.timestamps(audio)[0], expected)
        finally:
            torch.set_default_dtype(before)


def test_models_that_share_an_encoder_leave_it_as_it_is(model):
    """A second one with other options changes neither the encoder nor what the first one computes."""
    encoder, audio = model.encoder, noise(1, 20_000)
    before = dict(vars(encoder))
    with torch.no_grad():
        expected = model(audio)
        other = Embedder(encoder, layout="time", precision="bfloat16", backend="torch")
        assert not torch.equal(other(audio), expected)
        assert torch.equal(model(audio), expected)
    assert vars(encoder) == before
    assert (model.backend, model.layout, model.precision) == ("auto", "released", "auto")


def test_audio_in_other_float_types_is_taken(model):
    audio = noise(1, 20_000)
    with torch.no_grad():
        torch.testing.assert_close(model(audio.double()), model(audio), rtol=0, atol=BATCH_MATES)
        assert torch.isfinite(model(audio.half())).all()


# Layers


@EVERY_FAMILY
def test_the_last_layer_is_what_nobody_needs_to_ask_for(golden, name):
    model, lengths = golden(name).model(), [40_000, 9_000]
    audio, last = clips(lengths), model.encoder.config.depth + 1
    with torch.no_grad():
        scenes, (steps, times) = model(audio, lengths), model.timestamps(audio, lengths)
        for asked in (-1, last, [last]):
            assert torch.equal(model(audio, lengths, layers=asked), scenes[None])
            assert torch.equal(model.timestamps(audio, lengths, layers=asked)[0], steps[None])
        several = model(audio, lengths, layers=[0, -1, 0])
        every = model.timestamps(audio, lengths, layers="all")
    assert several.shape == (3, *scenes.shape)
    assert torch.equal(several[1], scenes)
    assert torch.equal(several[0], several[2])
    assert every[0].shape == (last + 1, *steps.shape)
    assert torch.equal(every[1].nan_to_num(-1), times.nan_to_num(-1))


@EVERY_FAMILY
def test_layers_are_the_residual_stream_after_each_block(golden, golden_inputs, name):
    encoder = golden(name).encoder
    seen = []
    handles = [block.register_forward_hook(lambda *call: seen.append(sum(call[2]))) for block in encoder.blocks]
    with torch.no_grad():
        outputs = encoder(golden_inputs["spectrogram"], layers="all")
        final = encoder(golden_inputs["spectrogram"])
    for handle in handles:
        handle.remove()
    assert len(outputs) == len(encoder.blocks) + 2
    for output, stream in zip(outputs[1:-1], seen, strict=False):
        assert torch.equal(output, stream[:, 1:])
    assert torch.equal(outputs[-1], final)
    embedded = encoder.patch_embed(golden_inputs["spectrogram"][:, None]).flatten(2).mT + encoder.pos_embed[:, 1:]
    assert torch.equal(outputs[0], embedded)


def test_layers_are_numbers_however_they_come(model):
    audio = noise(5, 32_000)  # more chunks than one batch
    with torch.no_grad():
        expected = model(audio, layers=1)
        for layers in (np.array(1), torch.tensor([1]), iter([1]), range(1, 2), (1,)):
            assert torch.equal(model(audio, layers=layers), expected)


def test_gradients_flow_through_earlier_layers(model):
    model(noise(1, 20_000), layers=[0, 1]).square().sum().backward()
    assert model.encoder.patch_embed.weight.grad.abs().sum() > 0
    assert model.encoder.norm.weight.grad is None


@pytest.mark.parametrize("layers", [99, -99, [], [0, 1.5], "last", [True], None])
def test_layers_that_there_are_not_are_refused(model, layers):
    if layers is None:
        layers = ["all"]
    with pytest.raises(ConfigError, match=r"expected 'all' or numbers from 0 \(patch embedding\)"):
        model(noise(1, 20_000), layers=layers)


# Memory


def test_out_of_memory_halves_the_batch_and_goes_on(model, caplog):
    audio = noise(7, 32_000)
    with torch.no_grad():
        expected = model(audio)

    def small_card(_encoder, inputs):
        if len(inputs[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.encoder.register_forward_pre_hook(small_card)
    with torch.no_grad():
        torch.testing.assert_close(model(audio), expected, rtol=0, atol=BATCH_MATES)
    assert model.max_chunks == 4
    assert "going on with 4" in caplog.text


def test_out_of_memory_for_a_single_chunk_is_raised(model):
    def no_card(_encoder, _inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.encoder.register_forward_pre_hook(no_card)
    with pytest.raises(torch.OutOfMemoryError):
        model(noise(2, 20_000))


# Bad input


def test_a_mean_over_an_hour_of_equal_steps_is_that_step(monkeypatch):
    """Padding and silence make equal steps, whose roundings all go the same way."""
    samples, config = 3_600 * SAMPLE_RATE, AxLSTMConfig(width=16, depth=1)
    model, frames = Embedder(Encoder(config)), samples // HOP + 1
    step = noise(config.embedding_size).reshape(-1, config.width).repeat(config.grid[0], 1)
    monkeypatch.setattr(model, "_log_mel", lambda audio, lengths: torch.zeros(1, 1, 80).expand(1, frames, 80))
    monkeypatch.setattr(model, "_encode", lambda dtype, layers: lambda mel: step.expand(len(mel), -1, -1))
    model.layout = "time"
    scene = model(torch.zeros(1, 1).expand(1, samples))
    torch.testing.assert_close(scene[0], step[: config.grid[1]].flatten(), rtol=5e-7, atol=0)


@pytest.mark.parametrize(
    ("audio", "lengths", "message"),
    [
        (noise(16_000), None, r"add the batch dimension with audio\[None\]"),
        (noise(1, 2, 16_000), None, "average the channels"),
        (torch.zeros(1, 16_000, dtype=torch.int16), None, "divide 16-bit samples by 32768"),
        (torch.zeros(1, 16_000, dtype=torch.complex64), None, "expected floats"),
        (noise(1, 16_000).numpy(), None, "ndarray; expected a torch.Tensor"),
        (noise(0, 16_000), None, "at least one clip"),
        (noise(1, 0), None, "201 samples"),
        (noise(1, MIN_SAMPLES - 1), None, r"201 samples \(12.6 ms"),
        (torch.full((1, 16_000), torch.nan), None, "NaN"),
        (torch.full((1, 16_000), torch.inf), None, "infinity"),
        (noise(2, 16_000), [16_000], "expected 2 whole numbers"),
        (noise(2, 16_000), [16_000.0, 8_000.0], "whole numbers"),
        (noise(2, 16_000), torch.tensor([True, True]), "whole numbers"),
        (noise(2, 16_000), ["a", None], r"lengths is \['a', None\]; expected 2 whole numbers"),
        (noise(2, 16_000), [16_001, 8_000], "run from 8000 to 16001"),
        (noise(2, 16_000), [16_000, 200], "drop or pad shorter clips"),
        (noise(2, 16_000), [16_000, -5], "run from -5"),
    ],
)
def test_bad_audio_says_what_to_do(model, audio, lengths, message):
    for method in (model, model.timestamps):
        with pytest.raises(AudioError, match=message):
            method(audio, lengths)


@pytest.mark.parametrize("options", [{"layout": "mel"}, {"precision": "float8"}, {"backend": "cuda"}])
def test_bad_options_list_the_choices(options):
    with pytest.raises(ConfigError, match="expected one of"):
        Embedder(Encoder(AxLSTMConfig(width=16, depth=1)), **options)
