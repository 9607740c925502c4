"""A sound in bits is the whole sound."""

import contextlib
import copy
import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import hear_axlstm
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.stream import Statistics, Stream, Streams
from tests.stream.conftest import CHUNKWISE, CONFIGS, offline, own_statistics, rising
from tests.tolerances import BATCH_MATES_FLOAT64, STREAMED

FIRST_COLUMN = 3 * 160 + 200  # samples: to the end of the window of its last frame


def streamed(clip, stream, block):
    """All steps and times of a clip that is pushed in blocks, and flushed."""
    parts = [stream.push(clip[start : start + block]) for start in range(0, len(clip), block)]
    return joined([*parts, stream.flush()])


def joined(parts):
    return torch.cat([part.embeddings for part in parts]), torch.cat([part.times for part in parts])


def facts(state):
    """What a state says in words."""
    return json.loads(bytes(state["about"].numpy()))


def with_facts(state, **changed):
    """A state that says something else."""
    about = json.dumps({**facts(state), **changed}).encode()
    return {**state, "about": torch.frombuffer(bytearray(about), dtype=torch.uint8)}


def assert_is_whole(clip, model, block):
    double = model.encoder.cls_token.dtype == torch.float64
    tolerance = BATCH_MATES_FLOAT64 if double else STREAMED
    expected, expected_times, expected_scene = offline(clip, model)
    stream = Stream(model, statistics=own_statistics(clip))
    embeddings, times = streamed(clip, stream, block)
    assert embeddings.shape == expected.shape
    assert embeddings.dtype == torch.float32
    assert times.dtype == torch.float64
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(times.float(), expected_times, rtol=0, atol=0)
    torch.testing.assert_close(stream.scene(), expected_scene, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("block", "layout"), [(640, "released"), (7_001, "time"), (100_000, "released")])
@pytest.mark.parametrize("name", [*CONFIGS, *CHUNKWISE])
def test_blocks_make_the_whole(small, name, block, layout):
    assert_is_whole(rising(70_000), small(name, layout=layout).double(), block)


@pytest.mark.parametrize("name", [*CONFIGS, *CHUNKWISE])
def test_blocks_make_the_whole_in_float32(small, name):
    assert_is_whole(rising(40_000), small(name), 6_401)


@pytest.mark.parametrize("samples", [201, 319, 320, 679, 680, 681, 1_000, 31_999, 32_000, 32_001, 32_160])
@pytest.mark.parametrize("name", ["axlstm", "ssast"])
def test_any_length_ends_as_the_whole_does(small, name, samples):
    for layout in ("time", "released"):
        assert_is_whole(rising(samples), small(name, layout=layout).double(), 5_000)


@pytest.mark.parametrize("name", ["axlstm", "ssam", "ssast"])
def test_samples_one_by_one(small, name):
    assert_is_whole(rising(1_500), small(name).double(), 1)


@pytest.mark.parametrize("name", ["axlstm-tiny-open", "ssam-tiny-open"])
def test_the_bundled_weights_keep_the_promise(name):
    model = hear_axlstm.load_model(name)
    assert_is_whole(rising(40_000), model, 640)


@pytest.mark.parametrize("name", ["axlstm", "ssam", "axlstm_patch8x16"])
def test_a_column_comes_with_the_last_sample_of_its_window(small, name):
    model, clip = small(name), rising(4_000)
    frames = model.encoder.config.patch[0]
    stream = Stream(model, statistics=(0.0, 1.0))
    assert stream.latency_ms == (160 * (frames - 1) + 200) / 16
    for column in range(3):
        needed = (frames * (column + 1) - 1) * 160 + 200
        before = 0 if column == 0 else (frames * column - 1) * 160 + 200
        assert len(stream.push(clip[before : needed - 1]).embeddings) == 0
        _, times = stream.push(clip[needed - 1 : needed])
        assert times.tolist() == [10 * (frames * column + (frames - 1) / 2)]


@pytest.mark.parametrize("name", CHUNKWISE)
def test_what_does_not_read_forward_goes_chunk_by_chunk_and_says_so(small, name, caplog):
    with caplog.at_level(logging.WARNING):
        stream = Stream(small(name), statistics=(0.0, 1.0))
    assert "every 2 seconds, not every 40 ms" in caplog.text
    assert stream.latency_ms == 2002.5
    clip = rising(40_000)
    assert len(stream.push(clip[: 199 * 160 + 199]).embeddings) == 0
    assert len(stream.push(clip[199 * 160 + 199 :]).embeddings) == 50


def test_what_is_far_too_loud_is_said_once(small, caplog):
    stream = Stream(small("ssam"), statistics="running")
    for _ in range(3):
        stream.push(torch.full((1_000,), 3_000.0))
    assert caplog.text.count("peaks at 3000") == 1


def test_what_reads_forward_says_nothing(small, caplog):
    Stream(small("ssam"), statistics=(0.0, 1.0))
    assert not caplog.text


@pytest.mark.parametrize("name", ["axlstm", "ssast"])
def test_the_scene_so_far_is_that_of_the_sound_so_far(small, name):
    for layout in ("time", "released"):
        model, clip = small(name, layout=layout).double(), rising(50_000)
        statistics = own_statistics(clip)
        stream, undisturbed = Stream(model, statistics=statistics), Stream(model, statistics=statistics)
        parts = []
        for start in range(0, 50_000, 12_500):
            parts.append(stream.push(clip[start : start + 12_500]))
            alone = Stream(model, statistics=statistics)
            alone.push(clip[: start + 12_500])
            alone.flush()
            torch.testing.assert_close(stream.scene(), alone.scene(), rtol=0, atol=BATCH_MATES_FLOAT64)
        expected = streamed(clip, undisturbed, 12_500)
        torch.testing.assert_close(joined([*parts, stream.flush()]), expected, rtol=0, atol=0)


def test_the_same_samples_in_every_form(small):
    model, clip = small("ssam"), (rising(2_000) * 32_767).round().to(torch.int16)
    forms = {
        "int16": clip,
        "numpy": clip.numpy(),
        "int32": clip.int() * 65_536,
        "float64": clip.double() / 32_768,
        "list": (clip.double() / 32_768).tolist(),
    }
    found = {name: Stream(model, statistics=(0.0, 1.0)).push(form).embeddings for name, form in forms.items()}
    assert all(torch.equal(one, found["int16"]) for one in found.values())
    for nothing in ([], np.zeros(0, np.int32), torch.zeros(0)):
        assert len(Stream(model, statistics="running").push(nothing).embeddings) == 0


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.tensor([0.0, float("nan")]), "NaN"),
        (torch.tensor([0.0, float("inf")]), "NaN, infinity"),
        (torch.tensor([1e18]), "holds NaN, infinity or"),
        (torch.zeros(2, 300), "2 dimensions; expected"),
        (0.5, "0 dimensions"),
        (torch.zeros(3, dtype=torch.int64), "int64"),
        (np.zeros(3, np.uint8), "uint8"),
        (["a"], "no numbers"),
        (bytes(640), "are bytes; expected samples: np.frombuffer"),
        ([[0.0], [0.0, 1.0]], "gives no array"),
    ],
)
def test_bad_samples_are_refused_and_nothing_of_them_is_taken(small, samples, words):
    model, clip = small("axlstm"), rising(5_000)
    stream, other = Stream(model, statistics="running"), Stream(model, statistics="running")
    stream.push(clip[:2_000])
    other.push(clip[:2_000])
    with pytest.raises(AudioError, match=words):
        stream.push(samples)
    torch.testing.assert_close(stream.push(clip[2_000:]), other.push(clip[2_000:]), rtol=0, atol=0)


def test_a_sound_that_has_ended_takes_no_more(small):
    stream = Stream(small("ssam"), statistics="running")
    stream.push(rising(1_000))
    stream.flush()
    assert len(stream.flush().embeddings) == 0
    with pytest.raises(ConfigError, match="has ended"):
        stream.push(rising(10))


def test_a_sound_that_is_too_short_has_no_embedding_yet(small):
    stream, clip = Stream(small("ssam"), statistics="running"), rising(201)
    stream.push(clip[:200])
    for ask in (stream.flush, stream.scene):
        with pytest.raises(AudioError, match="heard 200 samples; expected 201"):
            ask()
    stream.push(clip[200:])
    assert len(stream.flush().embeddings) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"statistics": "mean"}, "expected 'running' or 'first'"),
        ({"statistics": 3.0}, "a mean and a deviation"),
        ({"statistics": (0.0, -1.0)}, "deviation of 0 or more"),
        ({"statistics": (float("nan"), 1.0)}, "finite"),
        ({"statistics": "running", "seconds": 0}, "positive number of seconds"),
        ({"statistics": "first", "seconds": "3"}, "positive number of seconds"),
        ({"statistics": "first", "seconds": 1e308}, "seconds, 1e\\+09 at most"),
        ({"statistics": (10**400, 1)}, "a mean and a deviation"),
        ({"statistics": "running", "context": "all"}, "context is 'all'"),
    ],
)
def test_options_that_there_are_not(small, options, words):
    with pytest.raises(ConfigError, match=words):
        Stream(small("ssam"), **options)


def test_options_may_be_numbers_of_numpy(small):
    model, clip = small("ssam"), rising(20_000)
    stream, expected = (Stream(model, statistics="first", seconds=kind(0.5)) for kind in (np.float32, float))
    torch.testing.assert_close(stream.push(clip), expected.push(clip), rtol=0, atol=0)
    assert Streams(model, np.int64(2), statistics="running").places == 2


def test_a_stream_is_of_a_model():
    with pytest.raises(ConfigError, match="load_model"):
        Stream("axlstm-tiny", statistics="running")


@pytest.mark.parametrize("name", CONFIGS)
def test_long_context_carries_the_state_over_chunks(small, name):
    """As the encoder would read all chunks after one class token, in which positions repeat."""
    model, clip = small(name).double(), rising(70_000)
    embeddings, _ = streamed(clip, Stream(model, statistics=own_statistics(clip), context="long"), 9_000)
    expected = of_one_sequence(model.encoder, clip)
    torch.testing.assert_close(embeddings, expected[: len(embeddings)], rtol=0, atol=BATCH_MATES_FLOAT64)
    in_chunks = offline(clip, model)[0]
    first_chunk = model.encoder.config.grid[0]
    torch.testing.assert_close(embeddings[:first_chunk], in_chunks[:first_chunk], rtol=0, atol=BATCH_MATES_FLOAT64)
    assert (embeddings[first_chunk:] - in_chunks[first_chunk:]).abs().max() > 1e-3


@torch.no_grad()
def of_one_sequence(encoder: Encoder, clip):
    mel = hear_axlstm.frontend.log_mel(clip[None].double())
    mel = torch.nn.functional.pad(mel, (0, 0, 0, -mel.shape[1] % 200)).unflatten(1, (-1, 200))[0]
    patches = encoder.patch_embed(mel[:, None]).flatten(2).mT + encoder.pos_embed[:, 1:]
    x, update = torch.cat([encoder.cls_token + encoder.pos_embed[:, :1], patches.flatten(0, 1)[None]], dim=1), None
    for block in encoder.blocks:
        x, update = block(x, update, "torch")
    normed = torch.nn.functional.layer_norm(x + update, x.shape[-1:], encoder.norm.weight, encoder.norm.bias, 1e-6)
    return normed[0, 1:].unflatten(0, (-1, encoder.config.grid[1])).flatten(1).float()


@pytest.mark.parametrize("name", CHUNKWISE)
def test_long_context_needs_an_encoder_that_reads_forward(small, name):
    with pytest.raises(ConfigError, match="leave context out"):
        Stream(small(name), statistics="running", context="long")


@pytest.mark.parametrize("statistics", ["running", "first", Statistics(-1.0, 2.0)])
@pytest.mark.parametrize("name", ["axlstm", "ssam", "ssast"])
def test_a_saved_stream_goes_on(small, name, statistics):
    model, clip = small(name), rising(60_000)
    for cut in (100, 12_345, 50_000):
        stream = Stream(model, statistics=statistics, seconds=1.0)
        stream.push(clip[:cut])
        other = Stream(small(name), statistics="running")
        other.load_state_dict(load(save(stream.state_dict())))
        torch.testing.assert_close(other.push(clip[cut:]), stream.push(clip[cut:]), rtol=0, atol=0)
        torch.testing.assert_close(other.flush(), stream.flush(), rtol=0, atol=0)
        ended = Stream(model, statistics="running")
        ended.load_state_dict(stream.state_dict())
        assert torch.equal(ended.scene(), stream.scene())
        with pytest.raises(ConfigError, match="has ended"):
            ended.push(clip)


def test_a_saved_state_is_no_view_of_the_stream(small):
    stream, clip = Stream(small("axlstm"), statistics="running"), rising(20_000)
    stream.push(clip)
    state = stream.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    stream.push(clip)
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_a_state_goes_on_with_what_it_was_made_with_alone(small):
    model = small("axlstm")
    stream = Stream(model, statistics="running")
    stream.push(rising(20_000))
    state = stream.state_dict()
    others = {
        "weights": Stream(small("ssam"), statistics="running"),
        "layout": Stream(small("axlstm", layout="time"), statistics="running"),
        "context": Stream(model, statistics="running", context="long"),
        "precision": Stream(small("axlstm", precision="bfloat16"), statistics="running"),
    }
    for word, other in others.items():
        with pytest.raises(ConfigError, match=f"saved with the {word}"):
            other.load_state_dict(state)


def test_a_damaged_state_is_refused_and_the_stream_stays(small):
    model, clip = small("axlstm"), rising(20_200)  # two frames wait for their column
    stream, other = Stream(model, statistics="running"), Stream(model, statistics="running")
    for one in (stream, other):
        one.push(clip)
    state = stream.state_dict()
    damaged = {
        "no state": {},
        "a part is missing": {name: tensor for name, tensor in state.items() if name != "mel"},
        "another shape": {**state, "recurrence.0.C": state["recurrence.0.C"][:1]},
        "NaN": {**state, "recurrence.1.n": torch.full_like(state["recurrence.1.n"], torch.nan)},
        "no JSON": {**state, "about": state["about"][:-3]},
        "no tensors": dict.fromkeys(state, 3),
        "samples that it has not heard": with_facts(state, samples=20_400),
        "columns that it has not encoded": with_facts(state, columns=facts(state)["columns"] - 1),
        "an end too early": with_facts(state, counted=3),
        "an end that is no number": with_facts(state, counted="all"),
        "sums that are none": with_facts(state, tally=[0.0, float("nan"), 1.0, 1.0]),
        "too few sums": with_facts(state, tally=[0.0]),
        "a frame is missing": {**state, "mel": state["mel"][1:]},
        "a sample is missing": {**state, "rest": state["rest"][1:]},
    }
    for damage in damaged.values():
        with pytest.raises(ConfigError, match="not what state_dict"):
            stream.load_state_dict(damage)
    assert len(state["mel"]) == 2
    torch.testing.assert_close(stream.push(clip), other.push(clip), rtol=0, atol=0)


def test_times_stay_exact_for_days(small):
    stream = Stream(small("ssam"), statistics=(-1.0, 2.0))
    stream.push(rising(FIRST_COLUMN))
    state = stream.state_dict()
    days = 50_000_000  # columns, in whole chunks
    about = facts(state)
    stream.load_state_dict(with_facts(state, columns=about["columns"] + days, samples=about["samples"] + 640 * days))
    assert stream.push(rising(640)).times.tolist() == [40 * 50_000_001 + 15.0]


def test_a_stream_computes_no_gradients(small):
    embeddings, _ = Stream(small("axlstm"), statistics="running").push(rising(2_000))
    assert not embeddings.requires_grad
    assert not embeddings.is_inference()


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("name", ["axlstm", "ssast"])
def test_the_caller_s_modes_change_nothing(small, name, mode):
    model, clip = small(name), rising(40_000)
    expected, _, scene = offline(clip, model)
    with mode():
        stream = Stream(model, statistics=own_statistics(clip))
        first = stream.push(clip[:20_000])
        stream.load_state_dict(stream.state_dict())
    second = stream.push(clip[20_000:30_000])
    with mode():
        embeddings, _ = joined([first, second, stream.push(clip[30_000:]), stream.flush()])
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=STREAMED)
    torch.testing.assert_close(stream.scene(), scene, rtol=0, atol=STREAMED)


@pytest.mark.parametrize("name", ["axlstm", "ssast"])
def test_a_model_that_changes_is_refused(small, name):
    """The state was made with other weights, and a sum of both would say nothing."""

    def train(model):
        torch.nn.init.ones_(model.encoder.norm.weight)

    def other_layout(model):
        model.layout = "time"

    def other_weights(model):
        model.encoder.load_state_dict({key: value.clone() for key, value in model.encoder.state_dict().items()}, assign=True)

    for change in (train, Embedder.double, other_layout, other_weights):
        model = small(name)
        stream = Stream(model, statistics="running")
        stream.push(rising(5_000))
        copied = copy.deepcopy(stream)
        change(model)
        for ask in (lambda stream=stream: stream.push(rising(5_000)), stream.flush, stream.scene, stream.state_dict):
            with pytest.raises(ConfigError, match="the model has changed"):
                ask()
        copied.push(rising(5_000))


def test_what_a_push_lost_when_it_was_interrupted_is_not_passed_over(small, monkeypatch):
    model, clip = small("axlstm"), rising(60_000)
    stream, other = Stream(model, statistics=(-3.0, 2.0)), Stream(model, statistics=(-3.0, 2.0))
    for one in (stream, other):
        one.push(clip[:20_000])
    saved, encoded, calls = stream.state_dict(), Streams._encoded, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encoded(*given)

    monkeypatch.setattr(Streams, "_encoded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.push(clip[20_000:])
    monkeypatch.undo()
    for ask in (lambda: stream.push([]), stream.flush, stream.scene, stream.state_dict):
        with pytest.raises(ConfigError, match="interrupted while it took samples"):
            ask()
    stream.load_state_dict(saved)
    torch.testing.assert_close(stream.push(clip[20_000:]), other.push(clip[20_000:]), rtol=0, atol=0)


def test_a_wrapped_model_streams_as_it_embeds(small):
    model, clip = small("ssam"), rising(2_000)
    expected = Stream(model, statistics="running").push(clip)
    torch.testing.assert_close(Stream(torch.nn.DataParallel(model), statistics="running").push(clip), expected)
    with pytest.raises(ConfigError, match="meta device"):
        Stream(small("ssam").to("meta"), statistics="running")
