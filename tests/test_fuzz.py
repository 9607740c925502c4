"""The fuzz command: its files are the same for a seed, and it finds faults of every kind that are planted for it."""

import hashlib
import subprocess
import sys
from contextlib import closing
from time import monotonic

import numpy as np
import pytest
from click.testing import CliRunner

import fuzz.__main__ as program
from fuzz import checkpoints, sounds, subjects, weights
from fuzz.case import Case
from fuzz.children import Child
from hear_axlstm.audio import audio_seconds, read_audio
from hear_axlstm.errors import AudioError
from tests.conftest import ROOT

GOOD = "WAV-PCM_16-16000-1.wav"
MIB = 1 << 20
PLANTED = '''
"""An examiner that does what the file says, as code."""
import hashlib, os, signal, time
import numpy as np
from fuzz.case import Verdict

def examine(path, **facts):
    exec(path.read_text())
    content = hashlib.sha256(np.empty(100_000, np.float32)).hexdigest() if b"empty" in path.read_bytes() else "content"
    return Verdict("ok", content=content)
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A function that makes a process with the planted examiner."""
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(ROOT)

    def child(seconds=20, memory=100 * MIB, poison=1):
        return Child("planted:examine", tmp_path, seconds, memory, poison)

    return child


@pytest.fixture
def good(tmp_path):
    (tmp_path / GOOD).write_bytes(sounds.seeds()[GOOD])
    return tmp_path / GOOD


# The files


def test_a_number_is_the_same_file_in_every_process():
    program = """
import hashlib
from fuzz import sounds
print(hashlib.sha256(b"".join(sounds.case(3, index).data for index in range(300))).hexdigest())
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    here = {index: sounds.case(3, index) for index in range(300)}
    assert found.stdout.strip() == hashlib.sha256(b"".join(case.data for case in here.values())).hexdigest()
    assert sounds.case(4, 0).data != here[0].data
    assert len({case.data for case in here.values()}) > 250


def test_weights_of_a_number_are_the_same_when_made_anew():
    before = [weights.case(0, index) for index in range(60)]
    weights.seeds.cache_clear()
    checkpoints.seeds.cache_clear()
    checkpoints.content_of.cache_clear()
    assert [weights.case(0, index) for index in range(60)] == before


def test_seeds_hold_no_time_of_writing():
    files = sounds.seeds()
    peak = files["WAV-FLOAT-16000-1.wav"].index(b"PEAK")
    assert files["WAV-FLOAT-16000-1.wav"][peak + 12 : peak + 16] == bytes(4)
    assert {name.split("-")[0] for name in files} >= set("WAV AIFF FLAC OGG MP3 CAF AU W64 XI SDS".split())


def test_the_checksums_of_a_changed_ogg_file_can_be_made_to_hold(tmp_path):
    data = sounds.seeds()["OGG-VORBIS-16000-1.ogg"]
    assert sounds.sealed_ogg(data) == data
    changed = data.replace(b"libsndfile", b"LIBSNDFILE")  # in a comment
    (tmp_path / "broken.ogg").write_bytes(changed)
    (tmp_path / "sealed.ogg").write_bytes(sounds.sealed_ogg(changed))
    assert subjects.read_sound(tmp_path / "broken.ogg").kind == "refused"
    assert subjects.read_sound(tmp_path / "sealed.ogg").kind == "ok"


# What ends a process


@pytest.mark.parametrize(
    ("does", "kind", "detail"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "SIGSEGV"),
        ("os._exit(3)", "crash", "exit status 3"),
        ("time.sleep(60)", "hang", "more than 1 s"),
        ("held = [bytearray(MIB) for _ in range(10**4)]".replace("MIB", str(MIB)), "memory", "MiB"),
        ("held = bytearray(b'x') * (120 << 20)", "memory", "MiB"),
        ("raise LookupError('odd')", "unnamed", "LookupError: odd"),
        ("pass", "ok", ""),
    ],
    ids=["crash", "exit", "hang", "rising memory", "memory", "error", "nothing"],
)
def test_the_end_of_a_process_is_its_files_verdict_and_the_next_file_is_examined(planted, tmp_path, does, kind, detail):
    (tmp_path / "bad").write_text(does)
    (tmp_path / "good").write_text("pass")
    with closing(planted(seconds=1 if kind == "hang" else 20)) as child:
        verdict = child.examine(tmp_path / "bad", {})
        assert verdict.kind == kind
        assert detail in verdict.detail
        assert child.examine(tmp_path / "good", {}).kind == "ok"


def test_what_nobody_wrote_is_seen_by_two_processes(planted, tmp_path):
    children = {"sound": [planted(poison=poison) for poison in program.POISONS]}
    with closing(program.Lane(tmp_path / "lane", children)) as lane:
        assert lane.examine(Case("sound", "x", ".wav", "", b"empty = 1")).detail.startswith("is read differently")
        assert lane.examine(Case("sound", "x", ".wav", "", b"pass")).kind == "ok"


# What comes out of a file


def raises(error):
    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "kind", "detail"),
    [
        (read_audio, "ok", "5000 samples"),
        (lambda path: read_audio(path)[:-10], "wrong", "4990 samples, libsndfile delivers 5000"),
        (lambda path: np.append(read_audio(path), np.zeros(10, np.float32)), "wrong", "5010 samples"),
        (lambda path: read_audio(path) * np.float32(0.9), "wrong", "differs by"),
        (lambda path: read_audio(path) * np.float32("nan"), "wrong", "holds NaN"),
        (lambda path: np.zeros(10**6, np.float32), "wrong", "1000000 frames out of"),
        (raises(ValueError("bad")), "unnamed", "ValueError: bad"),
        (raises(AudioError("bad")), "unnamed", "does not name the file"),
        (raises(AudioError(f"{GOOD}: {'x' * 10_000}")), "unnamed", "a message of"),
        (raises(AudioError(f"{GOOD}: set weights_only=False")), "unnamed", "advises to unpickle"),
        (raises(MemoryError()), "memory", "MemoryError"),
        (raises(AudioError(f"{GOOD}: is damaged")), "refused", "is damaged"),
    ],
    ids="good short long other NaN blown-up unnamed nameless flood advice memory refused".split(),
)
def test_what_is_read_of_a_sound_is_judged(good, read, kind, detail):
    verdict = subjects.read_sound(good, read=read)
    assert verdict.kind == kind
    assert detail in verdict.detail


def test_a_duration_that_cannot_be_is_wrong(good):
    assert subjects.read_sound(good, seconds=lambda path: -1.0).kind == "wrong"
    assert subjects.read_sound(good, seconds=raises(KeyError("x"))).kind == "unnamed"
    assert subjects.read_sound(good, seconds=audio_seconds).kind == "ok"


def test_a_sound_is_embedded_beside_good_ones(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subjects.mates.cache_clear()
    assert subjects.sound(good, beside=True).kind == "ok"
    (tmp_path / "cut.flac").write_bytes(b"fLaC")
    assert subjects.sound(tmp_path / "cut.flac", beside=True).kind == "refused"
    _, _, alone = subjects.mates()
    alone["good-a.wav"][0] += 1e-3
    verdict = subjects.sound(good, beside=True)
    assert (verdict.kind, "good-a.wav has another embedding" in verdict.detail) == ("wrong", True)
    monkeypatch.setattr(subjects.hear_axlstm, "embed", lambda sounds, model: {}["x"])
    assert "ends the run: KeyError" in subjects.sound(good, beside=True).detail
    subjects.mates.cache_clear()


def test_weights_are_known_by_all_that_they_hold(tmp_path):
    files = {}
    for name, data in weights.seeds().items():
        (tmp_path / name).write_bytes(data)
        files[name] = subjects.weights(tmp_path / name)
    assert {verdict.kind for verdict in files.values()} == {"ok"}
    assert len({verdict.content for verdict in files.values()}) == len(weights.CONFIGS)
    (tmp_path / "cut.safetensors").write_bytes(data[:-1])
    assert subjects.weights(tmp_path / "cut.safetensors").kind == "refused"


def test_checkpoints_are_converted_and_loaded(tmp_path):
    (tmp_path / "a.pth").write_bytes(checkpoints.seeds()["axlstm_e3_noflip.pth"])
    options = checkpoints.conversion("axlstm_e3_noflip.pth")
    assert subjects.checkpoint(tmp_path / "a.pth", options).kind == "ok"
    (tmp_path / "b.pth").write_bytes(b"PK")
    assert subjects.checkpoint(tmp_path / "b.pth", {}).kind == "refused"
    assert [path.name for path in tmp_path.glob("*")] in (["a.pth", "b.pth"], ["b.pth", "a.pth"])


# The command


def test_the_summary_counts_and_what_was_found_is_kept(planted, tmp_path, monkeypatch):
    """A good file and damaged ones, examined by what they say."""
    says = {"sound": "pass", "weights": "os._exit(1)", "checkpoint": "raise KeyError"}

    lane = program.Lane
    monkeypatch.setattr(program, "Lane", lambda folder: lane(folder, {subject: [planted()] for subject in says}))
    monkeypatch.setattr(program, "good_cases", lambda *kinds: [Case("sound", "good-a", ".wav", "a.wav", b"pass")])
    damaged = [Case(subject, f"{subject}-0-1", ".x", "a.wav cut", text.encode()) for subject, text in says.items()]
    damaged += [Case("sound", "sound-0-2", ".wav", "a.wav", b"pass", origin="a.wav")]
    damaged += [Case("sound", "sound-0-3", ".wav", "a.wav", b"pass", origin="b.wav")]
    monkeypatch.setattr(program, "damaged_cases", lambda *how: iter(damaged))
    found = CliRunner().invoke(program.main, ["--keep", str(tmp_path / "found"), "--jobs", "1"])
    assert found.exit_code == 1
    counts = "3 read, 0 refused, 1 crashes, 0 hangs, 0 over memory, 1 unnamed errors, 1 silent wrongs, 0 good files refused"
    assert found.stdout.strip().endswith(counts)
    kept = (tmp_path / "found" / "found.txt").read_text().splitlines()
    assert [line.split("\t")[:2] for line in kept] == [
        ["weights-0-1.x", "crash"],
        ["checkpoint-0-1.x", "unnamed"],
        ["sound-0-3.wav", "wrong"],
    ]
    assert (tmp_path / "found" / "weights-0-1.x").read_text() == "os._exit(1)"


def test_sounds_and_weights_come_in_proportion_and_not_after_the_time():
    cases = list(program.damaged_cases(0, 30, 10, monotonic() + 600))
    assert [case.subject == "sound" for case in cases].count(True) == 30
    assert len({case.name for case in cases}) == 40
    assert not list(program.damaged_cases(0, 30, 10, monotonic() - 1))


def test_one_file_can_be_made_and_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(program.main, ["one", "sound-0-1"])
    assert found.exit_code == 0, found.output
    assert "Verdict(" in found.output
    (path,) = tmp_path.glob("sound-0-1.*")
    assert path.read_bytes() == sounds.case(0, 1).data
