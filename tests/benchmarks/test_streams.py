"""The benchmarks of streams: what is measured is what a stream does, and what their rows say."""

import numpy as np
import pytest
import torch

from benchmarks.context import check, streamed
from benchmarks.microphones import BLOCK, BLOCKS, Microphones
from benchmarks.set_apart import Clips, read_clips
from benchmarks.stream_statistics import LEARNT, by, cosine, frames, read_recordings, steps
from benchmarks.streams import greatest, push_row, streams_row
from benchmarks.subjects import Calls
from hear_axlstm.audio import write_flac
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.stream import Stream


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Embedder(Encoder(AxLSTMConfig(width=16, depth=2)), layout="time")


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.mark.parametrize("most", [0, 1, 2, 13, 20])
def test_the_greatest_number_that_fits_is_found(most):
    assert greatest(lambda number: number <= most) == most


def test_a_large_number_is_found_within_a_20th():
    tried = []
    found = greatest(lambda number: tried.append(number) or number <= 1000)
    assert 1000 / 1.05 <= found <= 1000
    assert len(tried) < 20


def test_microphones_hear_40_ms_a_tick_and_begin_one_after_the_other(model):
    microphones = Microphones(model, 3)
    microphones.tick()
    heard = [microphones.streams._sounds[place].windows.samples for place in range(3)]
    assert heard == [(BLOCKS + 1) * BLOCK, (BLOCKS + 2) * BLOCK, (BLOCKS + 3) * BLOCK]
    assert microphones.state_bytes() > 16 * 50 * 4
    assert BLOCKS * BLOCK == 32_000


def test_rows_say_how_long_pushes_and_ticks_took():
    calls = Calls(1, (0.01, 0.03), (0.01, 0.03))
    row = push_row(calls, {"latency_ms": 42.5, "state_bytes": 4_200_000})
    assert (row["push p50 ms"], row["p99 ms"], row["mean ms"], row["state kB"]) == (10.0, 30.0, 20.0, 4200)
    row = streams_row("axlstm-tiny", 7, calls, 9, 61.2)
    assert (row["streams, p99 in time"], row["p99 ms"], row["clips offline, x real time"]) == (7, 30.0, 61)


@pytest.mark.parametrize("name", ["first, 1 s", "running, 3 s", "given"])
def test_what_is_compared_is_what_a_stream_gives(model, name):
    wave = noise(2 * 32_000) * np.linspace(0.1, 1, 2 * 32_000, dtype=np.float32)
    how, seconds = LEARNT.get(name, ((-3.0, 2.0), 1.0))
    found = steps(model, by(frames(wave), how, seconds), [0, 1]).reshape(100, -1)
    stream = Stream(model, statistics=how, seconds=seconds)
    expected = torch.cat([stream.push(wave).embeddings, stream.flush().embeddings]).numpy()
    np.testing.assert_allclose(found[:99], expected[:99], rtol=0, atol=1e-4)
    assert cosine(found[:99], expected[:99]).min() == pytest.approx(1, abs=1e-5)


def test_recordings_are_of_each_source_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.stream_statistics.SECONDS", 1)
    for number, source in enumerate("aabbbbb"):
        (tmp_path / source).mkdir(exist_ok=True)
        write_flac(tmp_path / source / f"{number}.flac", noise(16_000, number))
    recordings = read_recordings(tmp_path, 3)
    assert [recording.source for recording in recordings] == ["a", "b", "b"]
    assert all(len(recording.mel) == len(recording.same) == 101 for recording in recordings)
    assert not np.allclose(recordings[1].mel, recordings[2].mel)


def test_a_probe_learns_from_some_embeddings_and_guesses_others():
    labels = np.arange(20) % 2
    split = np.arange(10), np.arange(10, 20)
    clips = Clips("two", [], labels, [split])
    apart = labels[:, None] * np.ones((20, 3)) + 0.01 * np.random.default_rng(0).standard_normal((20, 3))
    assert clips.score(apart, apart) == 100
    assert clips.score(apart, 1 - apart) == 0


def test_clips_of_a_table_are_long_enough_and_as_many_of_each_class(tmp_path):
    lines = ["path,label,group"]
    for number in range(30):
        write_flac(tmp_path / f"{number}.flac", noise(400 if number >= 24 else 800, number))
        lines.append(f"{number}.flac,{'abc'[number % 2 if number < 24 else 2]},{number}")
    (tmp_path / "task.csv").write_text("\n".join(lines))
    clips = read_clips(tmp_path / "task.csv", most=14, shortest=500)
    assert np.bincount(clips.labels).tolist() == [7, 7]
    assert all(len(wave) == 800 for wave in clips.waves)
    assert sorted(place for _, test in clips.splits for place in test) == list(range(14))


def test_the_context_of_chunks_is_held_against_offline_embeddings(model):
    waves = [noise(40_000), noise(50_000, 1)]
    chunk, long = (streamed(model, waves, context) for context in ("chunk", "long"))
    assert check(model, waves, chunk) < 1e-5
    with pytest.raises(ValueError, match="differ from the offline ones"):
        check(model, waves, long)
