"""From labelled sounds to scores, files and a classifier that labels other sounds."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import soundfile

import hear_axlstm
from hear_axlstm.classification.apply import load_classifier
from hear_axlstm.classification.run import classify
from hear_axlstm.errors import ConfigError, OutputError, WeightsError
from hear_axlstm.weights.find import read_manifest
from tests.conftest import tone

RATE = 16_000


@pytest.fixture(scope="module")
def model():
    return hear_axlstm.load_model()


@pytest.fixture
def sounds(tmp_path):
    """Tones, clicks and noise, four of each."""
    rng, folder = np.random.default_rng(0), tmp_path / "sounds"
    for number in range(4):
        for kind, samples in {
            "tone": tone(300 + 90 * number, 0.5),
            "clicks": (np.arange(RATE // 2) % (900 + 100 * number) < 20) * 0.5,
            "noise": rng.uniform(-0.3, 0.3, RATE // 2),
        }.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / kind / f"{number}.wav", samples, RATE)
    return folder


def test_a_folder_becomes_scores_files_and_a_classifier(sounds, model, tmp_path):
    out = tmp_path / "out"
    result = classify(sounds, out=out)
    assert result.classes == ["clicks", "noise", "tone"]
    assert result.accuracy == 1.0
    assert result.chance == pytest.approx(1 / 3)
    assert result.interval[0] < 0.8  # twelve sounds are few
    assert "12 sounds of 3 classes" in repr(result)
    assert np.array_equal(result.confusion, 4 * np.eye(3))
    rows = list(csv.DictReader((out / "predictions.csv").open(newline="")))
    assert [(row["path"], row["label"], row["guess"]) for row in rows] == [
        (f"{kind}/{number}.wav", kind, kind) for kind in result.classes for number in range(4)
    ]
    assert {row["fold"] for row in rows} == {"0", "1", "2", "3"}
    assert b"\r" not in (out / "predictions.csv").read_bytes()
    assert json.loads((out / "scores.json").read_text())["accuracy"] == 1.0
    found = load_classifier(out)
    assert found.facts["model"] == read_manifest()["default"]
    assert found.facts["clips"] == {"clicks": 4, "noise": 4, "tone": 4}
    predicted = found.predict(sounds / "noise")
    assert predicted.labels == ["noise"] * 4
    np.testing.assert_array_equal(predicted.probabilities, result.classifier.predict(sounds / "noise").probabilities)


def test_a_second_run_embeds_nothing_and_writes_the_same(sounds, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    classify(sounds, model, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    monkeypatch.setattr(type(model), "forward", None)
    classify(sounds, model, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    with pytest.raises(OutputError, match="--seed was 0 and is 1 now"):
        classify(sounds, model, out=out, seed=1)
    classify(sounds, model, out=out, seed=1, overwrite=True)  # the embeddings are those of the same weights


def test_a_damaged_embedding_is_named_and_made_anew_on_request(sounds, model, tmp_path):
    before = classify(sounds, model, out=tmp_path / "out")
    file = tmp_path / "out" / "embeddings" / "tone" / "0.wav.embedding.npy"
    file.write_bytes(b"\x93" + b"x" * (file.stat().st_size - 1))
    with pytest.raises(OutputError, match=r"tone/0.wav.embedding.npy cannot be read .*; remove it, and repeat the command"):
        classify(sounds, model, out=tmp_path / "out")
    after = classify(sounds, model, out=tmp_path / "out", overwrite=True)
    assert np.array_equal(after.validation.probabilities, before.validation.probabilities)


def test_two_sounds_of_a_class_are_enough_and_one_is_not(sounds, model):
    for kind in ("tone", "clicks", "noise"):
        (sounds / kind / "3.wav").unlink()
        (sounds / kind / "2.wav").unlink()
    result = classify(sounds, model)
    assert len(result.validation.penalties) == 2
    assert result.accuracy > result.chance
    (sounds / "noise" / "1.wav").unlink()
    with pytest.raises(ConfigError, match=r"two sounds of each, .* fewer have noise \(1\)"):
        classify(sounds, model)


def test_what_fails_is_left_out_and_named(sounds, model):
    (sounds / "tone" / "broken.wav").write_bytes(b"RIFF nothing")
    result = classify(sounds, model)
    assert list(result.failures) == ["tone/broken.wav"]
    assert len(result.names) == 12
    (sounds / "noise" / "0.wav").write_bytes(b"")
    (sounds / "noise" / "1.wav").write_bytes(b"")
    (sounds / "noise" / "2.wav").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"fewer have noise \(1\) that can be embedded; failed: "):
        classify(sounds, model)
    (sounds / "noise" / "3.wav").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"fewer have noise \(0\) that can be embedded"):  # and no class is lost unsaid
        classify(sounds, model)


def test_short_sounds_are_padded_on_request_and_so_they_are_by_the_classifier(sounds, model, tmp_path):
    for number in range(2):
        soundfile.write(sounds / "clicks" / f"short{number}.wav", tone(500, 0.01 - 0.001 * number), RATE)
    short = sounds / "clicks" / "short0.wav"
    assert list(classify(sounds, model, out=tmp_path / "out").failures) == ["clicks/short0.wav", "clicks/short1.wav"]
    assert load_classifier(tmp_path / "out", model).predict(short).labels == [None]
    with pytest.raises(OutputError, match="pad"):
        classify(sounds, model, out=tmp_path / "out", pad_short=True)
    padded = classify(sounds, model, out=tmp_path / "out", pad_short=True, overwrite=True)
    assert (len(padded.names), padded.failures) == (14, {})
    found = load_classifier(tmp_path / "out", model)
    assert found.predict(short).labels == ["clicks"]
    assert found.predict(short, pad_short=False).labels == [None]
    found.facts.pop("pad_short")  # as a classifier of an earlier version
    assert found.predict(short).labels == [None]
    assert found.predict(short, pad_short=True).labels == ["clicks"]


def test_copies_stay_together_and_those_with_two_labels_are_named(sounds, model):
    shutil.copy(sounds / "tone" / "0.wav", sounds / "noise" / "copy.wav")
    shutil.copy(sounds / "tone" / "1.wav", sounds / "tone" / "again.wav")
    result = classify(sounds, model)
    assert result.torn == [["noise/copy.wav", "tone/0.wav"]]
    fold = dict(zip(result.names, result.validation.fold, strict=True))
    assert fold["noise/copy.wav"] == fold["tone/0.wav"]
    assert fold["tone/1.wav"] == fold["tone/again.wav"]
    assert result.units == 12
    assert result.mistakes[0].name == "noise/copy.wav"


def test_paths_of_a_table_do_not_lead_out_of_the_folder(sounds, model, tmp_path):
    table = tmp_path / "tables" / "labels.csv"
    table.parent.mkdir()
    lines = [f"../sounds/{kind}/{number}.wav,{kind},{number // 2}" for kind in ("tone", "noise") for number in range(4)]
    table.write_text("\n".join(["path,label,group", *lines]))
    result = classify(table, model, out=tmp_path / "out")
    fold = dict(zip(result.names, result.validation.fold, strict=True))
    assert fold["../sounds/tone/0.wav"] == fold["../sounds/tone/1.wav"] != fold["../sounds/tone/2.wav"]
    assert len(list((tmp_path / "out").rglob("*.embedding.npy"))) == 8
    assert len(list(tmp_path.rglob("*.embedding.npy"))) == 8


def test_embeddings_of_sounds_at_home_are_in_no_folder_that_a_shell_takes_for_home(sounds, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(f"~/sounds/{kind}/{number}.wav,{kind}" for kind in ("tone", "noise") for number in range(2)))
    result = classify(table, model, out=tmp_path / "out")
    assert result.names[0] == "~/sounds/tone/0.wav"
    assert len(list((tmp_path / "out").rglob("*.embedding.npy"))) == 4
    assert not list((tmp_path / "out").rglob("~"))


@pytest.mark.parametrize("kept", [True, False], ids=["with a folder", "in memory"])
def test_paths_that_end_alike_are_different_sounds(sounds, model, tmp_path, kept):
    shutil.copytree(sounds, tmp_path / "tables" / "sounds")
    shutil.move(tmp_path / "tables" / "sounds" / "tone", tmp_path / "tables" / "sounds" / "swapped")
    shutil.move(tmp_path / "tables" / "sounds" / "noise", tmp_path / "tables" / "sounds" / "tone")
    table = tmp_path / "tables" / "labels.csv"
    outside = [f"../sounds/tone/{number}.wav,tone" for number in range(4)]
    table.write_text("\n".join([*outside, *(f"sounds/tone/{number}.wav,noise" for number in range(4))]))
    result = classify(table, model, out=tmp_path / "out" if kept else None)
    assert len(result.names) == 8
    assert result.accuracy == 1.0


def test_a_group_that_is_a_class_cannot_be_tested_on(sounds, model, tmp_path):
    table = tmp_path / "labels.csv"
    lines = [f"sounds/{kind}/{number}.wav,{kind},{kind}" for kind in ("tone", "noise") for number in range(4)]
    table.write_text("\n".join(["path,label,group", *lines]))
    with pytest.raises(ConfigError, match="all sounds of noise, tone are copies of one file or of one group"):
        classify(table, model)


def test_the_folder_of_sounds_is_no_place_for_results(sounds, model):
    for out in (sounds, sounds / "out"):
        with pytest.raises(ConfigError, match="is in the folder of sounds"):
            classify(sounds, model, out=out)


@pytest.mark.parametrize(("module", "name"), [("sklearn", "scikit-learn"), ("jinja2", "jinja2")], ids=["sklearn", "jinja2"])
def test_without_its_packages_the_extra_is_named_before_anything_is_done(sounds, tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {name}: pip install 'hear-axlstm\[classify\]'"):
        classify(sounds, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predictions_are_aligned_with_what_was_given(sounds, model, tmp_path):
    classifier = classify(sounds, model).classifier
    (sounds / "broken.wav").write_bytes(b"RIFF nothing")
    found = classifier.predict([sounds / "tone" / "0.wav", sounds / "broken.wav", (tone(500, 0.5), RATE)])
    assert [label for _, label, _ in found] == ["tone", None, "tone"]
    assert np.isnan(found.probabilities[1]).all()
    assert list(found.failures) == ["broken.wav"]
    assert len(found.to_csv().splitlines()) == 3
    assert found.to_csv(every_class=True).startswith("path,label,probability,clicks,noise,tone\n")
    assert classifier.predict([sounds / "broken.wav"]).labels == [None]


def test_a_classifier_is_used_with_its_own_weights_alone(sounds, model, random_weights, tmp_path):
    out = tmp_path / "out"
    classify(sounds, model, out=out)
    with pytest.raises(WeightsError, match="does not say where its weights are; pass them"):
        load_classifier(out)  # it was made with a model in memory
    assert load_classifier(out, model).classes == ["clicks", "noise", "tone"]
    other = random_weights("axlstm-tiny")
    with pytest.raises(WeightsError, match="was made for other weights"):
        load_classifier(out, other)
    shutil.copy(other, out / "model.safetensors")
    with pytest.raises(WeightsError, match="was made for other weights"):
        load_classifier(out)
