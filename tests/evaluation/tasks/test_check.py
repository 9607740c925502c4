"""What hear-eval-kit would stumble over is found in a task folder, and nothing in a good one."""

import json

import numpy as np
import pytest
import soundfile

from hear_axlstm.evaluation.protocols import PROTOCOLS
from hear_axlstm.evaluation.tasks import check as module
from hear_axlstm.evaluation.tasks.check import BATCH, SHOWN, check_task
from hear_axlstm.evaluation.tasks.suite import write_suite

SCENES, PITCHES, TAGS, EVENTS = (
    "mridangam_tonic-v1.5-full",
    "nsynth_pitch-v2.2.3-5h",
    "fsd50k-v1.0-full",
    "dcase2016_task2-hear2021-full",
)


def write_task(folder, *, splits, labels=("a", "b"), seconds=0.02, **metadata):
    """A task of noise. splits: name -> labels of each clip; clips are called SPLIT-0.wav and so on."""
    folder.mkdir(parents=True)
    description = {
        "task_name": "toy",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": list(splits),
        "sample_duration": seconds,
        "evaluation": ["top1_acc"],
    }
    (folder / "task_metadata.json").write_text(json.dumps(description | metadata))
    rows = "".join(f"{index},{label}\n" for index, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    for split, clips in splits.items():
        (folder / "16000" / split).mkdir(parents=True)
        named = {f"{split}-{index}.wav": labels_of_clip for index, labels_of_clip in enumerate(clips)}
        (folder / f"{split}.json").write_text(json.dumps(named))
        for name in named:
            soundfile.write(folder / "16000" / split / name, np.full(round(16_000 * seconds), 0.1), 16_000)
    return folder


@pytest.fixture
def task(tmp_path):
    """Three clips in each of three splits."""
    return write_task(tmp_path / "toy", splits={split: [["a"], ["b"], ["a"]] for split in ("train", "valid", "test")})


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def the_problem(path):
    problems = check_task(path).problems
    assert len(problems) == 1, problems
    return problems[0]


def test_a_good_task_has_no_problems(task):
    check = check_task(task)
    assert (check.problems, check.remarks, check.is_good) == ([], [], True)
    assert (sum(check.clips.values()), sum(check.seconds)) == (9, pytest.approx(0.18))
    assert (check.is_own, check.differences) == (True, [])


def test_differences_from_the_hear_task_are_no_problems(tmp_path):
    check = check_task(write_suite(tmp_path, [SCENES], clips_per_label=1).tasks[0])
    assert check.is_good
    assert check.differences == ["its sound is synthesised", "clips: 30, in HEAR 6977"]


@pytest.mark.parametrize("file", ["task_metadata.json", "labelvocabulary.csv", "valid.json"])
def test_a_description_that_is_missing_or_damaged_is_told(task, file):
    (task / file).write_text("{")
    assert file in the_problem(task)
    (task / file).unlink()
    assert file in the_problem(task)


def test_no_folder_at_all_is_told(tmp_path):
    assert "no such folder" in the_problem(tmp_path / "nothing")


def test_sounds_at_another_rate_only_are_told_with_what_helps(task):
    (task / "16000").rename(task / "48000")
    assert the_problem(task).endswith("no sounds at 16000 Hz, but at 48000 Hz: `hear-axlstm tasks prepare` resamples it")
    (task / "48000").rename(task / "elsewhere")
    assert the_problem(task).endswith("no sounds at 16000 Hz")


def test_another_rate_can_be_checked(task):
    (task / "16000").rename(task / "48000")
    assert "9" not in check_task(task, 48_000).problems[0].split()[0]
    assert "not mono at 48000 Hz" in check_task(task, 48_000).problems[0]


def test_a_split_without_a_folder_is_told(task):
    (task / "16000" / "valid").rename(task / "elsewhere")
    assert the_problem(task).endswith("valid: no such folder")


def test_clips_that_are_missing_and_left_over_are_named(task):
    (task / "16000" / "train" / "train-1.wav").rename(task / "16000" / "train" / "other.wav")
    (task / "16000" / "train" / "._train-0.wav").write_bytes(b"of another system")
    missing, over = check_task(task).problems
    assert "clips are missing" in missing
    assert missing.endswith("train: train-1.wav")
    assert over.startswith("files in ")
    assert over.endswith("named by no split: other.wav")


@pytest.mark.parametrize(
    ("shape", "rate", "told"),
    [
        ((320, 2), 16_000, "(2 channels, 16000 Hz, 320 samples)"),
        ((320,), 8_000, "(1 channel, 8000 Hz, 320 samples)"),
        ((0,), 16_000, "(1 channel, 16000 Hz, 0 samples)"),
    ],
)
def test_a_sound_of_the_wrong_form_is_told(task, shape, rate, told):
    soundfile.write(task / "16000" / "test" / "test-2.wav", np.zeros(shape), rate)
    problem = check_task(task).problems[0]
    assert f"test-2.wav {told}" in problem


def test_a_sound_that_cannot_be_read_is_told(task):
    (task / "16000" / "test" / "test-2.wav").write_bytes(b"")
    assert "test-2.wav (" in the_problem(task)


def test_clips_that_cannot_be_stacked_are_told(task):
    soundfile.write(task / "16000" / "test" / "test-2.wav", np.zeros(321), 16_000)
    assert the_problem(task).endswith(
        "do not have the 320 samples of the others, which the kit stacks them with: test/test-2.wav (321)"
    )
    rewrite(task / "task_metadata.json", lambda metadata: metadata.update(sample_duration=None))
    assert check_task(task).is_good


def test_a_duration_that_is_not_the_clips_is_told(task):
    rewrite(task / "task_metadata.json", lambda metadata: metadata.update(sample_duration=0.06))
    assert check_task(task).is_good
    rewrite(task / "task_metadata.json", lambda metadata: metadata.update(sample_duration=0.1))
    assert the_problem(task) == "clips last 0.020 s, but sample_duration is 0.1 s"


@pytest.mark.parametrize("labels", [[], ["a", "b"]])
def test_a_multiclass_scene_has_one_label(task, labels):
    rewrite(task / "train.json", lambda clips: clips.update({"train-0.wav": labels}))
    assert the_problem(task).endswith(f"do not have exactly one label: train/train-0.wav has {len(labels)}")


def test_a_multilabel_scene_has_any_number_of_labels(tmp_path):
    splits = {split: [[], ["a"], ["a", "b"]] for split in ("train", "valid", "test")}
    assert check_task(write_task(tmp_path / "tags", splits=splits, prediction_type="multilabel")).is_good


def test_labels_must_be_in_the_vocabulary_and_need_not_be_used(task):
    rewrite(task / "train.json", lambda clips: clips.update({"train-0.wav": ["c"]}))
    assert the_problem(task).endswith("not in the vocabulary: 'c' of train/train-0.wav")
    (task / "labelvocabulary.csv").write_text("idx,label\n0,a\n1,b\n2,c\n3,d\n")
    check = check_task(task)
    assert check.is_good
    assert check.remarks == ["never used: 1 label of the vocabulary, 'd' first"]


def test_numbers_are_labels_too(tmp_path):
    assert check_task(write_suite(tmp_path, [PITCHES], clips_per_label=1).tasks[0]).is_good


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("a", "a"), "twice: a"),
        (("a", "NA"), "missing value by the kit: 'NA'"),
        (("01", "10"), "other numbers by the kit: 01"),
    ],
)
def test_a_vocabulary_that_the_kit_reads_otherwise_is_told(tmp_path, labels, told):
    splits = {split: [[labels[0]], [labels[1]]] for split in ("train", "valid", "test")}
    assert told in the_problem(write_task(tmp_path / "toy", splits=splits, labels=labels))


def test_a_metric_that_the_kit_does_not_have_is_told(task):
    rewrite(task / "task_metadata.json", lambda metadata: metadata.update(evaluation=["top1_acc", "f1"]))
    assert the_problem(task) == "metrics are unknown to the kit: f1"


def test_a_clip_in_two_splits_is_told(task):
    rewrite(task / "test.json", lambda clips: clips.update({"train-0.wav": ["a"]}))
    (task / "16000" / "test" / "train-0.wav").write_bytes((task / "16000" / "train" / "train-0.wav").read_bytes())
    assert the_problem(task) == "clips are in two splits: train-0.wav in train and test"


def test_a_split_without_clips_is_told(tmp_path):
    splits = {"train": [], "valid": [["a"]], "test": [["b"]]}
    assert the_problem(write_task(tmp_path / "toy", splits=splits)) == "splits have no clips: train"


def test_the_batch_is_the_kits():
    assert {BATCH} == {size for protocol in PROTOCOLS.values() for size in protocol.grid.get("batch_size", ())}


@pytest.mark.parametrize(("clips", "crashes"), [(16, False), (17, True), (18, False)])
def test_a_last_batch_of_one_clip_crashes_the_kit(tmp_path, monkeypatch, clips, crashes):
    """Of five folds, three are trained on; all are of one size but for the last."""
    monkeypatch.setattr(module, "BATCH", 16)
    sizes = {f"fold0{index}": 2 for index in range(4)} | {"fold04": clips - 4}
    splits = {split: [["a"], *[["b"]] * (size - 1)] for split, size in sizes.items()}
    folder = write_task(tmp_path / "toy", splits=splits, split_mode="new_split_kfold", seconds=0.001)
    problems = check_task(folder).problems
    assert bool(problems) == crashes
    if crashes:
        assert "3 sets to train on leave one clip to the last batch of 16" in problems[0]
        assert "17 when fold00 is tested" in problems[0]


def test_of_many_problems_of_a_kind_the_first_are_shown(tmp_path):
    splits = {split: [["a"]] * 20 for split in ("train", "valid", "test")}
    folder = write_task(tmp_path / "toy", splits=splits, labels=("z",))
    problem = the_problem(folder)
    assert problem.startswith("60 labels are not in the vocabulary: 'a' of train/train-0.wav, ")
    assert problem.count("train/") == SHOWN
    assert problem.endswith(" and 55 more")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"start": 100.0, "end": 50.0}, "0 <= start <= end"),
        ({"start": -1.0, "end": 50.0}, "0 <= start <= end"),
        ({"start": "1", "end": 2}, "0 <= start <= end"),
        ({"start": 1.0}, "0 <= start <= end"),
        (
            {"start": 8_200.0, "end": 8_300.0},
            "beyond the end of their clip: 8200 to 8300 ms in train/train-0000.wav of 8000 ms",
        ),
        ({"start": 100.0, "end": 9_100.0}, "beyond the end of their clip"),
    ],
)
def test_events_lie_in_their_clip(tmp_path, event, told):
    folder = write_suite(tmp_path, [EVENTS], clips_per_label=1).tasks[0]
    assert check_task(folder).is_good
    rewrite(folder / "train.json", lambda clips: clips["train-0000.wav"].append({"label": "cough", **event}))
    assert told in the_problem(folder)


def test_an_event_of_no_length_is_one(tmp_path):
    folder = write_suite(tmp_path, [EVENTS], clips_per_label=1).tasks[0]
    event = {"label": "cough", "start": 5, "end": 5}
    rewrite(folder / "train.json", lambda clips: clips["train-0000.wav"].append(event))
    assert check_task(folder).is_good
