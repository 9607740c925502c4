"""Our models under MTEB itself: its mock tasks, a task of our own with its cache of results, and what it is told."""

import json

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError, WeightsError
from hear_axlstm.weights.find import list_models, read_manifest
from tests.conftest import tone

try:
    import torchcodec  # noqa: F401 - it imports only where FFmpeg's libraries are
    from datasets import Audio, Dataset, DatasetDict
    from torch.utils.data import DataLoader

    mteb = pytest.importorskip("mteb")
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.results.task_result import TaskResult

    from hear_axlstm.doors import mteb as door
except (ImportError, OSError, RuntimeError) as error:
    pytest.skip(f"mteb with its audio is not here: {error}", allow_module_level=True)

TONES = {"low": 200, "middle": 800, "high": 2_400, "top": 6_000}  # Hz


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Weights of a small encoder."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    hear_axlstm.save_weights(Encoder(AxLSTMConfig(width=16, depth=1)), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four tones, each at four rates, and how they are called."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for label, hertz in TONES.items():
        for number, rate in enumerate((16_000, 22_050, 44_100, 48_000)):
            path = folder / f"{label}{number}.wav"
            soundfile.write(path, tone(hertz * (1 + number / 50), 0.2 + number / 10, rate), rate)
            rows.append((str(path), label))
    return rows


def loader(sounds, size=3):
    return DataLoader(sounds, batch_size=size, collate_fn=list)


def row(wave, rate=16_000):
    return {"audio": {"array": wave, "sampling_rate": rate}}


def tones_task(files):
    class Tones(AbsTaskClassification):
        metadata = TaskMetadata(
            name="Tones",
            description="Which tone it is.",
            reference="https://example.org",
            dataset={"path": "local/tones", "revision": "1"},
            type="AudioClassification",
            category="a2c",
            modalities=["audio"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
        )
        input_column_name = "audio"
        label_column_name = "label"
        samples_per_label = 2
        n_experiments = 2

        def load_data(self, **_):
            sets = {}
            for split, rows in {"train": files[::2], "test": files[1::2]}.items():
                columns = {"audio": [path for path, _ in rows], "label": [list(TONES).index(label) for _, label in rows]}
                sets[split] = Dataset.from_dict(columns).cast_column("audio", Audio())
            self.dataset, self.data_loaded = DatasetDict(sets), True

    return Tones()


def test_all_mock_tasks_of_audio_pass(small):
    """MTEB's own word for it is true as well where a task failed, if a package was missing."""
    model = door.model(small)
    results = {name: result for name, result in mteb.mock_run(model).items() if result is not None}
    assert len(results) >= 7
    assert {name: type(result) for name, result in results.items()} == dict.fromkeys(results, TaskResult)


def test_a_task_of_ones_own_is_scored_and_kept(files, tmp_path):
    cache = mteb.ResultCache(cache_path=tmp_path)
    model = door.model("axlstm-tiny-open")
    (result,) = mteb.evaluate(model, [tones_task(files)], cache=cache, show_progress_bar=False).task_results
    assert result.scores["test"][0]["accuracy"] == 1.0

    revision = read_manifest()["variants"]["axlstm-tiny-open"]["sources"]["bundled"]["fingerprint"]
    folder = tmp_path / "results" / "hear-axlstm__axlstm-tiny-open" / revision
    assert json.loads((folder / "Tones.json").read_text())["scores"]["test"][0]["accuracy"] == 1.0
    assert json.loads((folder / "model_meta.json").read_text())["n_parameters"] == 4_343_584

    model.encode = None  # a second run takes what is kept
    again = mteb.evaluate(model, [tones_task(files)], cache=cache, show_progress_bar=False)
    assert again.task_results[0].scores["test"][0]["accuracy"] == 1.0


def test_a_meta_is_enough_for_mteb_to_load_the_model(small, files):
    (result,) = mteb.evaluate(door.meta(small), [tones_task(files)], cache=None, show_progress_bar=False).task_results
    assert isinstance(result, TaskResult)


def test_embeddings_are_those_of_embed_at_any_rate(small, files):
    """MTEB's own collator resamples with torchaudio, which gives others."""
    paths = [path for path, _ in files]
    rows = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
    found = door.model(small).encode(loader(rows), task_metadata=None, hf_split="test", hf_subset="default")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, hear_axlstm.embed(paths, small).matrix, rtol=0, atol=1e-5)


def test_sounds_in_memory_stereo_and_short(small):
    sounds = [
        tone(300, 0.5),
        np.stack([tone(200, 0.3), tone(900, 0.3)]),
        (tone(400, 0.2) * 32_767).astype(np.int16),
        tone(1, 0.01),
    ]
    found = door.model(small).encode(loader([row(sound) for sound in sounds]))
    wanted = hear_axlstm.embed(sounds, small, sample_rate=16_000, pad_short=True).matrix
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert door.model(small).encode(loader([])).shape == (0, 80)


def test_a_sound_that_fails_ends_the_task(small):
    rows = [row(tone(300, 0.2))] * 4 + [row(np.full(4_000, np.nan))]
    with pytest.raises(AudioError, match="an embedding of every sound, and there is none of sound 4: "):
        door.model(small).encode(loader(rows))
    with pytest.raises(AudioError, match="a row has text; expected audio"):
        door.model(small).encode(loader([{"text": "wren"}]))


@pytest.mark.parametrize("variant", list_models())
def test_each_variant_has_a_meta_of_facts(variant):
    facts, found = read_manifest()["variants"][variant], door.meta(variant)
    assert found.name == f"hear-axlstm/{variant}"
    assert found.n_parameters == facts["parameters"]
    assert found.memory_usage_mb == pytest.approx(facts["parameters"] * 4 / 2**20)
    assert found.embed_dim == 5 * facts["architecture"]["width"]
    assert found.modalities == ["audio"]
    bundled = facts["sources"]["bundled"]
    assert found.revision == (bundled and bundled["fingerprint"])
    assert found.license == ("apache-2.0" if bundled else "not specified")
    assert found.training_datasets == (set() if bundled else {"AudioSet", "AudioSetMini"})


def test_other_weights_have_a_name_by_their_fingerprint(small):
    found = door.meta(small)
    assert found.name == f"hear-axlstm/axlstm-{found.revision[:6]}"
    assert found.training_datasets is None
    assert found.open_weights is None


def test_another_layout_is_another_experiment(small):
    model = door.model(small, layout="time")
    assert model.mteb_model_meta.experiment_kwargs == {"layout": "time"}
    assert model.mteb_model_meta.load_model().model.layout == "time"


def test_weights_that_are_not_there_are_an_error():
    with pytest.raises(WeightsError, match="no weights of axlstm-base"):
        door.model("axlstm-base")
    with pytest.raises((WeightsError, ConfigError), match="axlstm-tinny"):
        door.model("axlstm-tinny")
