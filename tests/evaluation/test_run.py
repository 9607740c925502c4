"""Whole evaluations: what is kept, what is not done again, what fails alone."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from hear_axlstm.config import SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.evaluation import run
from hear_axlstm.evaluation.probe.baselines import load_baseline
from hear_axlstm.evaluation.protocols import LINEAR, PROTOCOLS, Protocol
from hear_axlstm.evaluation.report.summary import summarise
from hear_axlstm.evaluation.results import ModelRecord, read_results, score_path
from hear_axlstm.evaluation.run import evaluate
from hear_axlstm.evaluation.subject import Subject, module_subject, our_subject
from tests.evaluation.folders import write_embeddings

PROTOCOL = Protocol("small", {**PROTOCOLS["axlstm"].grid, "hidden_dim": (16,), "max_epochs": (6,)}, 8, "a test")
FOLDS = {f"fold{index:02}": 12 for index in range(3)}
PARTS = {"train": 24, "valid": 12, "test": 12}


@pytest.fixture
def subject():
    """A model that has nothing left to embed."""
    record = ModelRecord(name="m", module="hear_axlstm", weights_sha256="00", parameters=1, options={})
    return Subject(record, None, Embedder(Encoder(SSASTConfig(width=16, depth=1, heads=2))))


@pytest.fixture
def tasks(tmp_path):
    """Two tasks, embedded already."""
    write_embeddings(tmp_path / "tasks" / "folds", sizes=FOLDS)
    write_embeddings(tmp_path / "tasks" / "parts", sizes=PARTS, prediction_type="multilabel", metrics=["mAP", "d_prime"])
    shutil.copytree(tmp_path / "tasks", tmp_path / "results" / "m" / "embeddings" / "native")
    return [tmp_path / "tasks" / name for name in ("folds", "parts")]


def test_every_seed_of_every_task_gets_a_score_and_none_is_computed_twice(tasks, subject, tmp_path):
    results = tmp_path / "results"
    done = evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=range(2), workers=2)
    assert (done.computed, len(done.scores), done.failures) == (4, 4, {})
    found = read_results([results])
    assert {(score.task, score.seed) for score in found.scores} == {
        (name, seed) for name in ("folds", "parts") for seed in (0, 1)
    }
    for score in found.scores:
        assert score.metric == {"folds": "top1_acc", "parts": "mAP"}[score.task]
        assert len(score.splits) == {"folds": 3, "parts": 1}[score.task]
        assert score.score == pytest.approx(sum(split["test_score"] for split in score.splits.values()) / len(score.splits))
        assert score.protocol_sha256 == PROTOCOL.sha256
        assert score.differences == [f"{score.task} is no HEAR task"]
        assert {"hear-axlstm", "torch", "numpy", "python"} == score.versions.keys()
    written = {path: path.read_bytes() for path in results.rglob("seed-*.json")}
    again = evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=range(3), workers=0)
    assert (again.computed, len(again.scores)) == (2, 6)
    assert all(path.read_bytes() == content for path, content in written.items())
    assert len(list(results.rglob("seed-*.json"))) == 6


def test_scores_do_not_depend_on_what_was_computed_beside_them(tasks, subject, tmp_path):
    both = evaluate(tasks, subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0, 5], workers=0)
    shutil.rmtree(tmp_path / "results" / "m" / "scores")
    alone = evaluate(tasks[:1], subject, tmp_path / "results", protocol=PROTOCOL, seeds=[5], workers=0)
    (expected,) = (score for score in both.scores if (score.task, score.seed) == ("folds", 5))
    assert alone.scores[0].splits == expected.splits


def test_a_broken_task_is_told_and_the_others_are_done(tasks, subject, tmp_path):
    results = tmp_path / "results"
    vocabulary = tasks[0] / "labelvocabulary.csv"
    good = vocabulary.read_text()
    vocabulary.write_text("idx,label\n0,a\n0,b\n")
    done = evaluate([*tasks, tmp_path / "nowhere"], subject, results, protocol=PROTOCOL, seeds=[0], workers=0)
    assert [score.task for score in done.scores] == ["parts"]
    assert "0, 1, ... each once" in done.failures["folds"]
    assert "no such folder" in done.failures["nowhere"]
    assert {failure.task for failure in read_results([results]).failures} == {"folds", "nowhere"}
    vocabulary.write_text(good)
    done = evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=[0], workers=0)
    assert (done.computed, done.failures) == (1, {})
    assert {failure.task for failure in read_results([results]).failures} == {"nowhere"}


def test_a_damaged_score_and_a_surprise_fail_their_own_task_alone(tasks, subject, tmp_path, monkeypatch):
    results = tmp_path / "results"
    evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=[0], workers=0)
    damaged = score_path(results / "m", PROTOCOL.name, "native", "folds", 0)
    damaged.write_text("{")
    done = evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=[0], workers=0)
    assert "seed-000.json is damaged" in done.failures["folds"]
    assert [score.task for score in done.scores] == ["parts"]
    damaged.unlink()

    def surprise(embeddings, *rest):
        if embeddings.name == "folds":
            raise ZeroDivisionError("division by zero")
        return original(embeddings, *rest)

    original = run.evaluate_sequentially
    monkeypatch.setattr(run, "evaluate_sequentially", surprise)
    done = evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=[0, 1], workers=0)
    assert done.failures == {"folds": "ZeroDivisionError: division by zero"}
    assert {(score.task, score.seed) for score in done.scores} == {("parts", 0), ("parts", 1)}


def test_an_event_task_is_refused_by_the_native_engine_with_the_way_out(tasks, subject, tmp_path):
    path = tasks[0] / "task_metadata.json"
    events = {"embedding_type": "event", "evaluation": ["event_onset_200ms_fms"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **events}))
    done = evaluate(tasks, subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0], workers=0)
    assert "--engine heareval" in done.failures["folds"]
    assert done.computed == 1


def test_scores_of_another_protocol_or_another_version_of_the_task_are_computed_anew(tasks, subject, tmp_path):
    results = tmp_path / "results"
    evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=[0], workers=0)
    changed = replace(PROTOCOL, grid={**PROTOCOL.grid, "lr": (1e-3,)})
    assert evaluate(tasks, subject, results, protocol=changed, seeds=[0], workers=0).computed == 2
    other = replace(PROTOCOL, name="other")
    assert evaluate(tasks, subject, results, protocol=other, seeds=[0], workers=0).computed == 2
    assert {score.protocol for score in read_results([results]).scores} == {"small", "other"}
    score = score_path(results / "m", "other", "native", "folds", 0)
    content = json.loads(score.read_text())
    score.write_text(json.dumps({**content, "task_sha256": "of another version"}))
    assert evaluate(tasks, subject, results, protocol=other, seeds=[0], workers=0).computed == 1


def test_scores_of_nobody_are_not_mixed_with_ours(tasks, subject, tmp_path):
    evaluate(tasks[:1], subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0], workers=0)
    (tmp_path / "results" / "m" / "model.json").unlink()
    with pytest.raises(OutputError, match=r"holds seed-000\.json, but no model\.json"):
        evaluate(tasks[:1], subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0], workers=0)


def test_another_model_of_the_same_name_is_refused(tasks, subject, tmp_path):
    evaluate(tasks[:1], subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0], workers=0)
    other = Subject(replace(subject.record, weights_sha256="11"), None, subject.model)
    with pytest.raises(OutputError, match=r"the weights were others \(--model\); name the model otherwise \(--name\)"):
        evaluate(tasks, other, tmp_path / "results", protocol=PROTOCOL, seeds=[0], workers=0)
    with pytest.raises(ConfigError, match="no seeds"):
        evaluate(tasks, subject, tmp_path / "results", protocol=PROTOCOL, seeds=[])


def test_on_a_device_all_seeds_of_a_task_go_at_once(tasks, subject, tmp_path, monkeypatch):
    """The road of a GPU, on the CPU's "meta"-free stand-in: the batched evaluator is given all that is missing."""
    asked = []

    def batched(embeddings, protocol, seeds, device):
        asked.append((embeddings.name, list(seeds), device))
        return evaluate_batched(embeddings, protocol, seeds, torch.device("cpu"))

    evaluate_batched = run.evaluate_batched
    monkeypatch.setattr(run, "evaluate_batched", batched)
    device = torch.device("cuda")
    done = evaluate(tasks, subject, tmp_path / "results", protocol=PROTOCOL, seeds=range(3), device=device)
    assert asked == [("folds", [0, 1, 2], device), ("parts", [0, 1, 2], device)]
    assert done.computed == 6
    assert {score.device for score in done.scores} == {"cuda"}


def test_the_linear_engine_has_a_protocol_of_its_own_and_one_seed(tasks, subject, tmp_path):
    """On the embeddings that the native engine takes, beside whose scores its own stand apart."""
    results = tmp_path / "results"
    evaluate(tasks, subject, results, protocol=PROTOCOL, seeds=[0], workers=0)
    done = evaluate(tasks, subject, results, protocol=LINEAR, seeds=[0], engine="linear", device=torch.device("cuda"))
    assert done.failures.keys() == {"parts"}
    assert "parts is a multilabel scene task" in done.failures["parts"]
    (score,) = done.scores
    assert (score.protocol, score.protocol_sha256, score.engine, score.seed) == ("linear", LINEAR.sha256, "linear", 0)
    assert (score.metric, score.device) == ("top1_acc", "cpu")
    assert {"scikit-learn", "python"} <= score.versions.keys()
    assert score.splits.keys() == {"fold00", "fold01", "fold02"}
    again = evaluate(tasks[:1], subject, results, protocol=LINEAR, seeds=[0], engine="linear", workers=0)
    assert (again.computed, again.scores) == (0, [score])
    sections = {section.protocol: section for section in summarise(read_results([results])).sections}
    assert [row.engine for row in sections["linear"].ours] == ["linear"]
    assert [row.engine for row in sections["small"].ours] == ["native"]
    for options, complaint in (
        ({"protocol": PROTOCOL}, "protocol is small, engine linear; the protocol linear"),
        ({"protocol": LINEAR, "engine": "native"}, "protocol is linear, engine native; the protocol linear"),
        ({"protocol": LINEAR, "seeds": [0, 1]}, "expected one seed, 0"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            evaluate(tasks, subject, results, **{"seeds": [0], "engine": "linear", **options})


def test_a_baseline_is_refused_by_the_kit_which_would_load_other_weights(tasks, tmp_path):
    subject = our_subject(None, load_baseline("log-mel"), "log-mel")
    with pytest.raises(ConfigError, match="log-mel has no weights file, which hear-eval-kit would load"):
        evaluate(tasks, subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0], engine="heareval")
    assert not (tmp_path / "results" / "log-mel").exists()


def test_a_subject_is_known_by_its_weights_and_options(golden, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"anything")
    model = golden("ssast").model()
    record = our_subject(weights, model, "axlstm-x").record
    assert record.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert record.options == {"layout": model.layout, "precision": "float32"}
    assert record.weights_sha256 == our_subject(weights, model, "y").record.weights_sha256
    with pytest.raises(ConfigError, match="say --name"):
        module_subject("a.module", None, {}, "../escape")


def test_a_score_keeps_what_it_is_made_of_class_by_class(tasks, subject, tmp_path):
    done = evaluate(tasks, subject, tmp_path / "results", protocol=PROTOCOL, seeds=[0], workers=0)
    folds, parts = (next(score for score in done.scores if score.task == task) for task in ("folds", "parts"))
    for split, confusion in folds.confusions.items():
        right = sum(guesses.get(true, 0) for true, guesses in confusion.items())
        clips = sum(sum(guesses.values()) for guesses in confusion.values())
        assert (clips, right / clips) == (12, pytest.approx(folds.splits[split]["test_top1_acc"]))
    (of_class,) = parts.precisions.values()
    mean = sum(facts["average_precision"] for facts in of_class.values()) / len(of_class)
    assert mean == pytest.approx(parts.splits["test"]["test_mAP"])
    assert (folds.precisions, parts.confusions) == ({}, {})
    (kept,) = (score for score in read_results([tmp_path / "results"]).scores if score.task == "folds")
    assert kept.confusions == folds.confusions
