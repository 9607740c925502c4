"""The table of HEAR tasks: what each one's folder is called, and how much must be in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hear_axlstm.errors import ConfigError

EmbeddingType = Literal["scene", "event"]
PredictionType = Literal["multiclass", "multilabel"]
SplitMode = Literal["trainvaltest", "new_split_kfold", "presplit_kfold"]


@dataclass(frozen=True, kw_only=True)
class KnownTask:
    """A task of the HEAR benchmark and its facts.

    folder: its name in every task folder, archive and result. title: for people. key: its column in the papers' table
    (published.py), None for a task that is not among their ten. leaderboard: its column in HEAR's leaderboard, None where
    there is none. labels: size of the vocabulary. clips: how many all splits have; None where that is not known for sure.
    seconds: length of every clip; None where clips differ. splits: clips by split, where they are known. metrics: the first
    is the task's score. folds: how many a cross-validated task has.

    Source: hearbenchmark.com/hear-tasks.html for clips, seconds and metrics; hear-preprocess for the rest, which leaves 12
    train clips of 30 s and more out of FSD50K's 51,197.
    """

    folder: str
    title: str
    key: str | None = None
    leaderboard: str | None = None
    embedding_type: EmbeddingType = "scene"
    prediction_type: PredictionType = "multiclass"
    split_mode: SplitMode = "new_split_kfold"
    folds: int = 0
    labels: int
    clips: int | None
    seconds: float | None
    splits: Mapping[str, int] | None = None
    metrics: tuple[str, ...] = ("top1_acc", "mAP", "d_prime", "aucroc")

    @property
    def split_names(self) -> tuple[str, ...]:
        """The names of the splits, in the order in which the kit embeds them.

        >>> KNOWN_TASKS["gunshot_triangulation-v1.0-full"].split_names[-1]
        'fold06'
        """
        return tuple(f"fold{index:02}" for index in range(self.folds)) or ("train", "valid", "test")

    @property
    def archive(self) -> str:
        """The name of its file in the Zenodo record of the tasks at 48 kHz."""
        return f"hear2021-{self.folder}-48000.tar.gz"


_EVENT_METRICS = ("event_onset_200ms_fms", "event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms", "segment_1s_er")

# fmt: off
KNOWN_TASKS: dict[str, KnownTask] = {
    task.folder: task
    for task in (
        KnownTask(
            folder="beijing_opera-v1.0-hear2021-full", title="Beijing Opera", key="beijing_opera",
            leaderboard="Beijing Opera", folds=5, labels=4, clips=236, seconds=4.77,
        ),
        KnownTask(
            folder="mridangam_stroke-v1.5-full", title="Mridangam Stroke", key="mridangam_stroke",
            leaderboard="Mridangam Stroke", folds=5, labels=10, clips=6977, seconds=0.81,
        ),
        KnownTask(
            folder="mridangam_tonic-v1.5-full", title="Mridangam Tonic", key="mridangam_tonic",
            leaderboard="Mridangam Tonic", folds=5, labels=6, clips=6977, seconds=0.81,
        ),
        KnownTask(
            folder="nsynth_pitch-v2.2.3-5h", title="NSynth Pitch 5h", key="nsynth_pitch_5h", leaderboard="NSynth Pitch 5h",
            split_mode="trainvaltest", labels=88, clips=5000, seconds=4.0,
            splits={"train": 4000, "valid": 500, "test": 500}, metrics=("pitch_acc", "chroma_acc"),
        ),
        KnownTask(
            folder="tfds_crema_d-1.0.0-full", title="CREMA-D", key="crema_d", leaderboard="CREMA-D", folds=5, labels=6,
            clips=7438, seconds=5.0,
        ),
        KnownTask(
            folder="libricount-v1.0.0-hear2021-full", title="LibriCount", key="libricount", leaderboard="Libricount",
            folds=5, labels=11, clips=5720, seconds=5.0,
        ),
        KnownTask(
            folder="speech_commands-v0.0.2-5h", title="Speech Commands 5h", key="speech_commands_5h",
            leaderboard="Speech commands 5h", split_mode="trainvaltest", labels=12, clips=22890, seconds=1.0,
            splits={"train": 16000, "valid": 2000, "test": 4890}, metrics=("top1_acc",),
        ),
        KnownTask(
            folder="vox_lingua_top10-hear2021-full", title="VoxLingua107 Top 10", key="vox_lingua_top10",
            leaderboard="VoxLingua107 top 10", folds=5, labels=10, clips=972, seconds=18.64,
        ),
        KnownTask(
            folder="esc50-v2.0.0-full", title="ESC-50", key="esc50", leaderboard="ESC-50", split_mode="presplit_kfold",
            folds=5, labels=50, clips=2000, seconds=5.0,
        ),
        KnownTask(
            folder="fsd50k-v1.0-full", title="FSD50K", key="fsd50k", leaderboard="FSD50K", prediction_type="multilabel",
            split_mode="trainvaltest", labels=200, clips=51185, seconds=None,
            splits={"train": 36784, "valid": 4170, "test": 10231}, metrics=("mAP", "d_prime", "aucroc", "top1_acc"),
        ),
        KnownTask(
            folder="beehive_states_fold0-v2-full", title="Beehive States, fold 0", split_mode="trainvaltest", labels=2,
            clips=None, seconds=600.0, metrics=("aucroc", "top1_acc", "mAP", "d_prime"),
        ),
        KnownTask(
            folder="beehive_states_fold1-v2-full", title="Beehive States, fold 1", split_mode="trainvaltest", labels=2,
            clips=None, seconds=600.0, metrics=("aucroc", "top1_acc", "mAP", "d_prime"),
        ),
        KnownTask(
            folder="dcase2016_task2-hear2021-full", title="DCASE 2016 Task 2", leaderboard="DCASE 2016",
            embedding_type="event", prediction_type="multilabel", split_mode="trainvaltest", labels=11, clips=72,
            seconds=120.0, metrics=_EVENT_METRICS,
        ),
        KnownTask(
            folder="gunshot_triangulation-v1.0-full", title="Gunshot Triangulation", leaderboard="Gunshot", folds=7,
            labels=7, clips=88, seconds=1.5,
        ),
        KnownTask(
            folder="maestro-v3.0.0-5h", title="MAESTRO 5h", leaderboard="Maestro 5h", embedding_type="event",
            prediction_type="multilabel", folds=5, labels=88, clips=185, seconds=120.0,
            metrics=("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
        ),
        KnownTask(
            folder="nsynth_pitch-v2.2.3-50h", title="NSynth Pitch 50h", leaderboard="NSynth Pitch 50h",
            split_mode="trainvaltest", labels=88, clips=49060, seconds=4.0, metrics=("pitch_acc", "chroma_acc"),
        ),
        KnownTask(
            folder="speech_commands-v0.0.2-full", title="Speech Commands", leaderboard="Speech commands full",
            split_mode="trainvaltest", labels=12, clips=100503, seconds=1.0, metrics=("top1_acc",),
        ),
        KnownTask(
            folder="tfds_gtzan-1.0.0-full", title="GTZAN Genre", leaderboard="GTZAN Genre", folds=10, labels=10, clips=1000,
            seconds=30.0,
        ),
        KnownTask(
            folder="tfds_gtzan_music_speech-1.0.0-full", title="GTZAN Music Speech", leaderboard="GTZAN Music/Speech",
            folds=10, labels=2, clips=128, seconds=30.0,
        ),
        KnownTask(
            folder="vocal_imitation-v1.1.3-full", title="Vocal Imitations", leaderboard="Vocal Imitation", folds=3,
            labels=302, clips=5601, seconds=11.26, metrics=("mAP", "top1_acc", "d_prime", "aucroc"),
        ),
    )
}
# fmt: on

PAPER_TASKS: dict[str, KnownTask] = {task.key: task for task in KNOWN_TASKS.values() if task.key is not None}


def check_names(names: Iterable[str], known: Collection[str] = KNOWN_TASKS) -> None:
    """Raises ConfigError, which lists the known folder names of tasks, on a name that is not among them."""
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no task is called {', '.join(map(repr, unknown))}; there are {', '.join(known)}")


def in_order(folder: str) -> tuple[int, str]:
    """A key to sort tasks by: HEAR's in the order of the table, then the others by name.

    >>> sorted(["birds-v1-full", "esc50-v2.0.0-full", "beijing_opera-v1.0-hear2021-full"], key=in_order)[-1]
    'birds-v1-full'
    """
    known = list(KNOWN_TASKS)
    return (known.index(folder) if folder in KNOWN_TASKS else len(known)), folder
