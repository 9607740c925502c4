"""A whole run: it learns, goes on where it was killed, and what it writes fits together."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from hear_axlstm.audio import read_audio
from hear_axlstm.classification.apply import load_classifier
from hear_axlstm.classification.classifier import read_classifier
from hear_axlstm.classification.labelled import read_labelled
from hear_axlstm.errors import ConfigError, OutputError, TrainingError
from hear_axlstm.finetuning import finetune
from hear_axlstm.finetuning.state import CHECKPOINT, CURVE, SCORES, SETTINGS
from hear_axlstm.finetuning.tuner import Tuner
from hear_axlstm.hear import get_scene_embeddings, load_model
from hear_axlstm.weights.folder import pack
from hear_axlstm.weights.load import load_weights, read_header
from hear_axlstm.weights.save import fingerprint
from tests.finetuning.conftest import PITCHES, write_short, write_sounds
from tests.processes import stopped

QUICK = {"epochs": 2, "patience": 2, "batch": 4, "lr": 1e-3, "device": "cpu"}


def curve(folder):
    with open(folder / CURVE, newline="") as file:
        return list(csv.DictReader(file))


def changed(before, after):
    """The names of the tensors that are not the same bits."""
    ends = [load_weights(path)[0].state_dict() for path in (before, after)]
    return {name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, sounds, weights):
    out = tmp_path_factory.mktemp("finished") / "run"
    return finetune(sounds, out, weights, from_layer=1, **{**QUICK, "epochs": 3, "patience": 3})


def test_the_result_classifies(tmp_path, finished):
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        "classifier.safetensors", "curve.csv", "finetune.json", "model.safetensors", "scores.json",
    ]  # fmt: skip
    classifier, model = read_classifier(finished.folder), load_model(finished.folder)
    assert classifier.classes == ["high", "low", "mid"]
    assert classifier.facts["fingerprint"] == fingerprint(model.encoder)
    assert (classifier.facts["layout"], model.layout) == ("time", "time")
    test = read_labelled(write_sounds(tmp_path / "test", seed=5))
    guessed = []
    for sound in test.sounds:
        with torch.no_grad():
            embedding = get_scene_embeddings(torch.from_numpy(read_audio(sound.path))[None], model)
        guessed.append(classifier.classes[classifier.probabilities(embedding.numpy()).argmax()])
    assert np.mean([guess == label for guess, label in zip(guessed, test.labels, strict=True)]) > 0.6


def test_packed_it_is_the_same_classifier_in_transformers(tmp_path, finished):
    pytest.importorskip("transformers")
    from hear_axlstm.doors.transformers import HearAxlstmForAudioClassification

    pack(finished.folder, tmp_path / "packed")
    classifier = read_classifier(finished.folder)
    model = HearAxlstmForAudioClassification.from_pretrained(tmp_path / "packed")
    assert list(model.config.id2label.values()) == classifier.classes
    audio = torch.rand(2, 9_000) - 0.5
    with torch.no_grad():
        probabilities, scenes = model(audio).logits.softmax(1), load_model(finished.folder)(audio)
    np.testing.assert_allclose(probabilities, classifier.probabilities(scenes.numpy()), rtol=0, atol=1e-5)


def test_the_loss_falls_and_the_best_epoch_is_kept(finished):
    rows = curve(finished.folder)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[3]["loss"]) < float(rows[1]["loss"])
    best = rows[finished.scores["best_epoch"]]
    assert float(best["balanced_accuracy"]) == max(float(row["balanced_accuracy"]) for row in rows)
    assert float(best["accuracy"]) == finished.scores["validation"]["accuracy"]
    assert b"\r" not in (finished.folder / CURVE).read_bytes()


def test_the_weights_say_where_they_come_from(finished, weights):
    provenance = read_header(finished.folder / "model.safetensors")["provenance"]
    assert provenance["finetuned_from"]["model"] == str(weights)
    assert provenance["finetuned_from"]["fingerprint"] == fingerprint(load_weights(weights)[0])
    assert provenance["finetuned_from"]["settings"]["from_layer"] == 1


def test_what_was_saved_embeds_as_what_was_in_memory(tmp_path, sounds, weights, monkeypatch):
    tuners = []
    begin = Tuner.begin
    monkeypatch.setattr(Tuner, "begin", lambda self, *rest: (tuners.append(self), begin(self, *rest))[1])
    result = finetune(sounds, tmp_path / "run", weights, from_layer=0, **QUICK)
    audio = torch.from_numpy(read_audio(sounds / "low" / "3.wav"))[None]
    with torch.no_grad():
        assert torch.equal(tuners[0].model(audio), load_model(result.folder)(audio))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"frozen": True}, set()),
        ({"from_layer": 2}, {"blocks.1", "norm"}),
        ({"from_layer": 1}, {"blocks.0", "blocks.1", "norm"}),
        ({"from_layer": 0}, {"blocks.0", "blocks.1", "norm", "patch_embed", "cls_token"}),
    ],
    ids=["frozen", "from 2", "from 1", "from 0"],
)
def test_only_the_layers_that_are_trained_change(tmp_path, sounds, weights, options, parts, monkeypatch):
    monkeypatch.setattr("hear_axlstm.finetuning.state.State.best_row", property(lambda self: self.rows[-1]))
    result = finetune(sounds, tmp_path / "run", weights, **options, **QUICK)
    names = changed(weights, result.folder / "model.safetensors")
    assert {".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in names} == parts
    assert len(curve(result.folder)) == (1 if options.get("frozen") else 3)


def test_the_same_seed_is_the_same_run_and_another_is_not(tmp_path, sounds, weights):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune(sounds, tmp_path / name, weights, seed=seed, **QUICK)
    assert curve(tmp_path / "a") == curve(tmp_path / "b") != curve(tmp_path / "c")
    assert not changed(*(tmp_path / name / "model.safetensors" for name in "ab"))


def test_a_killed_run_goes_on_to_the_same_result_bit_for_bit(tmp_path, weights):
    sounds = write_sounds(tmp_path / "sounds")
    write_short(sounds / "low" / "short.wav")

    def command(name):
        options = "--from-layer 2 --epochs 3 --batch 4 --lr 0.001 --device cpu --checkpoint-minutes 0 --pad -q".split()
        return ["finetune", sounds, "-o", tmp_path / name, "--model", weights, *options]

    run = stopped(f"*/{CHECKPOINT}", 5, *command("killed"), stderr=subprocess.DEVNULL)
    run.kill()
    run.wait()
    assert not (tmp_path / "killed" / SCORES).exists()
    for name in ("killed", "whole"):
        subprocess.run([sys.executable, "-m", "hear_axlstm", *map(str, command(name))], check=True)
    for name in (CURVE, SCORES, "model.safetensors", "classifier.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_run_is_not_made_again(sounds, weights, finished, monkeypatch):
    monkeypatch.setattr("hear_axlstm.finetuning.loop.read_clips", None)
    again = finetune(sounds, finished.folder, weights, from_layer=1, **{**QUICK, "epochs": 3, "patience": 3})
    assert again.was_finished
    assert not finished.was_finished
    assert again.scores == json.loads((finished.folder / SCORES).read_text())


OTHERS = {
    "lr": ({"lr": 0.5}, "--lr was 0.001 and is 0.5 now"),
    "seed": ({"seed": 4}, "--seed was 0 and is 4 now"),
    "from_layer": ({"from_layer": 2}, r"was trained from layer 1 on \(--from-layer\) and is trained from layer 2 on"),
    "pad_short": ({"pad_short": True}, "--pad was not given and is given now"),
    "frozen": ({"from_layer": None, "frozen": True}, r"trained from layer 1 on .* and is frozen \(--frozen\) now"),
}


@pytest.mark.parametrize(("change", "words"), OTHERS.values(), ids=OTHERS)
def test_other_settings_are_refused_in_the_words_of_the_command(sounds, weights, finished, change, words):
    options = {"from_layer": 1, **QUICK, "epochs": 3, "patience": 3} | change
    with pytest.raises(OutputError, match=f"other settings: .*{words}.*; choose another folder, or start over"):
        finetune(sounds, finished.folder, weights, **options)


def test_other_sounds_are_refused_unless_the_run_is_to_be_overwritten(tmp_path, weights):
    folder = write_sounds(tmp_path / "sounds", clips=2)
    finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu")
    (folder / "low" / "more.wav").write_bytes((folder / "low" / "0.wav").read_bytes())
    with pytest.raises(OutputError, match="there were 6 sounds of 3 classes and are 7 sounds of 3 classes now"):
        finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu")
    (folder / "low" / "1.wav").unlink()
    with pytest.raises(OutputError, match="of the 6 sounds of 3 classes some were others"):
        finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu")
    (folder / "low" / "renamed.wav").write_bytes((folder / "mid" / "1.wav").read_bytes() + b" ")
    result = finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu", overwrite=True)
    assert result.scores["training_clips"] == 4


def test_a_run_that_is_refused_before_it_trains_leaves_nothing_behind(tmp_path, weights):
    folder = write_sounds(tmp_path / "sounds", clips=1)
    with pytest.raises(ConfigError, match="the class 'high' cannot be divided"):
        finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu")
    assert not (tmp_path / "run").exists()
    good = write_sounds(tmp_path / "good", clips=2)
    finetune(good, tmp_path / "run", weights, frozen=True, device="cpu")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ConfigError, match="cannot be divided"):
        finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_sounds_of_a_test_are_scored_after_a_finished_run_too(tmp_path, sounds, weights, finished):
    test = write_sounds(tmp_path / "test", clips=1, seed=3)
    (test / "mid" / "broken.wav").write_bytes(b"no sound")
    result = finetune(sounds, finished.folder, weights, test=test, from_layer=1, **{**QUICK, "epochs": 3, "patience": 3})
    assert result.scores["test"]["clips"] == 3
    assert list(result.failures) == ["mid/broken.wav"]
    assert np.trace(result.scores["test"]["confusion"]) / 3 == result.scores["test"]["accuracy"]


def test_short_sounds_are_padded_on_request_and_so_they_are_by_the_classifier(tmp_path, weights):
    folder = write_sounds(tmp_path / "sounds", clips=2)
    short = write_short(folder / "low" / "short.wav")
    options = {"frozen": True, "device": "cpu"}
    left = finetune(folder, tmp_path / "left", weights, **options)
    assert list(left.failures) == ["low/short.wav"]
    assert load_classifier(left.folder).predict(short).labels == [None]
    test = write_sounds(tmp_path / "test", clips=1, seed=3)
    write_short(test / "mid" / "short.wav", seed=1)
    padded = finetune(folder, tmp_path / "padded", weights, test=test, pad_short=True, **options)
    assert padded.failures == {}
    assert padded.scores["training_clips"] + padded.scores["validation"]["clips"] == 7
    assert padded.scores["test"]["clips"] == 4
    classifier = load_classifier(padded.folder)
    assert classifier.predict(short).labels[0] in PITCHES
    assert classifier.predict(short, pad_short=False).labels == [None]


def test_a_folder_of_an_earlier_version_goes_on(tmp_path, sounds, weights):
    finetune(sounds, tmp_path / "run", weights, frozen=True, device="cpu")
    settings = json.loads((tmp_path / "run" / SETTINGS).read_text())
    assert settings.pop("pad_short") is None
    (tmp_path / "run" / SETTINGS).write_text(json.dumps(settings))
    assert finetune(sounds, tmp_path / "run", weights, frozen=True, device="cpu").was_finished


def test_a_class_of_sounds_that_are_too_short_says_how_they_are_used(tmp_path, weights):
    folder = write_sounds(tmp_path / "sounds", clips=2)
    (folder / "high" / "0.wav").write_bytes(b"no sound")
    for number in range(2):
        write_short(folder / "low" / f"{number}.wav", seed=number)
    with pytest.raises(ConfigError, match=r"class 'low' can be read \(150 samples .*; pad them \(--pad\), or"):
        finetune(folder, tmp_path / "run", weights, frozen=True, device="cpu")


def test_classes_of_a_test_must_be_known(tmp_path, sounds, weights):
    test = write_sounds(tmp_path / "test", clips=1)
    (test / "mid").rename(test / "middle")
    with pytest.raises(ConfigError, match="has the classes middle"):
        finetune(sounds, tmp_path / "run", weights, test=test)


def test_copies_of_what_is_learnt_from_are_no_test(tmp_path, sounds, weights):
    test = write_sounds(tmp_path / "test", seed=5)
    (test / "high" / "again.wav").write_bytes((sounds / "high" / "0.wav").read_bytes())
    with pytest.raises(ConfigError, match=r"1 of the 13 test sounds is a copy of .*, such as high/again\.wav"):
        finetune(sounds, tmp_path / "out", weights, test=test, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_run_ends_when_epochs_get_no_better(tmp_path, sounds, weights, monkeypatch):
    monkeypatch.setattr("hear_axlstm.finetuning.state.State.best_row", property(lambda self: self.rows[0]))
    result = finetune(sounds, tmp_path / "run", weights, **{**QUICK, "epochs": 9, "patience": 2})
    assert result.scores["epochs"] == 2


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(tmp_path, sounds, weights):
    with pytest.raises(TrainingError, match="lower learning rate"):
        finetune(sounds, tmp_path / "run", weights, **QUICK | {"lr": 1e30, "epochs": 9, "patience": 9})


def test_a_damaged_checkpoint_is_said_to_be(tmp_path, sounds, weights, finished):
    (tmp_path / "run").mkdir()
    for name in ("finetune.json",):
        (tmp_path / "run" / name).write_bytes((finished.folder / name).read_bytes())
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(OutputError, match="is damaged"):
        finetune(sounds, tmp_path / "run", weights, from_layer=1, **{**QUICK, "epochs": 3, "patience": 3})


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"epochs": 0},
        {"from_layer": 3},
        {"from_layer": 1, "frozen": True},
        {"validation": 1.0},
        {"seconds": -1.0},
    ],
    ids=["lr", "epochs", "from_layer", "frozen and from_layer", "validation", "seconds"],
)
def test_bad_options_are_refused(tmp_path, sounds, weights, options):
    with pytest.raises(ConfigError, match="expected"):
        finetune(sounds, tmp_path / "run", weights, **options)
    assert not (tmp_path / "run").exists()
