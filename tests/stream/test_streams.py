"""Many sounds in one batch, each as if it were alone."""

import random

import numpy as np
import pytest
import torch

from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.stream import Stream, Streams
from tests.stream.conftest import rising
from tests.tolerances import BATCH_MATES_FLOAT64, STREAMED


@pytest.mark.parametrize("name", ["axlstm", "ssam", "ssast"])
def test_sounds_that_begin_and_end_at_any_time_do_not_touch_each_other(small, name):
    model, draws = small(name).double(), random.Random(0)
    waiting = {number: rising(draws.randrange(300, 60_000), seed=number) for number in range(9)}
    clips, streams = dict(waiting), Streams(model, 4, statistics="first", seconds=0.5)
    place_of, heard, found, scenes = {}, dict.fromkeys(clips, 0), {number: [] for number in clips}, {}
    while waiting or place_of:
        if waiting and len(place_of) < 4:
            number = draws.choice(list(waiting))
            place_of[number] = streams.start()
            del waiting[number]
        blocks = {}
        for number, place in list(place_of.items()):
            if heard[number] == len(clips[number]):
                found[number].append(streams.flush(place))
                scenes[number] = streams.scene(place)
                streams.end(place)
                del place_of[number]
            elif draws.random() < 0.7:
                count = draws.choice([0, 1, 640, 6_400, 40_000])
                blocks[place] = clips[number][heard[number] : heard[number] + count]
                heard[number] += len(blocks[place])
        steps = streams.push(blocks)
        for number, place in place_of.items():
            if place in steps:
                found[number].append(steps[place])
    for number, clip in clips.items():
        alone = Stream(model, statistics="first", seconds=0.5)
        expected = [alone.push(clip), alone.flush()]
        for part in range(2):
            joined = (torch.cat([steps[part] for steps in parts]) for parts in (found[number], expected))
            torch.testing.assert_close(*joined, rtol=0, atol=BATCH_MATES_FLOAT64)
        torch.testing.assert_close(scenes[number], alone.scene(), rtol=0, atol=BATCH_MATES_FLOAT64)


def test_places_are_taken_and_become_free(small):
    streams = Streams(small("ssam"), 2, statistics="running")
    assert [streams.start(), streams.start()] == [0, 1]
    with pytest.raises(ConfigError, match="all 2 places are taken"):
        streams.start()
    streams.push({0: rising(5_000)})
    streams.end(0)
    assert streams.start() == 0
    with pytest.raises(AudioError, match="heard 0 samples"):
        streams.scene(0)


def test_a_place_where_nothing_has_begun(small):
    streams = Streams(small("ssam"), 2, statistics="running")
    for ask in (streams.end, streams.flush, streams.scene, streams.state_dict, lambda place: streams.push({place: []})):
        with pytest.raises(ConfigError, match="nothing has begun in place 1"):
            ask(1)
    streams.start()
    for place in (False, 0.0, "0", -1):
        with pytest.raises(ConfigError, match="nothing has begun in place"):
            streams.push({place: rising(1_000)})
    with pytest.raises(ConfigError, match="blocks is a list; expected a dict"):
        streams.push([rising(1_000)])
    assert len(streams.push({np.int64(0): rising(40_000)})[0].embeddings)


def test_blocks_are_told_apart_by_place(small):
    streams = Streams(small("ssam"), 2, statistics="running")
    streams.start()
    with pytest.raises(ConfigError, match="blocks is a list; expected a dict"):
        streams.push([rising(640)])


def test_one_bad_block_leaves_all_sounds_as_they_were(small):
    model, clip = small("axlstm"), rising(4_000)
    streams, alone = Streams(model, 2, statistics="running"), Stream(model, statistics="running")
    one, other = streams.start(), streams.start()
    with pytest.raises(AudioError, match=f"stream {other}: holds NaN"):
        streams.push({one: clip, other: torch.tensor([torch.nan])})
    steps = streams.push({one: clip, other: clip})
    torch.testing.assert_close(steps[one], steps[other], rtol=0, atol=STREAMED)
    torch.testing.assert_close(steps[one], alone.push(clip), rtol=0, atol=STREAMED)


def test_sounds_have_statistics_of_their_own(small):
    model, clip = small("ssam"), rising(4_000)
    streams = Streams(model, 2, statistics=(0.0, 1.0))
    one, other = streams.start(), streams.start(statistics=(1.0, 2.0))
    steps = streams.push({one: clip, other: clip})
    expected = Stream(model, statistics=(1.0, 2.0)).push(clip)
    torch.testing.assert_close(steps[other], expected, rtol=0, atol=STREAMED)
    assert not torch.allclose(steps[one].embeddings, steps[other].embeddings)
    streams.end(one)
    with pytest.raises(ConfigError, match="expected 'running'"):
        streams.start(statistics="none")


def test_a_sound_moves_to_another_place(small):
    model, clip = small("axlstm"), rising(40_000)
    streams, alone = Streams(model, 3, statistics="running"), Stream(model, statistics="running")
    place = streams.start()
    for stream in (lambda samples: streams.push({place: samples}), alone.push):
        stream(clip[:15_000])
    streams.start()
    new = streams.start()
    streams.load_state_dict(new, streams.state_dict(place))
    streams.end(place)
    torch.testing.assert_close(streams.push({new: clip[15_000:]})[new], alone.push(clip[15_000:]), rtol=0, atol=STREAMED)


@pytest.mark.parametrize("places", [0, -1, 2.0, True, "3"])
def test_how_many_places(small, places):
    with pytest.raises(ConfigError, match="1 or more"):
        Streams(small("ssam"), places, statistics="running")
