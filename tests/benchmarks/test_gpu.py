"""`make gpu`: parts that fail, hang or crash cost nothing of the others, a rehearsal is no measurement."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import page as pages
from benchmarks.gpu.__main__ import chosen
from benchmarks.gpu.parts import MACHINE, PARTS, Part
from benchmarks.gpu.report import BANNER, page
from benchmarks.gpu.runner import TREE, Run
from tests.processes import children, wait_until

CHECKS = """
import os, sys, time, types
from benchmarks.gpu.checks import Checks, require
checks = Checks()
{}
checks.end()
"""
FINE = "checks.run('{}', lambda: {{'number': 1.5}})"


def part(name, *lines, limit=30.0, **options):
    return Part(name, "?", ("-c", CHECKS.format("\n".join(lines))), limit, needs=options.pop("needs", ()), **options)


def ran(folder, *parts, seconds=60.0, jobs=2):
    """The entries of parts by name, as gpu.json has them in the end."""
    run = Run(folder, rehearsal=False, until=time.monotonic() + seconds)
    run.kept = True
    assert run.run(parts, jobs) == all(entry["state"] == "passed" for entry in run.record["parts"])
    assert json.loads((folder / "gpu.json").read_text()) == json.loads(json.dumps(run.record))
    assert (folder / "gpu.md").read_text() == page(run.record)
    return {entry["name"]: entry for entry in run.record["parts"]}


def states(entry):
    return {name: check["state"] for name, check in entry["checks"].items()}


def test_a_part_that_fails_costs_nothing_of_the_others(tmp_path):
    found = ran(
        tmp_path,
        part("broken", "raise SystemError('no such thing')"),
        part("wrong", "checks.run('one', lambda: require(False, 'it is wrong'))", FINE.format("two")),
        part("fine", FINE.format("one"), alone=True),
    )
    assert [entry["state"] for entry in found.values()] == ["failed", "failed", "passed"]
    assert found["broken"]["why"] == "the process ended with status 1: SystemError: no such thing"
    assert states(found["wrong"]) == {"one": "failed", "two": "passed"}
    assert found["wrong"]["checks"]["one"]["error"] == "AssertionError: it is wrong"
    assert found["fine"]["checks"]["one"]["values"] == {"number": 1.5}
    assert "SystemError" in (tmp_path / "gpu.log").read_text()


CRASHES = {
    "abort": ("os.abort()", "the process was ended by SIGABRT"),
    "exit": ("os._exit(7)", "the process ended with status 7: one: passed"),
    "hang": ("time.sleep(60)", "it ran longer than a check may"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_check_that_ends_the_process_or_hangs_costs_nothing_of_its_part(tmp_path, name):
    action, why = CRASHES[name]
    lines = FINE.format("one"), f"checks.run('two', lambda: {action}, seconds=0.3)", FINE.format("three")
    entry = ran(tmp_path, part("part", *lines))["part"]
    assert states(entry) == {"one": "passed", "two": "failed", "three": "passed"}
    assert entry["checks"]["two"]["error"] == why
    assert entry["state"] == "failed"


def test_a_device_that_answers_no_more_costs_one_check(tmp_path):
    lost = "torch = sys.modules['torch'] = types.SimpleNamespace(cuda=types.SimpleNamespace())"
    using = "torch.cuda.is_initialized, torch.cuda.synchronize = lambda: True, lambda: require(broken, '') or None"
    lines = (
        f"{lost}; broken = [1]; {using}",
        "checks.run('one', lambda: broken.clear() or require(False, 'an illegal memory access'))",
        FINE.format("two"),
    )
    entry = ran(tmp_path, part("part", *lines))["part"]
    assert states(entry) == {"one": "failed", "two": "passed"}
    assert entry["checks"]["one"]["error"] == "AssertionError: an illegal memory access"


def test_a_part_ends_with_its_time_and_keeps_what_it_did(tmp_path):
    within = part("within", FINE.format("one"), "checks.run('two', lambda: time.sleep(60))", limit=3)
    found = ran(tmp_path, within, part("beyond", FINE.format("one"), "time.sleep(60)", limit=3))
    assert states(found["within"]) == {"one": "passed", "two": "failed"}
    assert states(found["beyond"]) == {"one": "passed"}
    for entry in found.values():
        assert (entry["state"], entry["why"]) == ("failed", "its time was over")


def test_what_lacks_a_package_or_time_is_named(tmp_path):
    found = ran(tmp_path, part("needy", needs=("torch", "no_such_package")), part("late", FINE.format("one")), seconds=5.0)
    assert (found["needy"]["state"], found["needy"]["why"]) == ("left out", "not installed: no_such_package")
    assert (found["late"]["state"], found["late"]["why"]) == ("not run", "no time was left")


def test_parts_that_measure_run_alone(tmp_path):
    mark = f"open({str(tmp_path / 'marks')!r}, 'a').write(sys.argv[0] + '{{}}\\n')"
    lines = mark.format("begin"), "time.sleep(0.2)", mark.format("end")
    ran(tmp_path, part("a", *lines), part("b", *lines, alone=True), part("c", *lines, alone=True))
    marks = (tmp_path / "marks").read_text().split()
    assert [mark.removeprefix("-c") for mark in marks] == ["begin", "end"] * 3


RUNNER = """
import sys, time
from pathlib import Path
from benchmarks.gpu.__main__ import stop
from benchmarks.gpu.parts import Part
from benchmarks.gpu.runner import Run
import signal
signal.signal(signal.SIGTERM, stop)
run = Run(Path(sys.argv[1]), rehearsal=False, until=time.monotonic() + 60)
run.kept = True
run.run([Part("part", "?", ("-c", sys.argv[2]), 60.0, needs=())], 1)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_what_was_done_is_on_disk_when_the_run_is_ended(tmp_path, how):
    code = CHECKS.format(FINE.format("one") + "\nchecks.run('two', lambda: time.sleep(20))")
    process = subprocess.Popen([sys.executable, "-c", RUNNER, tmp_path, code], cwd=TREE, stderr=subprocess.DEVNULL)
    file = tmp_path / "gpu.json"
    wait_until(lambda: file.exists() and '"two"' in file.read_text(), process)
    (of_part,) = children(process.pid)
    process.send_signal(how)
    process.wait()
    if how == signal.SIGKILL:
        os.kill(of_part, signal.SIGKILL)
    entry = json.loads(file.read_text())["parts"][0]
    assert entry["checks"]["one"]["state"] == "passed"
    assert entry["state"] == ("stopped" if how == signal.SIGTERM else "running")


def test_without_a_device_nothing_is_pretended(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "no CUDA device: AssertionError: torch" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_says_so_in_every_heading():
    check = {"state": "passed", "values": {"chunks/s": 1.0}, "seconds": 0.1}
    entry = {"question": "?", "state": "failed", "seconds": 1, "checks": {"one": check}}
    entries = [{"name": "machine", **entry}, {"name": "encoders", **entry, "tail": ["something"]}]
    record = {"rehearsal": True, "machine": {"torch": "2"}, "seconds": 1.0, "parts": entries}
    text = page(record)
    assert BANNER in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 5
    assert all("REHEARSAL" in line for line in headings if "another run" not in line)
    assert "REHEARSAL" not in page({**record, "rehearsal": False})


def test_every_part_has_a_module_and_every_question_a_part():
    for each in (MACHINE, *PARTS):
        assert importlib.util.find_spec(each.command[1]), each.name
    assert len({each.name for each in PARTS}) == len(PARTS)
    questions = (TREE / "benchmarks" / "GPU.md").read_text()
    assert [each.name for each in PARTS if f"`{each.name}`" not in questions] == []
    assert chosen(None) == PARTS
    assert chosen("tiles") == PARTS[-1:]
    with pytest.raises(SystemExit, match="expected some of kernel mlstm"):
        chosen("tiles,stones")


def test_results_of_a_gpu_are_on_the_page_of_results(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    before = pages.page()
    record = {"rehearsal": False, "machine": {"device": "a card"}, "seconds": 9.0, "parts": []}
    (tmp_path / "gpu.json").write_text(json.dumps(record))
    assert pages.page().startswith(before.rstrip())
    assert "### Machine" in pages.page()


WITHOUT_SOUND_FILES = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("soundfile", "soxr") else find(name, *rest)
from benchmarks.gpu.missing import STANDING_IN
assert STANDING_IN == ["soundfile", "soxr"]
import benchmarks.encoders, hear_axlstm.pretraining.loop
"""


def test_where_nothing_reads_sound_files_what_trains_and_measures_can_be_imported():
    done = subprocess.run([sys.executable, "-c", WITHOUT_SOUND_FILES], cwd=TREE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_training_goes_on_with_a_run_and_leaves_its_weights(tmp_path, monkeypatch):
    import torch

    from benchmarks.gpu import train
    from hear_axlstm.config import AxLSTMConfig
    from hear_axlstm.encoder import Encoder
    from hear_axlstm.weights.load import load_weights
    from hear_axlstm.weights.save import save_weights

    before = Encoder(AxLSTMConfig(width=16, depth=1, patch=(100, 40)))
    save_weights(before, tmp_path / "small.safetensors", {"source": "random"}, layout="time")
    monkeypatch.setattr(train, "pace", lambda recipe, cpu: 0.5)
    command = ["train", "--cpu", "--batch", "2", "--seconds", "2", "--run", tmp_path / "run", "--out", tmp_path / "out"]
    for arguments in ([*command, "--init", tmp_path / "small.safetensors"], command):
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        assert train.main() == 0
    encoder, header = load_weights(tmp_path / "out" / "axlstm-tiny-synth.safetensors")
    assert header["provenance"]["init"]["name"] == str(tmp_path / "small.safetensors")
    assert header["provenance"]["steps"] == 6
    assert header["layout"] == "time"
    assert not torch.equal(encoder.patch_embed.weight, before.patch_embed.weight)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "axlstm-tiny-synth.safetensors", "curve.csv", "recipe.json",
    ]  # fmt: skip
