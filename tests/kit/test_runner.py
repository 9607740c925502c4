"""The real heareval.embeddings.runner on a small task folder of each kind, beside our own embedding of it."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.evaluation.embeddings import DONE, embed_task
from hear_axlstm.evaluation.tasks.taskfolder import read_task
from tests.conftest import tone
from tests.tolerances import BATCH_MATES, MILLISECONDS

pytestmark = pytest.mark.kit
VARIANT = "axlstm-tiny"
SECONDS = 1.5
HERTZ = {"train": [110, 220, 330, 440], "valid": [150, 250], "test": [175, 275]}


@pytest.fixture
def tasks(tmp_path):
    """A scene task and an event task in the kit's format; sounds are tones, labelled low or high."""
    folder = tmp_path / "tasks"
    for kind in ("scene", "event"):
        task = folder / f"tones_{kind}-v1-small"
        for split, tones in HERTZ.items():
            (task / str(SAMPLE_RATE) / split).mkdir(parents=True)
            labels = {}
            for hertz in tones:
                label = "low" if hertz < 300 else "high"
                soundfile.write(task / str(SAMPLE_RATE) / split / f"{hertz}.wav", tone(hertz, SECONDS), SAMPLE_RATE)
                event = [{"label": label, "start": 200.0, "end": 700.0}]
                labels[f"{hertz}.wav"] = [label] if kind == "scene" else event
            (task / f"{split}.json").write_text(json.dumps(labels))
        (task / "labelvocabulary.csv").write_text("idx,label\n0,high\n1,low\n")
        metadata = {
            "task_name": f"tones_{kind}",
            "version": "v1",
            "embedding_type": kind,
            "prediction_type": "multiclass" if kind == "scene" else "multilabel",
            "split_mode": "trainvaltest",
            "splits": list(HERTZ),
            "sample_duration": SECONDS,
            "evaluation": ["top1_acc" if kind == "scene" else "event_onset_200ms_fms"],
        }
        (task / "task_metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize("module", ["hear_axlstm.hear.axlstm_tiny", "hear_axlstm"])
def test_the_runner_writes_our_embeddings(tasks, tmp_path, random_weights, module):
    weights = random_weights(VARIANT)
    command = [sys.executable, "-m", "heareval.embeddings.runner", module, "--model", weights]
    command += ["--tasks-dir", tasks, "--embeddings-dir", tmp_path / "embeddings", "--model-options", '{"layout": "time"}']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    out = tmp_path / "embeddings" / f"{module}-layout=time"
    model = load_model(weights, layout="time")
    for split, tones in HERTZ.items():
        for hertz in tones:
            audio, _ = soundfile.read(
                tasks / "tones_scene-v1-small" / str(SAMPLE_RATE) / split / f"{hertz}.wav", dtype="float32"
            )
            audio = torch.from_numpy(audio)[None]
            with torch.no_grad():
                scene = get_scene_embeddings(audio, model)[0]
                embeddings, timestamps = (x[0] for x in get_timestamp_embeddings(audio, model))
            theirs = np.load(out / "tones_scene-v1-small" / split / f"{hertz}.wav.embedding.npy")
            np.testing.assert_allclose(theirs, scene, rtol=0, atol=BATCH_MATES)
            theirs = np.load(out / "tones_event-v1-small" / split / f"{hertz}.wav.embedding.npy")
            np.testing.assert_allclose(theirs, embeddings, rtol=0, atol=10 * BATCH_MATES)
            times = json.loads((out / "tones_event-v1-small" / split / f"{hertz}.wav.timestamps.json").read_text())
            np.testing.assert_allclose(times, timestamps, rtol=0, atol=MILLISECONDS)
    for task in ("tones_scene-v1-small", "tones_event-v1-small"):
        assert (out / task / ".done.embeddings").exists()
        count, size = json.loads((out / task / "train.embedding-dimensions.json").read_text())
        assert size == model.scene_embedding_size
        assert count == (4 if "scene" in task else 4 * len(times))
        ours = tmp_path / "ours" / task
        embed_task(read_task(tasks / task), model, ours)
        assert_same_folders(ours, out / task)


def assert_same_folders(ours, theirs):
    """The same files, but for what says who made them; the same content, embeddings within what batches may change."""
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
    but = {"_embed.json", "_embed.jsonl", ".lock"}
    assert names == sorted(path.relative_to(ours) for path in ours.rglob("*") if path.is_file() and path.name not in but)
    for name in names:
        one, other = ours / name, theirs / name
        if name.name == "profile.embeddings.json":
            assert json.loads(one.read_text()).keys() == json.loads(other.read_text()).keys()
        elif name.suffix == ".pkl":
            assert pickle.loads(one.read_bytes()) == pickle.loads(other.read_bytes())
        elif name.suffix == ".npy":
            whole = name.name.endswith(".embeddings.npy")  # no npy file, but numbers alone
            pair = [np.fromfile(path, np.float32) if whole else np.load(path) for path in (one, other)]
            assert pair[0].dtype == pair[1].dtype
            np.testing.assert_allclose(*pair, rtol=0, atol=1e-5)
        elif name.name == DONE:
            assert one.exists()  # ours says of which sounds
        elif name.name.endswith(".filename-timestamps.json"):
            (slugs, times), (their_slugs, their_times) = (
                zip(*json.loads(path.read_text()), strict=True) for path in (one, other)
            )
            assert [slug.split("/")[-2:] for slug in slugs] == [slug.split("/")[-2:] for slug in their_slugs]
            np.testing.assert_allclose(times, their_times, rtol=0, atol=MILLISECONDS)
        elif name.name.endswith(".timestamps.json"):
            np.testing.assert_allclose(json.loads(one.read_text()), json.loads(other.read_text()), rtol=0, atol=MILLISECONDS)
        else:
            assert one.read_text() == other.read_text()
