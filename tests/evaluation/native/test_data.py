"""Embeddings and labels as the kit's own datasets give them."""

import json
import pickle

import numpy as np
import pytest
import torch

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.native.data import read_data, read_split
from hear_axlstm.evaluation.tasks.taskfolder import read_task
from tests.evaluation.folders import write_embeddings

SIZES = {"fold00": 7, "fold01": 9, "fold02": 8}


@pytest.fixture(params=["multiclass", "multilabel"])
def folder(request, tmp_path):
    return write_embeddings(tmp_path / "task", sizes=SIZES, prediction_type=request.param)


def test_splits_are_in_the_order_of_the_kits_files(folder):
    task = read_task(folder)
    for split in SIZES:
        ours = read_split(task, split)
        with open(folder / f"{split}.target-labels.pkl", "rb") as file:
            theirs = pickle.load(file)
        assert [[task.labels[index] for index in np.flatnonzero(row)] for row in ours.targets.numpy()] == [
            sorted(labels) for labels in theirs
        ]
        rows = np.memmap(folder / f"{split}.embeddings.npy", np.float32, "r", shape=ours.embeddings.shape)
        assert np.array_equal(ours.embeddings, rows)


def test_splits_are_joined_in_the_given_order(tmp_path):
    task = read_task(write_embeddings(tmp_path / "task", sizes={**SIZES, "fold03": 6}))
    data = read_data(task, task.data_splits[0])
    for found, names in ((data.train, ("fold02", "fold03")), (data.valid, ("fold01",)), (data.test, ("fold00",))):
        parts = [read_split(task, name) for name in names]
        assert len(found) == sum(map(len, parts))
        assert torch.equal(found.embeddings, torch.cat([part.embeddings for part in parts]))
        assert torch.equal(found.targets, torch.cat([part.targets for part in parts]))


def test_what_does_not_fit_is_named(folder):
    task = read_task(folder)
    dimensions = folder / "fold00.embedding-dimensions.json"
    rows = folder / "fold00.embeddings.npy"
    count, size = json.loads(dimensions.read_text())
    dimensions.write_text(json.dumps([count, size - 1]))
    with pytest.raises(TaskError, match="bytes"):
        read_split(task, "fold00")
    dimensions.write_text(json.dumps([count - 1, size]))
    rows.write_bytes(rows.read_bytes()[: (count - 1) * size * 4])
    with pytest.raises(TaskError, match="6 embeddings of fold00"):
        read_split(task, "fold00")
    dimensions.unlink()
    with pytest.raises(TaskError, match="cannot be read"):
        read_split(task, "fold00")
    values = np.fromfile(folder / "fold01.embeddings.npy", np.float32)
    values[5] = np.nan
    values.tofile(folder / "fold01.embeddings.npy")
    with pytest.raises(TaskError, match="NaN"):
        read_split(task, "fold01")
    clips = json.loads((folder / "fold02.json").read_text())
    clips[next(iter(clips))] = ["unheard of"]
    (folder / "fold02.json").write_text(json.dumps(clips))
    with pytest.raises(TaskError, match="'unheard of', which is not in the vocabulary"):
        read_split(task, "fold02")
