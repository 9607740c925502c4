"""Folders as they are found: links, loops, pipes, what may not be read, what is no sound; and things that are no files."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import embed, errors
from hear_axlstm.audio import read_unless_longer
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.files import plan, sounds
from hear_axlstm.files.find import find_files
from tests.conftest import noise, tone

NAMES = ["a.wav", "b.flac", "below/c.ogg"]
links = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")


def names(*inputs):
    return [sound.name for sound in find_files(inputs)]


# Links and loops


@links
def test_folders_behind_links_are_searched_once(sound_folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    soundfile.write(tmp_path / "elsewhere" / "d.wav", tone(440, 1), SAMPLE_RATE)
    (sound_folder / "0-again").symlink_to("below")  # named first, but what lies here is found by its own name
    (sound_folder / "linked").symlink_to(tmp_path / "elsewhere")
    (sound_folder / "once more").symlink_to(tmp_path / "elsewhere")
    (sound_folder / "below" / "up").symlink_to("..")
    assert names(sound_folder) == [*NAMES, "linked/d.wav"]


@links
def test_links_that_lead_nowhere_are_named(model, sound_folder):
    (sound_folder / "gone.wav").symlink_to("absent.wav")
    (sound_folder / "gone folder").symlink_to(sound_folder / "absent")
    (sound_folder / "loop.wav").symlink_to("loop.wav")
    result = embed([sound_folder, sound_folder / "loop.wav"], model)
    assert result.embedded == NAMES
    assert set(result.failures) == {"gone.wav", "gone folder", "loop.wav"}
    assert "a link to a file that is not there" in result.failures["gone.wav"]
    assert "leads back to itself" in result.failures["loop.wav"]


@links
def test_what_is_no_file_is_named_and_never_opened(model, sound_folder):
    os.mkfifo(sound_folder / "pipe.wav")
    result = embed([sound_folder, sound_folder / "pipe.wav", "/dev/null"], model)
    assert result.embedded == NAMES
    assert "a named pipe; expected a regular file" in result.failures["pipe.wav"]
    assert "a device; expected a regular file" in result.failures["null"]


# What may not be read


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "win32", reason="needs permissions")
def test_what_may_not_be_read_is_named_and_the_others_are_found(sound_folder, tmp_path):
    """In a process of its own, since root may read everything."""
    (sound_folder / "closed").mkdir()
    (sound_folder / "listed").mkdir()
    for path in ("closed/d.wav", "listed/e.wav", "secret.wav"):
        soundfile.write(sound_folder / path, tone(440, 1), SAMPLE_RATE)
    (sound_folder / "secret.wav").chmod(0)
    (sound_folder / "closed").chmod(0)
    (sound_folder / "listed").chmod(0o644)
    result = tmp_path / "result.json"
    result.touch()
    result.chmod(0o666)
    program = (
        "import json, os, sys\n"
        "from hear_axlstm.files import plan\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "found = plan([sys.argv[1], sys.argv[1] + '/secret.wav', sys.argv[1] + '/listed/e.wav'])\n"
        "planned = [sound.name for batch in found.batches for sound in batch]\n"
        "open(sys.argv[2], 'w').write(json.dumps([planned, found.failures]))\n"
    )
    opened = [path for path in (tmp_path, *tmp_path.parents) if path != Path("/") and path.owner() == "root"]
    before = {path: path.stat().st_mode for path in opened}
    try:
        for path in opened:
            path.chmod(before[path] | 0o755)
        subprocess.run([sys.executable, "-c", program, sound_folder, result], check=True)
    finally:
        for path, mode in before.items():
            path.chmod(mode)
        (sound_folder / "closed").chmod(0o755)
        (sound_folder / "listed").chmod(0o755)
    planned, failures = json.loads(result.read_text())
    assert sorted(planned) == NAMES
    assert set(failures) == {"closed", "listed/e.wav", "secret.wav", "e.wav"}
    assert "a folder that cannot be read (Permission denied)" in failures["closed"]
    assert all("permission denied" in failures[name] for name in ("listed/e.wav", "secret.wav", "e.wav"))


# What was left out


def test_what_was_left_out_is_counted_in_python_too(model, sound_folder):
    for name in ("speech.q4a", "below/music.q4a", ".hidden.q4a"):
        (sound_folder / name).write_text("no format that is read")
    expected = [sound_folder / "below" / "music.q4a", sound_folder / "speech.q4a"]
    assert embed([sound_folder], model).left_out == expected
    assert plan([sound_folder]).left_out == expected


@pytest.mark.parametrize("suffix", [".wave", ".bwf", ".mp2", ".mpga", ".iff", ".WAV", ".sph", ".voc"])
def test_every_suffix_of_sound_is_found(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"")
    assert names(tmp_path) == [f"a{suffix}"]


# Many things at once, of any kind


def test_results_align_with_what_was_given(model, sound_folder):
    wave = noise(16_000).numpy()
    result = embed(
        [sound_folder / "a.wav", wave, sound_folder / "a.wav", (wave, 16_000), str(sound_folder)], model, sample_rate=16_000
    )
    assert result.embedded == ["a.wav", "1", "a.wav", "3", *NAMES]
    for one, other in ((0, 2), (0, 4), (1, 3)):
        np.testing.assert_allclose(result.embeddings[one], result.embeddings[other], atol=1e-5)


@pytest.mark.parametrize(
    "of",
    [
        lambda folder: folder.glob("*.*"),
        lambda folder: (str(path) for path in sorted(folder.glob("*.*"))),
        lambda folder: map(os.fsencode, sorted(folder.glob("*.*"))),
        lambda folder: iter([folder / "a.wav", folder / "b.flac"]),
        lambda folder: {"one": folder / "a.wav", "two": folder / "b.flac"}.values(),
        lambda folder: {folder / "a.wav", folder / "b.flac"},
    ],
    ids=["glob", "generator", "map-of-bytes", "iter", "values", "set"],
)
def test_any_iterable_of_sounds_is_taken(model, sound_folder, of):
    result = embed(of(sound_folder), model)
    assert sorted(result.embedded) == ["a.wav", "b.flac"]
    assert len(result.embeddings) == 2


NO_SOUNDS = {
    "empty path": ("", "an empty path"),
    "empty bytes": (b"", "an empty path"),
    "absent file": (Path("absent.wav"), "no such file"),
    "NUL in a path": ("nul\0.wav", "cannot be found"),
    "long name": ("x" * 300, "too long"),
    "long path": ("x/" * 3_000, "too long"),
    "None": (None, "is None; expected a sound"),
    "number": (5.0, "a single number"),
    "no samples": (np.zeros(0), "0 samples"),
    "no samples, two channels": (np.zeros((0, 2)), "shape"),
    "three dimensions": (np.zeros((2, 3, 4)), "shape"),
    "ragged": ([[1.0], [1.0, 2.0]], "list"),
    "NaN": (np.zeros(9_000) * np.nan, "NaN"),
    "words": (np.array(["a", "b"]), "no numbers"),
    "other dictionary": ({"text": "hello"}, "dict"),
    "object": (object(), "object"),
    "rate 0": ((noise(9_000).numpy(), 0), "Hz"),
    "rate below 0": ((noise(9_000).numpy(), -5), "Hz"),
    "meta": (torch.zeros(9_000, device="meta"), "meta"),
    "broken bytes": (b"RIFF\0\0\0\0WAVE", "cannot be decoded"),
    "broken open file": (io.BytesIO(b"no sound"), "cannot be decoded"),
}


@pytest.mark.parametrize("kind", NO_SOUNDS)
def test_one_thing_that_is_no_sound_leaves_the_others_alone(model, kind):
    item, message = NO_SOUNDS[kind]
    result = embed([tone(440, 0.7), item, tone(330, 0.7)], model, sample_rate=16_000)
    assert result.embedded == ["0", "2"]
    assert len(result.failures) == 1
    (reason,) = result.failures.values()
    assert message in reason


@pytest.mark.parametrize("error", [MemoryError, OverflowError, UnicodeError, ZeroDivisionError, RecursionError])
@pytest.mark.parametrize("step", ["audio_seconds", "read_unless_longer"])
def test_whatever_loading_a_sound_raises_is_its_own_failure(model, sound_folder, monkeypatch, error, step):
    real = {"audio_seconds": sounds.FileSound.measured, "read_unless_longer": read_unless_longer}[step]

    def fails(sound, *rest):
        if Path(getattr(sound, "path", sound)).name == "a.wav":
            raise error("of this very file")
        return real(sound, *rest)

    target = "sounds.FileSound.measured" if step == "audio_seconds" else "decode.read_unless_longer"
    monkeypatch.setattr(f"hear_axlstm.files.{target}", fails)
    result = embed([sound_folder], model)
    assert result.embedded == NAMES[1:]
    assert set(result.failures) == {"a.wav"}
    assert "out of memory" in result.failures["a.wav"] or error.__name__ in result.failures["a.wav"]


def test_a_file_far_longer_than_its_header_says_is_a_batch_by_itself(model, sound_folder, monkeypatch):
    monkeypatch.setattr(sounds.FileSound, "measured", lambda sound: replace(sound, seconds=0.2))
    sizes = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model), "forward", lambda self, audio, *rest: [sizes.append(audio.shape), forward(self, audio, *rest)][1]
    )
    result = embed([sound_folder], model)
    assert result.embedded == NAMES
    assert sorted(map(tuple, sizes)) == [(1, 33_600), (2, 20_800)]


# The model


def test_a_clip_that_the_model_fails_on_is_its_own_failure(model, monkeypatch):
    forward = type(model).forward

    def fails(self, audio, *rest):
        if (audio == 0.25).any():
            raise RuntimeError("a shape that nobody thought of")
        return forward(self, audio, *rest)

    monkeypatch.setattr(type(model), "forward", fails)
    waves = [noise(9_000 + 99 * index, seed=index).numpy() for index in range(7)]
    waves[3][0] = 0.25
    result = embed(waves, model, sample_rate=16_000)
    assert result.embedded == ["0", "1", "2", "4", "5", "6"]
    assert "a shape that nobody thought of" in result.failures["3"]


@pytest.mark.parametrize("error", ["ConfigError", "BackendError", "CUDA"])
def test_what_would_meet_every_clip_ends_the_run(model, monkeypatch, error):
    raised = getattr(errors, error)("no such thing") if error != "CUDA" else RuntimeError("CUDA error: device-side assert")
    monkeypatch.setattr(type(model), "forward", lambda *_: (_ for _ in ()).throw(raised))
    with pytest.raises(type(raised), match=str(raised)):
        embed([tone(440, 0.7), tone(330, 0.7)], model, sample_rate=16_000)
