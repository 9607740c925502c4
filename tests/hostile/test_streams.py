"""stdout and stderr that are closed, full, deaf or poor in characters: the work is done, and the exit code is honest."""

import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from hear_axlstm import embed
from hear_axlstm.cli import main
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.progress import printable, progress_bar
from tests.conftest import tone
from tests.hostile.conftest import held

ODD = os.fsdecode(b"m\xe4\n\x1b[2J.wav")


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, tone(440, 0.5), SAMPLE_RATE)
    return folder


def shell(command, *arguments, **environment):
    """A shell's command, in which hear is the command under test."""
    command = command.replace("hear", f"{sys.executable} -m hear_axlstm", 1)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "bash", *map(str, arguments)],
        capture_output=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "--workers 1 >&- 2>&- <&-"])
def test_sounds_are_embedded_whatever_stderr_is(sounds, tmp_path, random_weights, streams):
    done = shell(f'hear embed "$1" -o "$2" --model "$3" {streams}', sounds, tmp_path / "out", random_weights("ssam-tiny"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(held(tmp_path / "out")) == {"a.wav", "b.wav"}


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("hear models >/dev/full", "No space left"),
        ("hear tasks list >&-", "Bad file"),
        ("hear --help >/dev/full", "No space"),
    ],
)
def test_lost_output_is_a_failure_with_its_cause(command, cause):
    done = shell(command)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: stdout cannot be written (" + cause.encode())
    assert b"Traceback" not in done.stderr


def test_whoever_has_read_enough_ends_nothing():
    done = shell("hear tasks list | head -n 1")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, b"", 1)


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}], ids=["C", "ascii"])
def test_names_are_printed_with_escapes_in_one_line(sounds, tmp_path, environment):
    (sounds / ODD).write_bytes(b"RIFF and nothing")
    (sounds / "ä.wav").write_bytes(b"RIFF and nothing")
    done = shell('hear shards "$1" -o "$2"', sounds, tmp_path / "out", **environment)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith(b"failed: ")]
    assert len(lines) == 2
    assert any(line.startswith(rb"failed: m\xe4\n\x1b[2J.wav: ") for line in lines)
    assert b"\x1b" not in done.stderr
    assert b"2 files failed" in done.stderr


def test_steps_to_take_are_printed_line_by_line():
    said = CliRunner().invoke(main, ["download", "ssam-tiny"]).stderr.splitlines()
    assert [line[:5] for line in said[1:4]] == ["  1. ", "  2. ", "  3. "]


def test_text_for_a_terminal_is_one_line_without_surprises():
    assert printable("plain ä 猫.wav") == "plain ä 猫.wav"
    assert printable(ODD) == r"m\xe4\n\x1b[2J.wav"
    assert printable("left\u202eright\t") == r"left\u202eright\t"


@pytest.mark.parametrize("stderr", ["none", "closed", "full", "strict ascii"])
def test_a_bar_is_no_condition_of_the_work(model, monkeypatch, tmp_path, stderr):
    with open("/dev/full" if stderr == "full" else tmp_path / "stderr", "w", encoding="ascii") as stream:
        if stderr == "closed":
            stream.close()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", None if stderr == "none" else stream)
            assert list(progress_bar(range(3), shown=True, desc="猫", mininterval=0)) == [0, 1, 2]
            assert len(embed([np.ones(1_600, np.float32)], model, sample_rate=16_000, progress=True).embeddings) == 1
        with suppress(OSError):
            stream.close()


def test_quiet_says_nothing_but_failures(sounds, tmp_path, random_weights):
    command = ["embed", sounds, "-o", tmp_path / "out", "--model", random_weights("ssam-tiny"), "-q"]
    result = CliRunner().invoke(main, [*map(str, command)])
    assert (result.exit_code, result.output) == (0, "")
    (sounds / "c.wav").write_bytes(b"RIFF and nothing")
    result = CliRunner().invoke(main, [*map(str, command)])
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.output.splitlines()] == ["failed"]


def test_every_command_with_a_bar_can_be_quiet():
    commands = {**main.commands, **{f"tasks {name}": command for name, command in main.commands["tasks"].commands.items()}}
    quiet = {name for name, command in commands.items() if any("--quiet" in option.opts for option in command.params)}
    bars = {"embed", "shards", "synthesize", "pretrain", "evaluate", "probe"}
    assert quiet >= bars | {f"tasks {name}" for name in ("download", "prepare", "check", "generate")}
