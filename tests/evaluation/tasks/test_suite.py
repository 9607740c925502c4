"""Small synthesised tasks in HEAR's format: whole, the same for the same seed, and with labels that can be heard."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm.errors import AudioError, ConfigError, OutputError, TaskError
from hear_axlstm.evaluation.probe.tasks import TASKS
from hear_axlstm.evaluation.tasks import suite as module
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS
from hear_axlstm.evaluation.tasks.check import check_task
from hear_axlstm.evaluation.tasks.imitations import IMITATIONS
from hear_axlstm.evaluation.tasks.prepare import write_wav
from hear_axlstm.evaluation.tasks.suite import write_suite
from hear_axlstm.evaluation.tasks.taskfolder import find_tasks, read_task

TONIC, TAGS, OFFICE, PIANO = (
    "mridangam_tonic-v1.5-full",
    "fsd50k-v1.0-full",
    "dcase2016_task2-hear2021-full",
    "maestro-v3.0.0-5h",
)


@pytest.fixture(scope="session")
def suite(tmp_path_factory):
    """The default one: task -> its folder."""
    return {path.name: read_task(path) for path in write_suite(tmp_path_factory.mktemp("suite")).tasks}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_the_papers_ten_tasks_and_nothing_is_wrong_with_them(suite):
    assert list(suite) == [task.folder for task in PAPER_TASKS.values()]
    checks = [check_task(task.path) for task in suite.values()]
    assert [check.problems + check.remarks for check in checks] == [[]] * 10
    assert sum(sum(check.clips.values()) for check in checks) <= 600
    assert all(check.differences for check in checks), "nobody takes them for HEAR's"
    assert find_tasks(next(iter(suite.values())).path.parent) == [task.path for task in suite.values()]


def test_the_other_tasks_can_be_made_too(tmp_path):
    others = [name for name in KNOWN_TASKS if name not in {task.folder for task in PAPER_TASKS.values()}]
    for path in write_suite(tmp_path, others, clips_per_label=1).tasks:
        check = check_task(path)
        assert check.problems + check.remarks == []
        assert check.differences


def test_tasks_are_of_the_real_ones_kind(suite):
    assert {task.split_mode for task in suite.values()} == {"trainvaltest", "new_split_kfold", "presplit_kfold"}
    for name, task in suite.items():
        known = KNOWN_TASKS[name]
        assert task.splits == known.split_names
        assert task.metrics == known.metrics
        assert task.prediction_type == known.prediction_type
        assert task.sample_duration == (known.seconds and min(known.seconds, 1.0))
        assert task.metadata["synthetic"] is True
        assert "-".join(task.metadata[key] for key in ("task_name", "version", "mode")) == name


def test_every_label_has_two_clips_in_each_split(suite):
    for task in suite.values():
        for split in task.splits:
            counts = Counter(str(label) for labels in task.clips(split).values() for label in labels)
            assert min(counts[label] for label in task.labels) >= 2, f"{task.name} {split}"


def test_vocabularies_are_sorted():
    for imitation in IMITATIONS.values():
        assert list(imitation.labels) == sorted(imitation.labels)


def test_tags_are_of_mixed_lengths_and_numbers(suite):
    clips = suite[TAGS].clips("train")
    assert {len(labels) for labels in clips.values()} == {0, 1, 2, 3}
    assert all(len(set(labels)) == len(labels) for labels in clips.values())
    seconds = [soundfile.info(suite[TAGS].audio("train", 16_000) / name).duration for name in clips]
    assert 0.3 <= min(seconds) < 1 < 2 < max(seconds) <= 3


def test_the_same_seed_gives_the_same_bytes(suite, tmp_path):
    again = write_suite(tmp_path / "again", [TAGS], workers=1).tasks[0]
    assert contents(again) == contents(suite[TAGS].path)
    other = contents(write_suite(tmp_path / "other", [TAGS], seed=1).tasks[0])
    same = set(other.values()) & set(contents(again).values())
    assert same == {other[Path("labelvocabulary.csv")]}


def test_it_can_be_made_as_hear_publishes_it(suite, tmp_path):
    published = read_task(write_suite(tmp_path, [TAGS], sample_rate=48_000).tasks[0])
    for split in published.splits:
        assert published.clips(split) == suite[TAGS].clips(split)
        for name in published.clips(split):
            there, here = (
                soundfile.info(task.audio(split, rate) / name) for task, rate in ((published, 48_000), (suite[TAGS], 16_000))
            )
            assert (there.samplerate, there.frames) == (48_000, 3 * here.frames)
    assert "but at 48000 Hz" in check_task(published.path).problems[0]


def test_what_was_interrupted_is_continued(suite, tmp_path, monkeypatch):
    written = []

    def interrupted(target, *arguments):
        if len(written) == 25:
            raise KeyboardInterrupt
        written.append(target)
        write_wav(target, *arguments)

    monkeypatch.setattr(module, "write_wav", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_suite(tmp_path, [TONIC], workers=1)
    with pytest.raises(TaskError, match="no task there"):
        find_tasks(tmp_path)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(made) == 25
    monkeypatch.undo()
    path = write_suite(tmp_path, [TONIC]).tasks[0]
    assert contents(path) == contents(suite[TONIC].path)
    now = {path.name: path.stat().st_mtime_ns for path in path.rglob("*.wav")}
    assert made.items() <= now.items()
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_is_left_alone_and_other_settings_are_refused(tmp_path):
    path = write_suite(tmp_path, [TONIC], clips_per_label=1).tasks[0]
    before = {path: path.stat().st_mtime_ns for path in path.rglob("*")}
    assert write_suite(tmp_path, [TONIC], clips_per_label=1).tasks == [path]
    with pytest.raises(OutputError, match=r"'seed': 0, .* but now wanted with .*'seed': 1"):
        write_suite(tmp_path, [TONIC], clips_per_label=1, seed=1)
    assert {path: path.stat().st_mtime_ns for path in path.rglob("*")} == before


def test_a_real_task_is_not_touched(tmp_path):
    (tmp_path / TONIC).mkdir()
    (tmp_path / TONIC / "task_metadata.json").write_text(json.dumps({"task_name": "mridangam_tonic"}))
    with pytest.raises(OutputError, match="was not made by a suite"):
        write_suite(tmp_path, [TONIC])


@pytest.mark.parametrize(
    ("names", "options", "told"),
    [
        (["esc-50"], {}, r"no task is called 'esc-50'; there are .*esc50-v2\.0\.0-full"),
        (None, {"clips_per_label": 0}, "clips_per_label is 0"),
        (None, {"seed": -1}, "seed -1"),
        (None, {"sample_rate": 8_000}, "sample_rate is 8000; expected one of 16000, 48000"),
        (None, {"kind": "hearing"}, "kind is 'hearing'; expected one of 'hear', 'probe'"),
        (None, {"soundfont": Path("any.sf2")}, "only the probe's tasks play one"),
        (["pitch"], {"kind": "probe"}, "no task is called 'pitch'; there are pitch-v1-probe"),
        (None, {"kind": "probe", "clips_per_label": 1}, "clips_per_label is 1, seed 0; expected 2 or more"),
        (None, {"kind": "probe", "soundfont": Path("absent.sf2")}, r"absent\.sf2: no such file"),
        (None, {"kind": "probe", "soundfont": Path(__file__)}, "is not a SoundFont"),
    ],
)
def test_bad_options_are_refused(tmp_path, names, options, told):
    with pytest.raises(ConfigError, match=told):
        write_suite(tmp_path, names, **options)
    assert not list(tmp_path.iterdir())


def spectrum(path):
    """Mean and spread over time of the log power in 40 bands."""
    wave, _ = soundfile.read(path)
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames)) ** 2
    bands = np.log(np.add.reduceat(power, np.unique(np.geomspace(1, 200, 40).astype(int)), axis=1) + 1e-9)
    return np.concatenate([bands.mean(0) - bands.mean(), bands.std(0)])


def test_labels_can_be_heard(suite):
    """The nearest clip of the other splits has the same label, far more often than by chance."""
    for task in suite.values():
        if task.prediction_type == "multilabel":
            continue
        clips = [(split, name, labels[0]) for split in task.splits for name, labels in task.clips(split).items()]
        features = np.stack([spectrum(task.audio(split, 16_000) / name) for split, name, _ in clips])
        features = (features - features.mean(0)) / features.std(0)
        splits, labels = (np.array([clip[index] for clip in clips]) for index in (0, 2))
        distances = ((features[:, None] - features) ** 2).sum(-1)
        distances[splits[:, None] == splits] = np.inf
        right = np.mean(labels[distances.argmin(1)] == labels)
        assert right > max(0.3, 2 / len(task.labels)), task.name


@pytest.mark.parametrize("name", [OFFICE, PIANO])
def test_events_sound_when_they_are_said_to(tmp_path, name):
    task = read_task(write_suite(tmp_path, [name]).tasks[0])
    split = task.splits[0]
    for clip, events in task.clips(split).items():
        wave, _ = soundfile.read(task.audio(split, 16_000) / clip)
        loud = np.sqrt(np.convolve(wave**2, np.ones(160) / 160, mode="same"))
        during = np.zeros(len(wave), bool)
        for event in events:
            start, end = (round(16 * event[key]) for key in ("start", "end"))
            during[start:end] = True
            assert loud[start + 160] > 2 * loud[start - 160], "it begins where it is said to"
            assert loud[end - 800] > 1.5 * loud[end + 160], "and ends there"
        assert loud[during].mean() > 4 * loud[~during].mean()


def test_sounds_are_neither_silent_nor_clipped(suite):
    for task in suite.values():
        for name in task.clips(task.splits[0]):
            wave, _ = soundfile.read(task.audio(task.splits[0], 16_000) / name)
            assert -36 < 20 * np.log10(wave.std()) < -14
            assert np.mean(np.abs(wave) > 0.999) < 0.001


# The probe's tasks


ORDER, CONTOUR, DIGIT, DRUM = (f"{name}-v1-probe" for name in ("order", "contour", "digit", "drum"))


@pytest.mark.parametrize(("clips_per_label", "valid"), [(2, 1), (8, 2)])
def test_a_probe_task_learns_from_train_and_valid_and_is_tested_on_what_is_held_out(tmp_path, clips_per_label, valid):
    (path,) = write_suite(tmp_path, [ORDER], kind="probe", clips_per_label=clips_per_label, seed=3).tasks
    check, task, source = check_task(path), read_task(path), TASKS["order"]
    assert check.problems + check.remarks == []
    assert (check.is_own, check.differences) == (True, [])
    assert task.labels == source.classes
    assert (task.metrics, task.split_mode, task.metadata["held_out"]) == (("top1_acc",), "trainvaltest", "waveforms")
    clips = {split: list(task.clips(split).items()) for split in task.splits}
    for split, expected in (("train", clips_per_label - valid), ("valid", valid), ("test", clips_per_label)):
        counts = Counter(labels[0] for _, labels in clips[split])
        assert counts == dict.fromkeys(source.classes, expected)
    for split, part, first in (("train", "train", 0), ("valid", "train", len(clips["train"])), ("test", "test", 0)):
        for index, (name, (label,)) in enumerate(clips[split], start=first):
            if index % 5 == 0:
                wave, _ = soundfile.read(task.audio(split, 16_000) / name)
                np.testing.assert_allclose(wave, source.clip(3, part, index), atol=2e-5)
                assert label == source.classes[index % len(source.classes)]


def test_a_probe_task_whose_program_is_missing_is_told_with_the_next_step_and_the_others_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    suite = write_suite(tmp_path, [DIGIT, ORDER, DRUM], kind="probe", clips_per_label=2)
    assert suite.tasks == [tmp_path / ORDER]
    assert suite.failures.keys() == {DIGIT, DRUM}
    assert "espeak-ng is not on the PATH; install it (Debian: apt install espeak-ng" in suite.failures[DIGIT]
    assert "fluidsynth is not on the PATH; install it" in suite.failures[DRUM]
    assert [path.name for path in tmp_path.iterdir()] == [ORDER]


def test_without_the_soundfont_music_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr("hear_axlstm.evaluation.probe.tasks.SOUNDFONT_FOLDERS", [])
    monkeypatch.setattr(module, "program_version", lambda name: f"{name} 1.0")
    assert "apt install fluid-soundfont-gm" in write_suite(tmp_path, [DRUM], kind="probe").failures[DRUM]


def test_a_probe_task_that_fails_does_not_stop_the_others_and_is_continued(tmp_path, monkeypatch):
    contour = TASKS["contour"]

    def broken(choices, label, samples):
        if label == 4:
            raise AudioError("the program ended with exit code 1")
        return contour.make(choices, label, samples)

    monkeypatch.setitem(TASKS, "contour", replace(contour, make=broken))
    suite = write_suite(tmp_path, [CONTOUR, ORDER], kind="probe", clips_per_label=2, workers=1)
    assert (suite.tasks, suite.failures) == ([tmp_path / ORDER], {CONTOUR: "the program ended with exit code 1"})
    begun = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".unfinished").rglob("*.wav")}
    assert begun
    monkeypatch.undo()
    suite = write_suite(tmp_path, [CONTOUR, ORDER], kind="probe", clips_per_label=2)
    assert suite.failures == {}
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / CONTOUR).rglob("*.wav")}
    assert begun.items() <= now.items()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_what_a_probe_task_was_spoken_with_is_part_of_its_identity(tmp_path, monkeypatch):
    (path,) = write_suite(tmp_path, [DIGIT], kind="probe", clips_per_label=2).tasks
    assert read_task(path).metadata["synthesis"]["program"].startswith("espeak-ng 1.")
    monkeypatch.setattr(module, "program_version", lambda name: f"{name} 9.9")
    with pytest.raises(OutputError, match=r"but now wanted with .*espeak-ng 9\.9"):
        write_suite(tmp_path, [DIGIT], kind="probe", clips_per_label=2)
