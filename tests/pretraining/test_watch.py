"""guesses.png: a run looked at from outside, which goes on as if nobody looked."""

import io
import logging

import numpy as np
import pytest
import soundfile
from PIL import Image

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.pretraining import loop, watch
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.state import GUESSES, LOGS, WEIGHTS
from tests.pretraining.test_loop import events, losses

SMALL = AxLSTMConfig(width=16, depth=2, patch=(8, 16))


def recipe(**options):
    return Recipe(encoder=SMALL, **{"steps": 4, "batch": 4, "base_lr": 0.1, **options})


@pytest.fixture
def recordings(tmp_path):
    """Two recordings of other rates, one of which is longer than what is watched of it."""
    paths = []
    for name, rate, seconds in (("short.wav", 16_000, 0.7), ("long.flac", 8_000, 6.0)):
        paths.append(tmp_path / name)
        wave = np.random.default_rng(rate).uniform(-0.5, 0.5, round(rate * seconds))
        soundfile.write(paths[-1], wave, rate)
    return paths


@pytest.fixture
def synthesised(monkeypatch):
    monkeypatch.setattr(watch, "CLIPS", ("siren", "frogs"))


@pytest.fixture
def every_checkpoint(monkeypatch):
    """Options of a run that has a checkpoint after every update, and pictures, for which a pixel stands in."""
    monkeypatch.setattr(loop, "PLOT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "draw_curve", lambda *_: True)
    monkeypatch.setattr(watch, "picture", pixel)
    return {"cpu": True, "checkpoint_minutes": 0}


def pixel(clips, *_):
    """A PNG of one pixel, as grey as the guesses are loud."""
    content = io.BytesIO()
    grey = int(127 + 20 * sum(float(clip.guess.mean()) for clip in clips)) % 256
    Image.new("RGB", (1, 1), (grey,) * 3).save(content, "png")
    return content.getvalue()


def pictures(folder):
    """What TensorBoard would show: [(step, PNG)]."""
    return [
        (event.step, value.image) for event in events(folder / LOGS) for value in event.summary.value if value.tag == GUESSES
    ]


@pytest.mark.parametrize(
    "options",
    [{}, {"ema": 0.9, "growth": (1, 2), "checkpointing": True}, {"precision": "bfloat16"}],
    ids=["plain", "an average that grows", "bfloat16"],
)
def test_a_run_that_is_looked_at_is_the_same_bit_for_bit(tmp_path, synthesised, every_checkpoint, options):
    pretrain(recipe(**options), tmp_path / "seen", **every_checkpoint)
    pretrain(recipe(**options), tmp_path / "unseen", cpu=True, watch=())
    assert (tmp_path / "seen" / GUESSES).exists()
    assert not (tmp_path / "unseen" / GUESSES).exists()
    assert (tmp_path / "seen" / WEIGHTS).read_bytes() == (tmp_path / "unseen" / WEIGHTS).read_bytes()
    assert losses(tmp_path / "seen") == losses(tmp_path / "unseen")


def test_tensorboard_has_the_pictures_of_a_run_and_of_its_continuation(tmp_path, synthesised, every_checkpoint):
    pretrain(recipe(steps=2), tmp_path / "run", **every_checkpoint)
    pretrain(recipe(steps=3), tmp_path / "run", **every_checkpoint)
    found = pictures(tmp_path / "run")
    assert [step for step, _ in found] == [1, 2, 3]
    last = found[-1][1]
    assert last.encoded_image_string == (tmp_path / "run" / GUESSES).read_bytes()
    assert (last.width, last.height) == Image.open(tmp_path / "run" / GUESSES).size
    assert [path.name for path in (tmp_path / "run").rglob("*.png")] == [GUESSES]


def test_recordings_of_ones_own_are_watched_from_their_beginning(tmp_path, recordings):
    pretrain(recipe(steps=1), tmp_path / "run", cpu=True, watch=recordings)
    assert Image.open(tmp_path / "run" / GUESSES).width > 500
    (short, _), (long, wave) = watch.Watch([recordings[0].as_uri(), recordings[1]]).clips
    assert (short, long) == ("short.wav", "long.flac")
    assert len(wave) == 4 * 16_000


def test_synthesised_clips_are_watched_by_default_and_are_always_the_same(monkeypatch):
    monkeypatch.undo()  # what keeps other tests from watching
    first, again = (watch.Watch(None).clips for _ in range(2))
    assert [name for name, _ in first] == list(watch.CLIPS) == ["siren", "crickets", "footsteps", "telephone"]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(first, again, strict=True))
    assert {wave.shape for _, wave in first} == {(32_000,)}


def test_what_cannot_be_watched_is_said_before_anything_is_written(tmp_path, recordings):
    recordings[0].write_bytes(b"no sound")
    with pytest.raises(AudioError, match=r"^short\.wav: "):
        pretrain(recipe(), tmp_path / "run", cpu=True, watch=recordings)
    with pytest.raises(ConfigError, match="there are 5 recordings to watch; expected 4 at most"):
        pretrain(recipe(), tmp_path / "run", cpu=True, watch=recordings[1:] * 5)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_drawn_is_told_once_and_ends_no_run(tmp_path, synthesised, every_checkpoint, monkeypatch, caplog):
    def failing(*_):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(watch, "picture", failing)
    with caplog.at_level(logging.INFO):
        pretrain(recipe(), tmp_path / "run", **every_checkpoint)
    assert caplog.messages.count("guesses.png cannot be drawn (no room for a picture)") == 1
    assert not (tmp_path / "run" / GUESSES).exists()
    assert (tmp_path / "run" / WEIGHTS).exists()


def test_a_run_that_starts_over_begins_without_pictures(tmp_path, synthesised, every_checkpoint):
    pretrain(recipe(steps=1), tmp_path / "run", **every_checkpoint)
    assert (tmp_path / "run" / GUESSES).exists()
    pretrain(recipe(steps=1), tmp_path / "run", cpu=True, overwrite=True, watch=())
    assert not (tmp_path / "run" / GUESSES).exists()
