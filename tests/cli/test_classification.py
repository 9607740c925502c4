"""``classify`` and ``classify apply`` as a user runs them: outputs, messages, exit codes."""

import numpy as np
import pytest
import soundfile

from tests.conftest import tone

RATE = 16_000


@pytest.fixture
def sounds(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        for kind, samples in {"tone": tone(300 + 90 * number, 0.5), "noise": rng.uniform(-0.3, 0.3, RATE // 2)}.items():
            path = tmp_path / "sounds" / kind / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, RATE)
    return tmp_path / "sounds"


def test_from_a_folder_to_labels(run, sounds, tmp_path):
    out = tmp_path / "out"
    result = run("classify", sounds, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "6 sounds of 2 classes, 3 folds" in result.stdout
    assert "accuracy 100.0% (95 % interval: 61.0% to 100.0%); by chance: 50.0%" in result.stdout
    assert f"report: {out / 'report.html'}" in result.stderr
    apply = next(line for line in result.stderr.splitlines() if line.startswith("label other sounds: "))
    assert apply == f"label other sounds: hear-axlstm classify apply {out} NEW-SOUNDS/"
    found = run("classify", "apply", out, sounds / "tone", sounds / "noise" / "0.wav", "-q")
    assert (found.exit_code, found.stderr) == (0, "")
    lines = [line.rsplit(",", 1)[0] for line in found.stdout.splitlines()]
    assert lines == ["path,label", *(f"{sounds}/tone/{i}.wav,tone" for i in range(3)), f"{sounds}/noise/0.wav,noise"]
    written = run("classify", "apply", out, sounds / "tone", "-o", tmp_path / "labels.csv", "--all")
    assert (written.exit_code, written.stdout) == (0, "")
    assert (tmp_path / "labels.csv").read_text().startswith("path,label,probability,noise,tone\n")


def test_what_fails_is_named_once_and_the_others_are_done(run, sounds, tmp_path):
    (sounds / "tone" / "broken.wav").write_bytes(b"RIFF nothing")
    (sounds / "tone" / "notes.txt").write_text("")
    result = run("classify", sounds, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "failed: tone/broken.wav: " in result.stderr
    assert "1 other file left out (1 .txt)" in result.stderr
    found = run("classify", "apply", tmp_path / "out", sounds / "tone", "-q")
    assert found.exit_code == 1
    assert found.stderr.count("broken.wav") == 1
    assert len(found.stdout.splitlines()) == 4


def test_nothing_is_printed_on_request_but_what_fails(run, sounds, tmp_path):
    result = run("classify", sounds, "-o", tmp_path / "out", "-q")
    assert (result.exit_code, result.output) == (0, "")
    (sounds / "tone" / "broken.wav").write_bytes(b"RIFF nothing")
    result = run("classify", sounds, "-o", tmp_path / "out", "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("failed: tone/broken.wav: ")


def test_the_interval_says_of_how_many_groups_it_is(run, sounds, tmp_path):
    table = tmp_path / "labels.csv"
    lines = [f"sounds/{kind}/{number}.wav,{kind},{number}" for kind in ("noise", "tone") for number in range(3)]
    table.write_text("\n".join(["path,label,group", *lines]))
    result = run("classify", table, "-o", tmp_path / "out")
    assert "accuracy 100.0% (95 % interval of 3 groups: 43.9% to 100.0%); by chance: 50.0%" in result.stdout


def test_sounds_in_no_class_are_left_out_and_named(run, sounds, tmp_path):
    (sounds / "noise" / "2.wav").rename(sounds / "loose.wav")
    result = run("classify", sounds, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert f"left out: 1 sound in {sounds} itself, such as loose.wav, in no class's folder" in result.stderr
    assert "other file" not in result.stderr


def test_short_sounds_are_padded_as_the_advice_says(run, sounds, tmp_path):
    short, out = sounds / "tone" / "short.wav", tmp_path / "out"
    soundfile.write(short, tone(500, 0.005), RATE)
    result = run("classify", sounds, "-o", out)
    assert result.exit_code == 1
    assert "padded with zeros: repeat the command with --pad --overwrite" in result.stderr
    failed = run("classify", "apply", out, short)
    assert failed.exit_code == 1
    assert "repeat the command with --pad\n" in failed.stderr
    assert run("classify", "apply", out, short, "--pad").exit_code == 0
    result = run("classify", sounds, "-o", out, "--pad", "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert "7 sounds of 2 classes" in result.stdout
    assert "--pad</code>" in (out / "report.html").read_text()
    assert run("classify", "apply", out, short).exit_code == 0


def test_what_cannot_be_carried_out_exits_with_two(run, sounds, tmp_path):
    out = tmp_path / "out"
    for arguments, message in [
        (["classify"], "Missing argument 'SOUNDS'"),
        (["classify", sounds], "Missing option"),
        (["classify", "apply"], "Missing argument 'FOLDER'"),
        (["classify", tmp_path / "nowhere", "-o", out], "there is no such folder or file"),
        (["classify", sounds / "tone", "-o", out], "3 sounds, such as 0.wav, lie in"),
        (["classify", sounds, "-o", sounds / "out"], "is in the folder of sounds"),
        (["classify", sounds, "-o", out, "--folds", "1"], "--folds"),
        (["classify", "apply", tmp_path / "nowhere", sounds], "expected a file that `hear-axlstm classify`"),
        (["classify", "apply", out, tmp_path / "empty"], "no audio files below"),
    ]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


def test_both_commands_have_their_help(run):
    text = " ".join(run("classify", "--help").output.split())
    assert "SOUNDS is a folder" in text
    assert "the column group" in text
    assert "path,label,probability" in run("classify", "apply", "-h").output
