"""The whole probe: features, scores, the report, and what cannot be run."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from hear_axlstm.probing import features

from hear_axlstm.config import AxLSTMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError, WeightsError
from hear_axlstm.evaluation.probe import probe as module
from hear_axlstm.evaluation.probe.probe import COLUMNS, TITLES, is_held_out, probe
from hear_axlstm.evaluation.probe.tasks import TASKS, Task
from hear_axlstm.frontend import log_mel
from hear_axlstm.weights.save import fingerprint
from tests.conftest import noise
from tests.tolerances import BATCH_MATES

CONFIG = AxLSTMConfig(width=32, depth=1)
NAMES = ["contour", "order"]


@pytest.fixture(scope="module")
def encoder():
    return features.random_encoder(CONFIG, 7)


@pytest.fixture(scope="module")
def result(encoder):
    return probe(encoder, NAMES, clips_per_class=2)


# Features


@pytest.mark.parametrize("config", [CONFIG, SSASTConfig(width=32, depth=1, heads=4, patch=(8, 20))])
@pytest.mark.parametrize("chunks", [1, 2])
def test_running_once_gives_the_scene_embeddings_of_both_layouts(config, chunks):
    encoder = features.random_encoder(config, 0)
    audio = noise(3, 32_000 * chunks - 160)
    found = features.scene_embeddings(audio, Embedder(encoder))
    for layout in ("released", "time"):
        with torch.no_grad():
            expected = Embedder(encoder, layout=layout)(audio)
        np.testing.assert_allclose(found[layout], expected, rtol=0, atol=BATCH_MATES)
    assert not np.allclose(found["released"], found["time"], atol=1e-3)


def test_log_mel_statistics_are_those_of_each_band():
    audio = noise(2, 31_840)
    found = features.log_mel_statistics(audio)
    mel = log_mel(audio).numpy()
    np.testing.assert_allclose(found, np.concatenate([mel.mean(1), mel.std(1, ddof=1)], axis=1), atol=1e-5)


def test_random_weights_are_those_of_their_seed_and_leave_torch_alone():
    state = torch.get_rng_state()
    encoders = [features.random_encoder(CONFIG, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    prints = [fingerprint(encoder) for encoder in encoders]
    assert prints[0] == prints[1] != prints[2]


# Scores


def test_every_column_has_every_number(result):
    assert result.tasks == NAMES
    assert result.not_run == {}
    assert len(result.scores) == len(NAMES) * len(COLUMNS) * len(TITLES)
    assert all(0 <= score.accuracy <= 1 for score in result.scores)
    assert {score.random_seed for score in result.scores if score.features == "random"} == {0}
    for classifier in TITLES:
        for column in COLUMNS:
            of_tasks = [result.accuracy(column, classifier, task) for task in NAMES]
            assert result.accuracy(column, classifier) == pytest.approx(np.mean(of_tasks))


def test_random_weights_differ_from_the_given_by_their_weights_alone(result):
    same = probe(features.random_encoder(CONFIG, 0), NAMES, clips_per_class=2)
    for classifier in TITLES:
        for task in NAMES:
            for layout in ("released", "time"):
                weights, random = f"weights, {layout}", f"random, {layout}"
                assert same.accuracy(weights, classifier, task) == same.accuracy(random, classifier, task)
                assert same.accuracy(random, classifier, task) == result.accuracy(random, classifier, task)
            assert same.accuracy("log-mel", classifier, task) == result.accuracy("log-mel", classifier, task)
    assert same.weights_sha256 != result.weights_sha256


def test_several_random_weights_are_averaged_and_kept(encoder):
    found = probe(encoder, ["contour"], clips_per_class=2, random_seeds=(0, 1, 2))
    own = [s.accuracy for s in found.scores if (s.features, s.layout, s.classifier) == ("random", "time", "knn")]
    assert len(own) == 3
    assert found.accuracy("random, time", "knn", "contour") == pytest.approx(np.mean(own))


def test_without_random_seeds_there_are_no_columns_of_random_weights(encoder):
    found = probe(encoder, ["contour"], clips_per_class=2, random_seeds=())
    assert found.columns == ["weights, released", "weights, time", "log-mel"]
    assert "random" not in found.to_report("md")
    assert "nan" not in found.to_report("json").lower()


def test_tasks_do_not_depend_on_each_other(encoder, result):
    alone = probe(encoder, ["order"], clips_per_class=2)
    assert alone.scores == [score for score in result.scores if score.task == "order"]


def test_the_caller_keeps_its_encoder_and_torchs_random_numbers(encoder):
    before, state = fingerprint(encoder), torch.get_rng_state()
    probe(encoder, ["order"], clips_per_class=2)
    assert fingerprint(encoder) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.cls_token.requires_grad


# The report


def test_json_holds_what_is_needed_to_repeat_it(result):
    told = json.loads(result.to_report("json"))
    assert told["weights_sha256"] == result.weights_sha256
    assert (told["seed"], told["clips_per_class"], told["random_seeds"]) == (0, 2, [0])
    assert {"hear-axlstm", "torch", "numpy", "scikit-learn"} <= set(told["versions"])
    assert told["soundfont"] is None
    assert told["tasks"]["order"]["chance"] == pytest.approx(1 / 6)
    assert told["means"]["knn"]["log-mel"] == result.accuracy("log-mel", "knn")
    assert len(told["scores"]) == len(result.scores)


def test_tables_have_a_row_a_task_and_say_what_the_mean_is_over(result):
    markdown = result.to_report("md")
    assert "| task | chance | weights, released | weights, time | random, released | random, time | log-mel |" in markdown
    assert markdown.count("\n| mean of 2 |") == 2
    assert "### Logistic regression" in markdown
    text = result.to_report()
    assert f"{100 * result.accuracy('log-mel', 'knn', 'contour'):.1f}" in text
    assert len({len(line) for line in text.split("neighbours")[1].splitlines() if line}) == 1  # aligned
    with pytest.raises(ConfigError, match="expected one of 'text', 'md', 'json'"):
        result.to_report("csv")


def test_the_standard_error_is_that_of_the_test_clips(result):
    assert result.standard_error() == pytest.approx(math.sqrt(0.25 / 10 + 0.25 / 12) / 2)


def test_progress_goes_to_stderr_with_results_as_they_come(encoder, capsys):
    probe(encoder, ["order"], clips_per_class=2, progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert "order: weights, released " in told.err
    assert "72/72" in told.err  # 24 clips made, and encoded twice


# What cannot be run


def test_tasks_whose_program_is_missing_are_told_and_the_others_done(encoder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = probe(encoder, ["order", "digit", "drum"], clips_per_class=2)
    assert result.tasks == ["order"]
    assert result.not_run == {"digit": "espeak-ng is not installed", "drum": "fluidsynth is not installed"}
    assert "Not run: digit: espeak-ng is not installed" in result.to_report("md")
    assert "mean of 1 " in result.to_report()


def test_without_a_soundfont_music_is_not_run(encoder, monkeypatch):
    monkeypatch.setattr(module, "SOUNDFONT_FOLDERS", [])
    monkeypatch.setattr(module, "find_program", lambda name: name)
    result = probe(encoder, ["drum"], clips_per_class=2)
    assert result.scores == []
    assert "FluidR3_GM.sf2 is not installed" in result.not_run["drum"]
    assert json.loads(result.to_report("json"))["means"] == {"logistic": {}, "knn": {}}
    assert math.isnan(result.accuracy("log-mel", "knn"))
    assert "Not run: drum" in result.to_report()


def test_a_task_that_fails_does_not_stop_the_others(encoder, monkeypatch):
    def broken(choices, label, samples):
        raise AudioError("the program ended with exit code 1")

    monkeypatch.setitem(TASKS, "contour", Task("contour", ("a", "b"), "nothing", 1, broken))
    result = probe(encoder, NAMES, clips_per_class=2)
    assert result.tasks == ["order"]
    assert result.not_run == {"contour": "the program ended with exit code 1"}


def test_weights_that_give_nan_are_told():
    broken = features.random_encoder(CONFIG, 0)
    with torch.no_grad():
        broken.encoder_norm.weight.fill_(torch.inf)
    with pytest.raises(WeightsError, match="gives NaN or infinity"):
        probe(broken, ["order"], clips_per_class=2)


def test_bad_options_are_refused(encoder, tmp_path, monkeypatch):
    (tmp_path / "x.sf2").write_bytes(b"nothing of the kind")
    for options, message in [
        ({"tasks": ["pich"]}, "there are pitch, texture"),
        ({"clips_per_class": 1}, "clips_per_class is 1; expected 2 or more"),
        ({"seed": -1}, "seed is -1; expected 0 or more"),
        ({"soundfont": tmp_path / "x.sf2"}, "is not a SoundFont"),
        ({"soundfont": tmp_path / "absent.sf2"}, "no such file"),
    ]:
        with pytest.raises(ConfigError, match=message):
            probe(encoder, **options)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"hear-axlstm\[probe\]"):
        probe(encoder, NAMES)


def test_the_soundfont_of_the_training_corpus_is_recognised(tmp_path, monkeypatch):
    renamed, other = tmp_path / "renamed.sf2", tmp_path / "other.sf2"
    (tmp_path / "TimGM6mb.sf2").write_bytes(b"RIFF    sfbk of training")
    renamed.write_bytes(b"RIFF    sfbk of training")
    other.write_bytes(b"RIFF    sfbk of others")
    monkeypatch.setattr("hear_axlstm.synthesis.music.SOUNDFONT_FOLDERS", [tmp_path])
    assert [is_held_out(path) for path in (tmp_path / "TimGM6mb.sf2", renamed, other)] == [False, False, True]
    monkeypatch.setattr("hear_axlstm.synthesis.music.SOUNDFONT_FOLDERS", [])
    assert is_held_out(renamed)
