"""Training: it learns, goes on where it was, and is the same alone, in passes, and spread over processes."""

import io
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.errors import OutputError, TrainingError
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe, Schedule, read_recipe, recipe_names
from hear_axlstm.pretraining.shards import write_shards
from hear_axlstm.pretraining.state import CHECKPOINT, CURVE, WEIGHTS, read_curve
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.weights.load import load_weights, read_header
from tests.processes import stopped

SMALL = AxLSTMConfig(width=32, depth=2, patch=(8, 16))


def recipe(encoder=SMALL, **options):
    return Recipe(encoder=encoder, **{"steps": 4, "batch": 4, "base_lr": 0.1, **options})


def losses(folder):
    return [float(row["loss"]) for row in read_curve(Path(folder) / CURVE)]


@pytest.mark.parametrize(
    "encoder",
    [SMALL, SSAMConfig(width=32, depth=2, patch=(8, 16)), SSASTConfig(width=32, depth=2, heads=2, patch=(8, 16))],
    ids=["axlstm", "ssam", "ssast"],
)
def test_the_loss_falls(tmp_path, encoder):
    path = pretrain(recipe(encoder, steps=30, batch=8, seed=1), tmp_path / "run", cpu=True)
    curve = losses(tmp_path / "run")
    assert len(curve) == 30
    assert sum(curve[-5:]) / 5 < 0.9 * curve[0]
    assert load_weights(path)[0].config == encoder


@pytest.fixture
def taught(tmp_path):
    """Clips of two tones, and targets that say which of them sounds."""
    with webdataset.TarWriter(str(tmp_path / "taught.tar"), encoder=False) as writer:
        for number in range(8):
            which = number % 2
            sound, target = io.BytesIO(), io.BytesIO()
            soundfile.write(sound, np.sin(np.arange(40_000) * (0.1, 0.3)[which]), 16_000, format="WAV")
            np.save(target, np.tile(np.float16([[1, -1], [-1, 1]][which]), (63, 1)))
            writer.write({"__key__": f"{number}", "wav": sound.getvalue(), "tone.npy": target.getvalue()})
    return str(tmp_path / "taught.tar")


def test_targets_are_learnt_and_their_run_goes_on(taught, tmp_path):
    options = {"targets": {"tone": 1.0}, "reconstruction": 0.01, "masked": 0.1, "base_lr": 0.5, "batch": 8}
    learning = recipe(AxLSTMConfig(width=16, depth=1), shards=(taught,), **options)
    pretrain(replace(learning, steps=20), tmp_path / "run", cpu=True)
    path = pretrain(replace(learning, steps=24), tmp_path / "run", cpu=True)
    first, *_, before, after = np.array(losses(tmp_path / "run")).reshape(6, 4).mean(1)
    assert before < 0.5 * first
    assert after < 0.5 * first  # the maps to the targets were restored
    assert read_header(path)["layout"] == "time"


def test_the_weights_say_where_they_come_from(tmp_path):
    path = pretrain(recipe(seed=3), tmp_path / "run", cpu=True)
    provenance = read_header(path)["provenance"]
    assert path == tmp_path / "run" / WEIGHTS
    assert provenance["steps"] == 4
    assert provenance["recipe"]["seed"] == 3


def test_the_same_recipe_is_the_same_curve_and_another_seed_is_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain(recipe(seed=seed), tmp_path / name, cpu=True)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_random_numbers_drawn_elsewhere_change_nothing_and_are_left_alone(tmp_path):
    pretrain(recipe(), tmp_path / "a", cpu=True)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    pretrain(recipe(), tmp_path / "b", cpu=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_passes_are_the_same_mathematics(tmp_path):
    pretrain(recipe(), tmp_path / "whole", cpu=True)
    pretrain(recipe(), tmp_path / "passes", cpu=True, micro_batch=1)
    assert losses(tmp_path / "passes") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)


def test_checkpointed_activations_are_the_same_mathematics(tmp_path):
    pretrain(recipe(), tmp_path / "kept", cpu=True)
    pretrain(recipe(checkpointing=True), tmp_path / "again", cpu=True)
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "kept"), abs=1e-6)


def test_float16_trains_with_scaled_gradients(tmp_path):
    pretrain(recipe(steps=8), tmp_path / "float32", cpu=True)
    pretrain(recipe(steps=8, precision="float16"), tmp_path / "float16", cpu=True)
    assert losses(tmp_path / "float16") == pytest.approx(losses(tmp_path / "float32"), rel=0.02)
    assert losses(tmp_path / "float16") != losses(tmp_path / "float32")


def test_half_precision_is_close_and_compilation_closer(tmp_path):
    small = AxLSTMConfig(width=16, depth=1, patch=(40, 16))
    pretrain(recipe(small), tmp_path / "float32", cpu=True)
    pretrain(recipe(small, precision="bfloat16"), tmp_path / "bfloat16", cpu=True)
    pretrain(recipe(small, compile=True), tmp_path / "compiled", cpu=True)
    assert losses(tmp_path / "bfloat16") == pytest.approx(losses(tmp_path / "float32"), rel=0.02)
    assert losses(tmp_path / "bfloat16") != losses(tmp_path / "float32")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "float32"), rel=1e-4)


def test_an_average_of_the_weights_is_what_results(tmp_path):
    pretrain(recipe(), tmp_path / "last", cpu=True)
    pretrain(recipe(ema=0.9), tmp_path / "average", cpu=True)
    assert losses(tmp_path / "average") == losses(tmp_path / "last")
    last, average = (load_weights(tmp_path / name / WEIGHTS)[0].cls_token for name in ("last", "average"))
    assert not torch.equal(last, average)


def test_recorded_and_synthesised_sound_train_together(sound_folder, tmp_path):
    write_shards([sound_folder], tmp_path / "shards")
    mixed = recipe(shards=(str(tmp_path / "shards"),), synthetic=0.5)
    pretrain(mixed, tmp_path / "alone", cpu=True)
    pretrain(mixed, tmp_path / "helped", cpu=True, workers=1)
    assert losses(tmp_path / "helped") == pytest.approx(losses(tmp_path / "alone"), abs=1e-6)
    pretrain(recipe(), tmp_path / "synthetic", cpu=True)
    assert losses(tmp_path / "synthetic") != losses(tmp_path / "alone")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_good(tmp_path):
    with pytest.raises(TrainingError, match=r"the loss of update \d+ is (nan|inf).*lower base_lr"):
        pretrain(recipe(base_lr=1e12, steps=12), tmp_path / "run", cpu=True)
    assert all(loss == loss for loss in losses(tmp_path / "run"))
    assert not (tmp_path / "run" / WEIGHTS).exists()


def test_another_recipe_does_not_go_on_in_the_folder(tmp_path):
    pretrain(recipe(), tmp_path / "run", cpu=True)
    with pytest.raises(OutputError, match="other settings: --batch was 4 and is 2 now"):
        pretrain(recipe(batch=2), tmp_path / "run", cpu=True)
    pretrain(recipe(batch=2), tmp_path / "run", cpu=True, overwrite=True)
    assert len(losses(tmp_path / "run")) == 4


def test_a_finished_run_is_left_as_it_is(tmp_path):
    path = pretrain(recipe(), tmp_path / "run", cpu=True)
    before = path.read_bytes()
    assert pretrain(recipe(), tmp_path / "run", cpu=True).read_bytes() == before
    assert len(losses(tmp_path / "run")) == 4


def test_a_run_that_is_done_says_so(tmp_path, caplog):
    pretrain(recipe(), tmp_path / "run", cpu=True)
    with caplog.at_level(logging.INFO):
        pretrain(recipe(), tmp_path / "run", cpu=True)
    assert caplog.messages == ["finished already (4 steps); --steps 8, for example, prolongs it"]


def test_a_prolonged_run_has_the_learning_rates_of_its_new_length_from_there_on(tmp_path):
    pretrain(recipe(steps=4), tmp_path / "run", cpu=True)
    before = losses(tmp_path / "run")
    path = pretrain(recipe(steps=7), tmp_path / "run", cpu=True)
    rates = [float(row["lr"]) for row in read_curve(tmp_path / "run" / CURVE)]
    assert losses(tmp_path / "run")[:4] == before
    short, long = (Schedule.of(recipe(steps=steps), 0) for steps in (4, 7))
    assert rates == [*map(short.at, range(4)), *map(long.at, range(4, 7))]
    assert read_header(path)["provenance"]["lengths"] == [{"after": 0, "updates": 4}, {"after": 4, "updates": 7}]
    assert read_header(path)["provenance"]["recipe"]["steps"] == 7
    again = path.read_bytes()
    assert pretrain(recipe(steps=None), tmp_path / "run", cpu=True).read_bytes() == again  # it keeps its length
    with pytest.raises(OutputError, match="holds a run of 7 updates, more than 5"):
        pretrain(recipe(steps=5), tmp_path / "run", cpu=True)


def interrupted(monkeypatch, after, run, *, in_the_middle=False):
    """Run until Ctrl-C is pressed in update ``after`` + 1: before it changes the weights, or just when it has."""
    update, updates = Trainer.update, []

    def stopping(self, *arguments):
        updates.append(1)
        if len(updates) > after and not in_the_middle:
            raise KeyboardInterrupt
        loss = update(self, *arguments)
        if len(updates) > after:
            raise KeyboardInterrupt
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", stopping)
        with pytest.raises(KeyboardInterrupt) as caught:
            run()
    return str(caught.value)


def test_a_prolonged_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    for name in ("whole", "parts"):
        pretrain(recipe(steps=4, ema=0.9), tmp_path / name, cpu=True)
    longer = recipe(steps=9, ema=0.9)
    interrupted(monkeypatch, 2, lambda: pretrain(longer, tmp_path / "parts", cpu=True))
    paths = [pretrain(longer, tmp_path / name, cpu=True) for name in ("whole", "parts")]
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(("in_the_middle", "kept"), [(False, 3), (True, 0)], ids=["in a pass", "in the optimiser"])
def test_ctrl_c_keeps_what_is_whole(tmp_path, monkeypatch, in_the_middle, kept):
    def run():
        pretrain(recipe(steps=6), tmp_path / "run", cpu=True)

    text = interrupted(monkeypatch, 3, run, in_the_middle=in_the_middle)
    assert text == f"{kept} of 6 updates are kept in {tmp_path / 'run'}"
    assert (tmp_path / "run" / CHECKPOINT).exists() == bool(kept)
    pretrain(recipe(steps=6), tmp_path / "run", cpu=True)
    pretrain(recipe(steps=6), tmp_path / "whole", cpu=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_neither_tensorboard_nor_pictures_are_needed(tmp_path, monkeypatch, caplog):
    for module in ("tensorboardX.event_file_writer", "matplotlib.figure", "accelerate"):
        monkeypatch.setitem(sys.modules, module, None)
    with caplog.at_level(logging.INFO):
        pretrain(recipe(), tmp_path / "run", cpu=True, checkpoint_minutes=0)
    assert len(losses(tmp_path / "run")) == 4
    assert [message.count("matplotlib is not installed") for message in caplog.messages] == [1]
    assert not {"tensorboard", "curve.png"} & {path.name for path in (tmp_path / "run").iterdir()}


def events(folder):
    """The events in a folder of TensorBoard's. Records are length, its checksum, an event, its checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            assert masked_crc32c(content[:8]) == int.from_bytes(content[8:12], "little")
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def scalars(folder):
    """What TensorBoard would show: {tag: {step: value}}."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_is_shown_the_curve(tmp_path):
    pretrain(recipe(), tmp_path / "run", cpu=True)
    found = scalars(tmp_path / "run" / "tensorboard")
    assert list(found["loss"].values()) == pytest.approx(losses(tmp_path / "run"))
    assert list(found["lr"]) == [1, 2, 3, 4]
    assert min(found["clips_per_second"].values()) > 0


def command(tmp_path, name, *options):
    path = tmp_path / "recipe.toml"
    encoder = "family = 'axlstm'\nwidth = 16\ndepth = 2\npatch = [8, 16]\n"
    path.write_text(f"steps = 24\nbatch = 2\nbase_lr = 0.1\nema = 0.9\ngrowth = [1, 2]\n[encoder]\n{encoder}")
    return ["pretrain", str(path), "-o", str(tmp_path / name), "--cpu", *options]


def test_a_killed_run_goes_on_to_the_same_curve_bit_for_bit(tmp_path):
    often = ("--checkpoint-minutes", "0")
    run = stopped(f"*/{CHECKPOINT}", 5, *command(tmp_path, "killed", *often), stderr=subprocess.DEVNULL)
    run.kill()
    run.wait()
    assert 5 <= len(losses(tmp_path / "killed")) < 24
    for name in ("killed", "whole"):
        subprocess.run([sys.executable, "-m", "hear_axlstm", *command(tmp_path, name)], check=True, capture_output=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 24
    ends = [load_weights(tmp_path / name / WEIGHTS)[0].state_dict() for name in ("killed", "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_two_processes_are_one(tmp_path):
    """The same batches, divided, under torchrun: the same curve to 1e-5."""
    pretrain(read_recipe(command(tmp_path, "two")[1], steps=8), tmp_path / "one", cpu=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    arguments = ["--standalone", "-m", "hear_axlstm", *command(tmp_path, "two", "--steps", "8")]
    result = subprocess.run([*torchrun, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert read_header(tmp_path / "two" / WEIGHTS)["provenance"]["processes"] == 2


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains(tmp_path, name):
    """One update of two clips by an encoder of two blocks, without what only a long run repays, and without shards."""
    settled = read_recipe(name, synthetic=1.0, steps=1, batch=2, epoch_clips=8, compile=False, precision="float32")
    settled = replace(settled, encoder=replace(settled.encoder, depth=2), growth=(), shards=(), shares=(), targets={})
    pretrain(settled, tmp_path / "run", cpu=True)
    assert 0.5 < losses(tmp_path / "run")[0] < 5
