"""The real heareval.embeddings.runner on a small task folder of each kind."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_axlstm.config import SAMPLE_RATE
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


@pytest.mark.parametrize("module", ["hear_axlstm.axlstm_tiny", "hear_axlstm"])
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
