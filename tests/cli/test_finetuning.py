"""The finetune command: what it says, and its exit codes."""

import csv
import json
from pathlib import Path

import pytest

from hear_axlstm.cli.common import FAILED, REFUSED
from tests.finetuning.conftest import write_short, write_sounds, write_weights


@pytest.fixture
def arguments(tmp_path):
    sounds = write_sounds(tmp_path / "sounds", clips=2)
    return [
        "finetune",
        sounds,
        "-o",
        tmp_path / "run",
        "--model",
        write_weights(tmp_path / "small.safetensors"),
        "--frozen",
        "--device",
        "cpu",
    ]


def test_it_says_how_good_the_result_is_and_what_to_do_next(run, tmp_path, arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    accuracy = f"accuracy {scores['validation']['accuracy']:.1%}"
    assert f"{accuracy} on the 3 clips that were set apart (95 % interval: " in result.stdout
    assert "; frozen encoder; by chance: " in result.stdout
    assert "head alone" not in result.stdout
    assert "set apart chose the head's penalty, so other sounds score lower" in result.stderr
    assert scores["validation"]["note"].startswith("these clips chose the head's penalty: ")
    assert f"hear-axlstm classify apply {tmp_path / 'run'} NEW-SOUNDS/" in result.stderr


def test_what_it_wrote_labels_other_sounds(run, tmp_path, arguments):
    run(*arguments)
    result = run("classify", "apply", tmp_path / "run", tmp_path / "sounds", "--device", "cpu")
    assert result.exit_code == 0, result.output
    lines = list(csv.DictReader(result.stdout.splitlines()))
    assert len(lines) == 6
    assert sum(Path(line["path"]).parent.name == line["label"] for line in lines) >= 4


def test_a_finished_run_says_so(run, arguments):
    run(*arguments)
    result = run(*arguments)
    assert result.exit_code == 0
    assert "finished: nothing was left to do" in result.stderr


def test_each_epoch_is_a_line_where_there_is_no_terminal(run, tmp_path, arguments):
    options = ["--from-layer", 2, "--epochs", 2, "--batch", 2]
    result = run(*(argument for argument in arguments if argument != "--frozen"), *options)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith(("the head alone", "epoch"))]
    assert [line.partition(":")[0] for line in lines] == ["the head alone", "epoch 1 of 2", "epoch 2 of 2"]
    assert all(word in lines[1] for word in ("loss", "accuracy", "clips/s", "left at most"))
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    best, alone = scores["best_epoch"], scores["head_alone"]["accuracy"]
    assert f"; epoch {best} of 2; head alone: {alone:.1%}; by chance: " in result.stdout
    assert "set apart chose the epoch and the head's penalty, so other sounds" in result.stderr


def test_a_test_is_scored_instead_of_advised(run, tmp_path, arguments):
    result = run(*arguments, "--test", write_sounds(tmp_path / "test", clips=1, seed=3))
    assert result.exit_code == 0, result.output
    assert "on 3 test clips" in result.stdout
    assert "--test" not in result.stderr


def test_quiet_prints_nothing_but_failures(run, tmp_path, arguments):
    (tmp_path / "sounds" / "low" / "broken.wav").write_bytes(b"no sound")
    result = run(*arguments, "-q")
    assert result.exit_code == FAILED
    assert result.stdout == ""
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["failed"]


def test_other_settings_are_a_failure_that_names_them(run, arguments):
    run(*arguments)
    result = run(*arguments, "--seed", 5)
    assert result.exit_code == REFUSED
    assert "--seed was 0 and is 5 now" in result.stderr
    assert "--overwrite" in result.stderr


def test_a_sound_that_cannot_be_read_is_named_and_the_others_do(run, tmp_path, arguments):
    (tmp_path / "sounds" / "low" / "broken.wav").write_bytes(b"no sound")
    result = run(*arguments)
    assert result.exit_code == FAILED
    assert "failed: low/broken.wav" in result.stderr
    assert (tmp_path / "run" / "classifier.safetensors").is_file()


def test_sounds_in_no_class_are_left_out_and_named(run, tmp_path, arguments):
    test = write_sounds(tmp_path / "test", clips=1, seed=3)
    for folder, name in ((tmp_path / "sounds", "loose.wav"), (test, "other.wav")):
        (folder / name).write_bytes((test / "low" / "0.wav").read_bytes())
    result = run(*arguments, "--test", test)
    assert result.exit_code == 0, result.stderr
    for folder, name in ((tmp_path / "sounds", "loose.wav"), (test, "other.wav")):
        assert f"left out: 1 sound in {folder} itself, such as {name}, in no class's folder" in result.stderr
    assert "left out" not in run(*arguments, "-q").stderr


def test_short_sounds_are_padded_as_the_advice_says(run, tmp_path, arguments):
    short = write_short(tmp_path / "sounds" / "low" / "short.wav")
    result = run(*arguments)
    assert result.exit_code == FAILED
    assert "failed: low/short.wav: " in result.stderr
    assert "padded with zeros: repeat the command with --pad --overwrite" in result.stderr
    assert run(*arguments, "--pad").exit_code == REFUSED
    result = run(*arguments, "--pad", "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert run("classify", "apply", tmp_path / "run", short, "--device", "cpu").exit_code == 0


def test_a_class_of_one_clip_is_refused_by_name(run, tmp_path, arguments):
    (tmp_path / "sounds" / "mid" / "0.wav").unlink()
    result = run(*arguments)
    assert result.exit_code == REFUSED
    assert "the class 'mid' cannot be divided" in result.stderr
