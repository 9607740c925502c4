"""A task of a user's own sounds: its layout, its splits, and what is refused."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.tasks.check import check_task
from hear_axlstm.evaluation.tasks.own import draw_folds, make_task


def write_sounds(folder, counts, seconds=0.1, rate=22_050):
    """Folders of tones, one for each class."""
    for index, (name, count) in enumerate(counts.items()):
        for number in range(count):
            path = folder / name / f"{number:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            times = np.arange(round(seconds * rate)) / rate
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * (1 + index) * times + number), rate)
    return folder


def write_table(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def sounds(tmp_path):
    return write_sounds(tmp_path / "sounds", {"low": 6, "middle": 6, "high": 5})


def labels_of(made):
    return {split: Counter(labels[0] for labels in made.task.clips(split).values()) for split in made.task.splits}


def test_a_folder_of_folders_becomes_a_task_of_stratified_folds(sounds, tmp_path):
    made = make_task(sounds, tmp_path / "tasks" / "tones")
    assert check_task(made.task.path).problems == []
    assert made.task.labels == ("high", "low", "middle")
    assert made.task.splits == ("fold00", "fold01", "fold02", "fold03", "fold04")
    assert made.drawn == "5 folds, stratified, with seed 0"
    assert made.task.sample_duration == pytest.approx(0.1)
    for labels in labels_of(made).values():
        assert labels["high"] == 1
        assert set(labels.values()) <= {1, 2}
    assert not (tmp_path / "tasks" / ".unfinished").exists()
    again = make_task(sounds, tmp_path / "again")
    assert [again.task.clips(split) for split in again.task.splits] == [made.task.clips(split) for split in made.task.splits]
    other = make_task(sounds, tmp_path / "other", seed=1)
    assert [other.task.clips(split) for split in other.task.splits] != [made.task.clips(split) for split in made.task.splits]


def test_a_table_says_which_fold_or_split_a_sound_is_for(sounds, tmp_path):
    paths = sorted(path.relative_to(tmp_path) for path in sounds.rglob("*.wav"))
    rows = [(path, path.parts[1]) for path in paths]
    folds = write_table(tmp_path / "f.csv", ("path", "label", "fold"), [(*row, i % 3 + 1) for i, row in enumerate(rows)])
    made = make_task(folds, tmp_path / "folds")
    assert made.task.splits == ("fold00", "fold01", "fold02")
    assert next(iter(made.task.clips("fold01"))) == "sounds-high-01.wav"
    splits = [(*row, "test" if i % 3 == 0 else "train") for i, row in enumerate(rows)]
    made = make_task(write_table(tmp_path / "s.csv", ("path", "label", "split"), splits), tmp_path / "splits")
    assert made.task.split_mode == "trainvaltest"
    assert {split: labels.total() for split, labels in labels_of(made).items()} == {"train": 8, "valid": 3, "test": 6}
    assert made.drawn == "train and test as the table says, valid a 5th of train, stratified, with seed 0"
    assert check_task(made.task.path).problems == []


def test_a_group_is_in_one_fold():
    labels = ["a", "b"] * 15
    groups = [f"speaker {index // 3}" for index in range(30)]
    folds = draw_folds(labels, groups, 5, 0)
    assert all(len({fold for fold, group in zip(folds, groups, strict=True) if group == one}) == 1 for one in groups)
    assert set(Counter(folds).values()) == {6}


def test_a_sound_that_cannot_be_read_is_told_and_left_out(sounds, tmp_path):
    (sounds / "low" / "broken.wav").write_bytes(b"RIFF")
    made = make_task(sounds, tmp_path / "task")
    assert list(made.failures) == ["low/broken.wav"]
    assert sum(labels.total() for labels in labels_of(made).values()) == 17
    assert check_task(made.task.path).is_good


def test_a_sound_too_short_to_embed_is_told_and_left_out(sounds, tmp_path):
    write_sounds(tmp_path / "short", {"low": 1}, seconds=0.0075)
    (tmp_path / "short" / "low" / "00.wav").rename(sounds / "low" / "short.wav")
    made = make_task(sounds, tmp_path / "tones")
    assert made.failures == {"low/short.wav": "lasts 7.5 ms, too short to embed; expected 12.6 ms or more"}
    assert sum(labels_of(made)[split]["low"] for split in made.task.splits) == 6


def test_a_task_among_its_own_sounds_is_refused(sounds):
    with pytest.raises(ConfigError, match="is in the folder of sounds"):
        make_task(sounds, sounds / "task")


def test_a_line_without_its_file_is_named(sounds, tmp_path):
    paths = sorted(path.relative_to(tmp_path) for path in sounds.rglob("*.wav"))
    rows = [(path, path.parts[1]) for path in paths]
    made = make_task(write_table(tmp_path / "t.csv", ("path", "label"), [("none.wav", "low"), *rows]), tmp_path / "task")
    assert made.failures == {"none.wav": f"{tmp_path / 't.csv'}, line 2: none.wav: no such file"}


def test_at_another_rate_the_clips_are_in_its_folder(sounds, tmp_path):
    made = make_task(sounds, tmp_path / "task", sample_rate=32_000)
    assert {soundfile.info(path).samplerate for path in made.task.audio("fold00", 32_000).iterdir()} == {32_000}
    assert check_task(made.task.path, 32_000).is_good


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([("sounds/low/00.wav", "", "train")], "line 2 has no label"),
        ([("sounds/low/00.wav", "low", "tests")], "line 2: the split is 'tests'; expected train, valid or test"),
        ([("sounds/low/00.wav", "low", "train"), ("sounds/high/00.wav", "high", "train")], "no sound is for test"),
    ],
    ids=["no label", "no such split", "nothing to test on"],
)
def test_a_bad_table_is_refused_with_its_line(sounds, tmp_path, rows, complaint):
    table = write_table(tmp_path / "t.csv", ("path", "label", "split"), rows)
    with pytest.raises(ConfigError, match=complaint):
        make_task(table, tmp_path / "task")
    assert not (tmp_path / "task").exists()


def test_too_few_sounds_and_a_folder_that_is_there_are_refused(tmp_path):
    few = write_sounds(tmp_path / "few", {"a": 2, "b": 5})
    with pytest.raises(ConfigError, match="a has 2 sounds; expected 3 of each class"):
        make_task(few, tmp_path / "task")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        make_task(few, tmp_path / "there")


def test_what_was_drawn_is_noted(sounds, tmp_path):
    made = make_task(sounds, tmp_path / "task", seed=3)
    assert json.loads((made.task.path / "task_metadata.json").read_text())["drawn"] == "5 folds, stratified, with seed 3"
