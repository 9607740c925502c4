"""Task folders, good and damaged."""

import json
import shutil

import pytest

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.tasks import taskfolder
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS
from hear_axlstm.evaluation.tasks.taskfolder import DataSplit, find_tasks, read_task
from hear_axlstm.storage import read_json
from tests.evaluation.folders import write_embeddings


@pytest.fixture
def folder(tmp_path):
    return write_embeddings(tmp_path / "birds-v1-full", sizes={"train": 8, "valid": 4, "test": 4})


def change(folder, **metadata):
    path = folder / "task_metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **metadata}))


def test_the_papers_ten_tasks_are_known_by_their_folders():
    assert len(PAPER_TASKS) == 10
    assert {task.title for task in PAPER_TASKS.values() if task.folds == 0} == {
        "NSynth Pitch 5h",
        "Speech Commands 5h",
        "FSD50K",
    }
    for task in KNOWN_TASKS.values():
        assert task.splits is None or sum(task.splits.values()) == task.clips
        assert (task.folds == 0) == (task.split_mode == "trainvaltest")
    assert PAPER_TASKS["esc50"].archive == "hear2021-esc50-v2.0.0-full-48000.tar.gz"


def test_a_task_is_read(folder):
    task = read_task(folder)
    assert task.name == "birds-v1-full"
    assert task.splits == ("train", "valid", "test")
    assert task.labels == ("class 00", "class 01", "class 02", "class 03")
    assert task.data_splits == [DataSplit(("train",), "valid", "test")]
    assert len(task.clips("train")) == 8
    assert task.known is None


def test_every_clip_is_stored_once_and_not_in_the_order_of_the_file(folder):
    task = read_task(folder)
    for split, clips in task.stored_order.items():
        assert sorted(clips) == sorted(task.clips(split))
        assert clips != list(task.clips(split))


def test_the_file_of_a_split_is_read_once(folder, monkeypatch):
    read = []
    monkeypatch.setattr(taskfolder, "read_json", lambda path, *rest: read.append(path.name) or read_json(path, *rest))
    task = read_task(folder)
    for split in task.splits * 2:
        assert list(task.clips(split)) == sorted(task.stored_order[split])
    assert task.differences() == task.differences()
    assert sorted(read) == ["task_metadata.json", "test.json", "train.json", "valid.json"]


def test_folds_follow_each_other(tmp_path):
    sizes = {f"fold{index:02}": 4 for index in range(5)}
    splits = read_task(write_embeddings(tmp_path / "folds", sizes=sizes)).data_splits
    assert splits[0] == DataSplit(("fold02", "fold03", "fold04"), valid="fold01", test="fold00")
    assert splits[4] == DataSplit(("fold01", "fold02", "fold03"), valid="fold00", test="fold04")


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"embedding_type": "clip"}, "embedding_type is 'clip'; expected one of scene, event"),
        ({"splits": ["train", "test", "other"]}, "expected train, valid and test"),
        ({"splits": ["../x", "valid", "test"]}, "expected a list of names"),
        ({"splits": ["train", "train", "test"]}, "different names"),
        ({"evaluation": []}, "1 different names at least"),
        ({"sample_duration": 0}, "sample_duration is 0"),
        ({"split_mode": "kfold"}, "split_mode is 'kfold'"),
    ],
)
def test_bad_metadata_is_named(folder, metadata, complaint):
    change(folder, **metadata)
    with pytest.raises(TaskError, match=complaint):
        read_task(folder)


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    with pytest.raises(TaskError, match="no such folder"):
        read_task(tmp_path / "nowhere")
    (folder / "train.json").write_text('{"a.wav": "dog"}')
    with pytest.raises(TaskError, match=r"train\.json: expected an object"):
        read_task(folder).clips("train")
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,a\n2,b\n")
    with pytest.raises(TaskError, match=r"0, 1, \.\.\. each once"):
        read_task(folder)
    (folder / "task_metadata.json").write_text("{")
    with pytest.raises(TaskError, match="is damaged"):
        read_task(folder)


def test_what_describes_the_task_is_in_its_hash(folder, tmp_path):
    before = read_task(folder).sha256
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    assert read_task(copy).sha256 == before
    clips = json.loads((copy / "test.json").read_text())
    first = next(iter(clips))
    clips[first] = ["class 01" if clips[first] == ["class 00"] else "class 00"]
    (copy / "test.json").write_text(json.dumps(clips))
    assert read_task(copy).sha256 != before


def test_a_small_task_of_a_hear_tasks_name_is_told_from_it(tmp_path):
    sizes = {f"fold{index:02}": 8 for index in range(5)}
    task = read_task(write_embeddings(tmp_path / "beijing_opera-v1.0-hear2021-full", sizes=sizes))
    assert task.known is KNOWN_TASKS["beijing_opera-v1.0-hear2021-full"]
    assert any(line.startswith("clips: 40, in HEAR 236") for line in task.differences())
    sizes = dict(zip(task.splits, (48, 47, 47, 47, 47), strict=True))
    real = write_embeddings(tmp_path / "real" / task.name, sizes=sizes, sample_duration=4.77)
    assert read_task(real).differences() == []
    assert read_task(write_embeddings(tmp_path / "dogs", sizes=sizes)).differences() == ["dogs is no HEAR task"]


def test_tasks_are_found_in_the_catalogues_order(tmp_path, folder):
    for name in ("zebras", "esc50-v2.0.0-full", "beijing_opera-v1.0-hear2021-full"):
        write_embeddings(tmp_path / "tasks" / name, sizes={"train": 4, "valid": 4, "test": 4})
    (tmp_path / "tasks" / "notes.txt").touch()
    found = find_tasks(tmp_path / "tasks")
    assert [path.name for path in found] == ["beijing_opera-v1.0-hear2021-full", "esc50-v2.0.0-full", "zebras"]
    assert find_tasks(folder) == [folder]
    with pytest.raises(TaskError, match=r"no task there|no such folder"):
        find_tasks(tmp_path / "tasks" / "zebras" / "nothing")
