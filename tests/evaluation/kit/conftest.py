"""Sounds as small tasks, and a Python without what the kit imports and need not have."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hear_axlstm
from hear_axlstm.config import SAMPLE_RATE
from tests.conftest import tone

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if name.partition(".")[0] in {"tensorflow", "pkg_resources"} else super().find_spec(name, *rest)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
ROOT = Path(hear_axlstm.__file__).parents[1]  # where those processes find the package that is tested
HERTZ = {"low": 300, "high": 3000}
SECONDS = 1.8


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory):
    """Processes that we start find neither TensorFlow nor pkg_resources; their current folder and $TMPDIR are the module's.

    Returns the two folders.
    """
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(WITHOUT)
    current, temporary = tmp_path_factory.mktemp("current"), tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{site}{os.pathsep}{ROOT}")
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr("tempfile.tempdir", str(temporary))
        patch.chdir(current)
        yield current, temporary


def write_task(folder: Path, kind: str, files: int = 2, **metadata: object) -> Path:
    """A task of tones: one a clip in a scene task; a short low one and a short high one in the noise of an event task."""
    rng = np.random.default_rng(0)
    splits = ("train", "valid", "test")
    for split in splits:
        (folder / str(SAMPLE_RATE) / split).mkdir(parents=True)
        labels = {}
        for index in range(files):
            sound = 0.01 * rng.normal(size=round(SECONDS * SAMPLE_RATE)).astype(np.float32)
            events = []
            for start, (label, hertz) in zip(rng.permutation([0.2, 1.1]), HERTZ.items(), strict=True):
                begin = round(start * SAMPLE_RATE)
                sound[begin : begin + SAMPLE_RATE // 2] += tone(hertz, 0.5)
                events.append({"label": label, "start": 1000 * start, "end": 1000 * start + 500})
            name = f"{split}-{index}.wav"
            scene = list(HERTZ)[index % len(HERTZ)]
            soundfile.write(
                folder / str(SAMPLE_RATE) / split / name,
                sound if kind == "event" else tone(HERTZ[scene], SECONDS),
                SAMPLE_RATE,
            )
            labels[name] = events if kind == "event" else [scene]
        (folder / f"{split}.json").write_text(json.dumps(labels))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,high\n1,low\n")
    description = {
        "task_name": folder.name,
        "version": "v1",
        "embedding_type": kind,
        "prediction_type": "multilabel" if kind == "event" else "multiclass",
        "split_mode": "trainvaltest",
        "splits": splits,
        "sample_duration": SECONDS,
        "evaluation": ["event_onset_200ms_fms", "segment_1s_er"] if kind == "event" else ["top1_acc"],
    }
    (folder / "task_metadata.json").write_text(json.dumps({**description, **metadata}))
    return folder
