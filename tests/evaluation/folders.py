"""Small folders of embeddings in the kit's format, drawn at random: classes are noisy directions."""

import json
import pickle
import random
from pathlib import Path

import numpy as np

SCENE_METRICS = ["top1_acc", "mAP", "d_prime", "aucroc"]


def write_embeddings(
    folder: Path,
    *,
    sizes: dict[str, int],
    labels: int = 4,
    width: int = 24,
    prediction_type: str = "multiclass",
    metrics: list[str] | None = None,
    noise: float = 2.5,
    seed: int = 0,
    **metadata: object,
) -> Path:
    """A scene task's embeddings as ``heareval.embeddings.runner`` leaves them, without the files of the single clips.

    sizes: clips by split; splits called fold00, fold01, ... make it a task of folds. metadata: goes into task_metadata.json.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(labels, width))
    folds = any(split.startswith("fold") for split in sizes)
    description = {
        "task_name": folder.name,
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": prediction_type,
        "split_mode": "new_split_kfold" if folds else "trainvaltest",
        "splits": list(sizes),
        "sample_duration": 1.0,
        "evaluation": metrics or SCENE_METRICS,
        **metadata,
    }
    (folder / "task_metadata.json").write_text(json.dumps(description))
    names = [f"class {index:02}" for index in range(labels)]
    rows = "".join(f"{index},{name}\n" for index, name in enumerate(names))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    order = random.Random(0)
    for split, count in sizes.items():
        if prediction_type == "multiclass":
            chosen = [[int(index)] for index in rng.permutation(np.arange(count) % labels)]
        else:
            chosen = [sorted(map(int, rng.choice(labels, rng.integers(0, 4), replace=False))) for _ in range(count)]
        clips = {f"{split}-{index:04}.wav": [names[label] for label in found] for index, found in enumerate(chosen)}
        (folder / f"{split}.json").write_text(json.dumps(clips))
        stored = list(range(count))
        order.shuffle(stored)
        vectors = np.stack([directions[found].sum(0) for found in chosen]) + noise * rng.normal(size=(count, width))
        vectors[stored].astype(np.float32).tofile(folder / f"{split}.embeddings.npy")
        (folder / f"{split}.embedding-dimensions.json").write_text(json.dumps([count, width]))
        with open(folder / f"{split}.target-labels.pkl", "wb") as file:
            pickle.dump([list(clips.values())[index] for index in stored], file)
    (folder / ".done.embeddings").touch()
    return folder
