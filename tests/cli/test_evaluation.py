"""From nothing to a report, as a user does it, on two small synthesised tasks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm.cli.common import there_already
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS
from hear_axlstm.evaluation.tasks.suite import write_suite
from hear_axlstm.progress import several
from tests.processes import stopped

ORDER = "order-v1-probe"
OPERA, TAGS = "beijing_opera-v1.0-hear2021-full", "fsd50k-v1.0-full"
GRID = {"max_epochs": [12], "hidden_dim": [64]}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """One task with folds and one with tags on clips of mixed lengths; classifiers are small and trained for long enough."""
    folder = tmp_path_factory.mktemp("suite") / "tasks"
    command = [sys.executable, "-m", "hear_axlstm", "tasks", "generate", "-o", folder, "--tasks", "beijing_opera,fsd50k"]
    result = subprocess.run([*command, "--clips-per-label", "2"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(folder / OPERA), str(folder / TAGS)]
    for name in (OPERA, TAGS):
        path = folder / name / "task_metadata.json"
        metadata = json.loads(path.read_text())
        path.write_text(json.dumps({**metadata, "evaluation_params": {"task_specific_param_grid": GRID}}))
    return folder


def scores(results):
    return {path: path.read_bytes() for path in results.rglob("seed-*.json")}


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(suite, tmp_path, run):
    """Killed after the first embedding, and once more after the first score."""
    results, whole = tmp_path / "results", tmp_path / "whole"
    command = ["evaluate", suite, "--seeds", "2", "--workers", "1", "-o"]

    def killed_at(pattern):
        process = stopped(pattern, 1, *command, results, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.kill()
        process.wait()

    killed_at("*.embedding.npy")
    embedded = {path: path.stat().st_mtime_ns for path in results.rglob("*.embedding.npy")}
    killed_at("*/seed-*.json")
    assert all(path.stat().st_mtime_ns == written for path, written in embedded.items())
    done = scores(results)
    assert 1 <= len(done) < 4
    last = subprocess.run([sys.executable, "-m", "hear_axlstm", *command, results], capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert f"{several(4 - len(done), 'score')} computed, {there_already(len(done))}, 0 tasks failed" in last.stderr
    assert all(path.read_bytes() == content for path, content in done.items())
    assert run("evaluate", suite, "--seeds", 2, "--workers", 0, "-o", whole).exit_code == 0
    for path, content in scores(results).items():
        other = json.loads((whole / path.relative_to(results)).read_text())
        found = json.loads(content)
        assert found["settings"] == other["settings"]
        assert found["score"] == pytest.approx(other["score"], abs=0.2)  # a clip or two, as batches and threads may round


def test_every_format_of_the_report_tells_the_scores(suite, tmp_path, run):
    results = tmp_path / "results"
    result = run(
        "evaluate", suite, "--seeds", 1, "--workers", 0, "--tasks", "beijing_opera", "--name", "mine", "-o", results
    )
    assert result.exit_code == 0, result.output
    assert f"{OPERA}" in result.stdout
    assert "over 1 seed  imitated" in result.stdout
    assert "note: These scores are of synthesised imitations of HEAR's tasks." in result.stderr
    for format in ("html", "md", "csv", "json", "latex"):
        report = run("report", results, "--format", format, "-o", tmp_path / "report")
        assert report.exit_code == 0, report.output
        assert "mine" in (tmp_path / "report").read_text()
        assert "AxLSTM-B" in (tmp_path / "report").read_text()
    assert json.loads(run("report", results, "--format", "json").stdout)


def test_a_broken_task_makes_the_exit_code_one_and_is_in_the_report(suite, tmp_path, run):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / OPERA).symlink_to(suite / OPERA)
    (folder / TAGS).mkdir()
    (folder / TAGS / "task_metadata.json").write_text("{}")
    result = run("evaluate", folder, "--seeds", 1, "--workers", 0, "-o", tmp_path / "results")
    assert result.exit_code == 1
    assert f"failed: {TAGS}" in result.stderr
    assert "1 score computed, 0 were there already, 1 task failed" in result.stderr
    assert "is missing" in run("report", tmp_path / "results", "--format", "md").stdout
    assert run("tasks", "check", folder).exit_code == 1
    assert run("tasks", "check", suite).exit_code == 0


MODULE = """
import torch

class Loudness(torch.nn.Module):
    sample_rate = 16_000
    scene_embedding_size = timestamp_embedding_size = 32

def load_model(path="", power=1):
    model = Loudness()
    model.power = power
    return model.eval()

def get_scene_embeddings(audio, model):
    spectrum = torch.fft.rfft(audio).abs()
    return torch.nn.functional.adaptive_avg_pool1d(spectrum, 32).add(1e-3).log() ** model.power
"""


@pytest.mark.kit
def test_another_module_scores_the_same_with_either_engine(suite, tmp_path, monkeypatch, run):
    (tmp_path / "loudness.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    command = [
        "evaluate",
        suite,
        "--module",
        "loudness",
        "--model-options",
        '{"power": 2}',
        "--tasks",
        "beijing",
        "--seeds",
        1,
    ]
    for engine in ("native", "heareval"):
        result = run(*command, "--engine", engine, "-o", "results")
        assert result.exit_code == 0, result.output
    native, kit = (json.loads(path.read_text()) for path in sorted(Path("results").rglob("seed-000.json"), reverse=True))
    assert (native["engine"], kit["engine"]) == ("native", "heareval")
    assert native["settings"] == kit["settings"]
    for split, found in native["splits"].items():
        assert found["test_loss"] == kit["splits"][split]["test_loss"]
        assert found["epoch"] == kit["splits"][split]["epoch"]
        assert found["test_top1_acc"] == pytest.approx(kit["splits"][split]["test_top1_acc"], rel=1e-6)
    assert {"heareval", "pytorch-lightning"} <= kit["versions"].keys()
    report = run("report", "results", "--format", "md").stdout
    assert "loudness (native, imitated tasks)" in report
    assert "loudness (heareval, imitated tasks)" in report


def test_baselines_stand_beside_weights_in_the_report_of_the_linear_engine(tmp_path, run, random_weights):
    tasks, results = tmp_path / "tasks", tmp_path / "results"
    made = run("tasks", "generate", "-o", tasks, "--kind", "probe", "--tasks", "order,digit", "--clips-per-label", 2)
    spoken = shutil.which("espeak-ng") is not None
    assert made.exit_code == (0 if spoken else 1), made.stderr
    assert f"{tasks / ORDER}\n" in made.stdout
    weights = random_weights("axlstm-tiny")
    command = ["evaluate", tasks, "--engine", "linear", "--tasks", "order", "--workers", 0, "-o", results]
    for model in (weights, f"random:{weights}", "log-mel"):
        found = run(*command, "--model", model)
        assert found.exit_code == 0, found.stderr
        assert "1 score computed, 0 were there already, 0 tasks failed" in found.stderr
    again = run(*command, "--model", "log-mel")
    assert "0 scores computed, 1 was there already, 0 tasks failed" in again.stderr
    report = run("report", results, "--format", "md").stdout
    assert "## Protocol linear" in report
    for name in ("axlstm-tiny", "random-axlstm-tiny", "log-mel"):
        assert f"**{name} (linear)**" in report


def test_without_its_programs_the_probe_does_the_other_tasks_and_exits_with_one(tmp_path, run, monkeypatch, random_weights):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("hear_axlstm.evaluation.run.processors", lambda: 0)  # to start none for each model
    out = tmp_path / "out"
    options = ["--tasks", "order,digit", "--clips-per-label", 2, "-o", out]
    result = run("probe", random_weights("axlstm-tiny"), *options)
    assert result.exit_code == 1
    assert "failed: digit-v1-probe: the program espeak-ng is not on the PATH; install it" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [ORDER, "mean", "mean,"]


def test_a_soundfont_that_training_music_is_played_with_is_warned_of(tmp_path, run):
    font = tmp_path / "TimGM6mb.sf2"
    font.write_bytes(b"RIFF    sfbk")
    result = run("tasks", "generate", "-o", tmp_path / "tasks", "--kind", "probe", "--tasks", "order", "--soundfont", font)
    assert result.exit_code == 0, result.stderr
    assert "warning: " in result.stderr
    assert "music tasks are not held out" in result.stderr


CLASSES = {"low": 200, "middle": 700, "high": 2_500}


def test_a_users_own_sounds_become_a_task_with_a_headline_and_classes_of_its_own(tmp_path, run, random_weights):
    rng = np.random.default_rng(0)
    for name, hertz in CLASSES.items():
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(12):
            times = np.arange(int(rng.uniform(0.2, 0.4) * 22_050)) / 22_050
            wave = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * times) + 0.02 * rng.normal(size=len(times))
            soundfile.write(tmp_path / "birds" / name / f"{number}.wav", wave, 22_050)
    soundfile.write(tmp_path / "birds" / "loose.wav", wave, 22_050)
    task, results, page = tmp_path / "tasks" / "birds", tmp_path / "results", tmp_path / "report.html"
    made = run("tasks", "make", tmp_path / "birds", "-o", task)
    assert made.exit_code == 0, made.output
    assert "36 clips of 3 classes: 5 folds, stratified, with seed 0" in made.stderr
    assert f"left out: 1 sound in {tmp_path / 'birds'} itself, such as loose.wav, in no class's folder" in made.stderr
    checked = run("tasks", "check", task)
    assert checked.exit_code == 0
    assert checked.stdout.startswith("birds: good\n  36 clips (")
    assert "3 classes" in checked.stdout
    assert "a task of your own" in checked.stdout
    metadata = json.loads((task / "task_metadata.json").read_text())
    grid = {"task_specific_param_grid": {**GRID, "max_epochs": [60], "lr": [1e-3]}}
    (task / "task_metadata.json").write_text(json.dumps({**metadata, "evaluation_params": grid}))
    for engine in ("linear", "native"):
        options = [
            "--seeds",
            1,
            "--workers",
            0,
            "--engine",
            engine,
            "--name",
            "mine",
            "--model",
            random_weights("axlstm-tiny"),
        ]
        done = run("evaluate", tmp_path / "tasks", *options, "-o", results)
        assert done.exit_code == 0, done.output
        assert "birds" in done.stdout
        assert "imitat" not in done.output
        assert "task 1 of 1: birds" in done.stderr
    assert run("report", results, "-o", page).exit_code == 0
    text = page.read_text()
    assert text.count("birds: accuracy, percent") == 2
    assert text.count('<table class="confusion">') == 2
    assert "AxLSTM-B" not in text
    assert "No s(m)" not in text
    found = json.loads(run("report", results, "--format", "json").stdout)
    for section in found["sections"]:
        assert len(section["columns"]) == 1
        (classes,) = section["classes"]
        assert (classes["clips"], classes["classes"]) == (36, ["high", "low", "middle"])
        matrix = np.array(classes["matrix"])
        assert matrix.sum(1).tolist() == [12, 12, 12]
        (row,) = section["ours"]
        assert 100 * np.trace(matrix) / 36 == pytest.approx(row["cells"]["birds"]["estimate"]["mean"], abs=2)
    assert "| high | 1" in run("report", results, "--format", "md").stdout or (matrix[0] != [12, 0, 0]).any()


def test_48_khz_to_16_khz(suite, tmp_path, run):
    (gunshots,) = [name for name in KNOWN_TASKS if name.startswith("gunshot")]
    write_suite(tmp_path / "raw", [gunshots], sample_rate=48_000)
    prepared = run("tasks", "prepare", tmp_path / "raw", "-o", tmp_path / "tasks")
    assert prepared.exit_code == 0, prepared.output
    assert "1 task prepared, 0 failed" in prepared.stderr
    assert run("tasks", "check", tmp_path / "tasks").exit_code == 0
    (tmp_path / "empty.tar.gz").write_bytes(b"")
    broken = run("tasks", "prepare", tmp_path / "empty.tar.gz", "-o", tmp_path / "tasks")
    assert broken.exit_code == 1
    assert "failed: " in broken.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tasks", "esc50"], "no task is called 'esc50'"),
        (["--model", "nothing.safetensors"], "no such file"),
        (["--model-options", "{}"], "goes with --module"),
        (["--module", "m", "--model-options", "[1]"], "expected an object"),
        (["--module", "m", "--model-options", "{"], "is not JSON"),
        (["--module", "m", "--layout", "time"], "are for our models"),
        (["--module", "m", "--model", "nothing"], "no such file"),
        (["--name", "a/b"], "say --name"),
        (["--model", "log-mel", "--layout", "time"], "neither a layout nor a precision"),
        (["--engine", "linear", "--seeds", "2"], "expected one seed, 0"),
        (["--engine", "linear", "--protocol", "axlstm"], "go together"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
    ],
)
def test_what_cannot_be_carried_out_exits_with_two(suite, tmp_path, run, arguments, complaint):
    result = run("evaluate", suite, "-o", tmp_path / "results", *arguments)
    assert (result.exit_code, complaint in result.stderr) == (2, True), result.output
    assert not (tmp_path / "results").exists()


def test_without_the_kit_its_engine_is_refused_with_the_way_to_get_it(suite, tmp_path, run, monkeypatch):
    monkeypatch.setattr("hear_axlstm.evaluation.kit.launch.version", lambda name: "2020.0")
    result = run("evaluate", suite, "--engine", "heareval", "-o", tmp_path / "results")
    assert (result.exit_code, "heareval==2021.1.3" in result.stderr) == (2, True)


def test_nothing_to_evaluate_or_to_report_is_told(tmp_path, run):
    result = run("evaluate", tmp_path, "-o", tmp_path / "results")
    assert (result.exit_code, "no task there" in result.stderr) == (2, True)
    result = run("report", tmp_path)
    assert (result.exit_code, "no results there" in result.stderr) == (1, True)


def test_the_tasks_are_listed(run):
    lines = run("tasks", "list").stdout.splitlines()
    assert len(lines) == 21
    assert lines[1].split()[:2] == [OPERA, "4"]
    assert sum("papers" in line for line in lines) == 10
