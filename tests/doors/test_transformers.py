"""transformers opens our folders: the same embeddings, strict loading, saving, a head that Trainer trains, pipelines."""

import copy
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError, OutputError, WeightsError
from hear_axlstm.weights.load import read_header
from tests.conftest import noise, tone
from tests.weights.hub_server import Running

transformers = pytest.importorskip("transformers")
from hear_axlstm.doors.transformers import (  # noqa: E402
    HearAxlstmConfig,
    HearAxlstmFeatureExtractor,
    HearAxlstmForAudioClassification,
    HearAxlstmModel,
    collate,
)

transformers.utils.logging.disable_progress_bar()

LENGTHS = [201, 16_000, 48_123, 32_001]
FAMILIES = [
    AxLSTMConfig(width=16, depth=2, expansion=2, flip=True),
    SSAMConfig(width=16, depth=2),
    SSASTConfig(width=16, depth=2, heads=2, patch=(8, 16)),
]
TONES = (300, 1_000, 3_000)  # Hz, of the classes


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda config: config.family)
def any_folder(request, tmp_path_factory):
    return packed(request.param, tmp_path_factory.mktemp(request.param.family))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return packed(FAMILIES[0], tmp_path_factory.mktemp("folder"))


def packed(config, folder):
    torch.manual_seed(0)
    hear_axlstm.save_weights(Encoder(config), folder / "mine.safetensors", {"note": "of a test"}, layout="released")
    hear_axlstm.pack(folder / "mine.safetensors", folder / "packed")
    return folder / "packed"


@pytest.fixture(scope="module")
def clips():
    return [noise(length, seed=length).numpy() for length in LENGTHS]


@pytest.fixture(scope="module")
def batch(clips):
    return HearAxlstmFeatureExtractor()(clips, sampling_rate=16_000, return_tensors="pt")


def scenes(model, batch):
    with torch.no_grad():
        return model(**batch).pooler_output


def rows(rate=8_000):
    """Three classes of tones, four each, at another rate than the encoders'."""
    rng = np.random.default_rng(0)
    waves = [(tone(hertz, 0.7, rate), label) for label, hertz in enumerate(TONES) for _ in range(4)]
    return [
        {"audio": {"array": w + 0.02 * rng.standard_normal(len(w)), "sampling_rate": rate}, "label": n} for w, n in waves
    ]


@pytest.mark.parametrize("grad", [False, True])
def test_embeddings_are_ours_to_the_last_bit(any_folder, batch, grad):
    ours, theirs = hear_axlstm.load_model(any_folder), transformers.AutoModel.from_pretrained(any_folder)
    assert not theirs.training
    with torch.set_grad_enabled(grad):
        outputs = theirs(**batch)
        assert torch.equal(outputs.pooler_output, ours(batch["input_values"], LENGTHS))
        assert torch.equal(outputs.last_hidden_state, ours.timestamps(batch["input_values"], LENGTHS)[0])
        every = theirs(**batch, output_hidden_states=True)
        expected = ours.timestamps(batch["input_values"], LENGTHS, "all")[0]
        assert torch.equal(torch.stack(every.hidden_states), expected)
    assert outputs.hidden_states is None
    assert outputs.pooler_output.shape == (len(LENGTHS), theirs.config.hidden_size)


def test_embeddings_are_those_of_embed(folder, batch, clips):
    matrix = hear_axlstm.embed(clips, hear_axlstm.load_model(folder), sample_rate=16_000).matrix
    model = transformers.AutoModel.from_pretrained(folder, device_map="cpu")
    np.testing.assert_allclose(scenes(model, batch).numpy(), matrix, rtol=0, atol=1e-6)


def test_padding_and_batch_mates_change_nothing(folder, batch, clips):
    model, together = transformers.AutoModel.from_pretrained(folder), None
    together = scenes(model, batch)
    for index, clip in enumerate(clips):
        alone = scenes(model, HearAxlstmFeatureExtractor()(clip, sampling_rate=16_000, return_tensors="pt"))
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-5)


def test_outputs_are_tuples_on_request(folder, batch):
    model = transformers.AutoModel.from_pretrained(folder)
    steps, pooled = model(**batch, return_dict=False)
    assert (steps.ndim, pooled.ndim) == (3, 2)
    model.config.output_hidden_states = True
    assert len(model(**batch).hidden_states) == FAMILIES[0].depth + 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_as_the_encoder_has_them(any_folder, batch, dtype):
    """Norms, gates and decays stay in float32, whether a model is loaded in half precision or made so."""
    ours = hear_axlstm.load_model(any_folder).to(dtype)
    loaded = transformers.AutoModel.from_pretrained(any_folder, dtype=dtype)
    turned = transformers.AutoModel.from_pretrained(any_folder).to(dtype)
    fresh = transformers.AutoModel.from_config(loaded.config, dtype=dtype)
    for model in (loaded, turned, fresh):
        assert model.dtype == dtype
        assert {n: t.dtype for n, t in model.encoder.state_dict().items()} == {
            n: t.dtype for n, t in ours.encoder.state_dict().items()
        }
        assert scenes(model, batch).isfinite().all()
    with torch.no_grad():
        expected = ours(batch["input_values"], LENGTHS)
    assert torch.equal(scenes(loaded, batch), expected)
    assert torch.equal(scenes(turned, batch), expected)


def test_autocast_decides_the_precision(folder, batch):
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.autocast("cpu", torch.bfloat16):
        half = scenes(model, batch)
    expected = hear_axlstm.load_model(folder, precision="bfloat16")(batch["input_values"], LENGTHS)
    torch.testing.assert_close(half, expected, rtol=0, atol=1e-5)
    assert not torch.equal(half, scenes(model, batch))


def test_copies_and_pickles_are_the_same(folder, batch):
    model = transformers.AutoModel.from_pretrained(folder)
    expected = scenes(model, batch)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(scenes(twin, batch), expected)


def test_gradients_reach_the_encoder_with_and_without_checkpointing(folder, batch):
    gradients = []
    for enable in (False, True):
        model = transformers.AutoModel.from_pretrained(folder).train()
        if enable:
            model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing == model.encoder.checkpointing == enable
        model(**batch).pooler_output.square().sum().backward()
        gradients.append(model.encoder.patch_embed.weight.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def test_a_new_model_has_the_papers_initial_values():
    config = HearAxlstmConfig(encoder=FAMILIES[1].to_dict())
    torch.manual_seed(3)
    model = transformers.AutoModel.from_config(config)
    torch.manual_seed(3)
    expected = Encoder(FAMILIES[1]).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.encoder.state_dict().items())
    with torch.device("meta"):
        assert HearAxlstmForAudioClassification(config).classifier.weight.is_meta
    assert HearAxlstmConfig().hidden_size == 960
    assert HearAxlstmConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    with pytest.raises(ConfigError, match="ssam has no option depht"):
        HearAxlstmConfig(encoder={"family": "ssam", "width": 16, "depht": 1})


# -- saving


def test_what_is_saved_opens_every_door_again(any_folder, batch, tmp_path):
    model = transformers.AutoModel.from_pretrained(any_folder)
    model.save_pretrained(tmp_path / "saved")
    expected = scenes(model, batch)
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {path.name for path in any_folder.iterdir()}
    for file in ("model.safetensors", "README.md", "modules.json", "modeling_hear_axlstm.py"):
        assert (tmp_path / "saved" / file).read_bytes() == (any_folder / file).read_bytes()
    assert torch.equal(scenes(transformers.AutoModel.from_pretrained(tmp_path / "saved"), batch), expected)
    with torch.no_grad():
        assert torch.equal(hear_axlstm.load_model(tmp_path / "saved")(batch["input_values"], LENGTHS), expected)
    assert read_header(tmp_path / "saved/model.safetensors")["provenance"] == {"note": "of a test"}


def test_a_layout_that_was_asked_for_is_saved(folder, batch, tmp_path):
    model = transformers.AutoModel.from_pretrained(folder, layout="time")
    model.save_pretrained(tmp_path / "saved")
    assert hear_axlstm.load_model(tmp_path / "saved").layout == "time"
    with torch.no_grad():
        expected = hear_axlstm.load_model(folder, layout="time")(batch["input_values"], LENGTHS)
    assert torch.equal(scenes(model, batch), expected)
    with pytest.raises(ConfigError, match="layout is 'tiem'"):
        transformers.AutoModel.from_pretrained(folder, layout="tiem")


def test_changed_weights_say_what_they_come_from(folder, tmp_path):
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.norm.weight.add_(1.0)
    for saved in (tmp_path / "once", tmp_path / "twice"):
        model.save_pretrained(saved)
        model = transformers.AutoModel.from_pretrained(saved)
    source = read_header(saved / "model.safetensors")["provenance"]["finetuned_from"]
    assert source["provenance"] == {"note": "of a test"}
    assert (source["name"], source["sha256"]) == ("packed", read_header(folder / "model.safetensors")["sha256"])


def test_saving_keeps_a_card_and_refuses_what_cannot_be_loaded(folder, tmp_path):
    model = transformers.AutoModel.from_pretrained(folder)
    (tmp_path / "README.md").write_text("my own card")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own card"
    with pytest.raises(OutputError, match="cannot be written"):
        model.save_pretrained(tmp_path / "README.md")
    with torch.no_grad():
        model.encoder.norm.weight.fill_(float("nan"))
    with pytest.raises(WeightsError, match="NaN"):
        model.save_pretrained(tmp_path)
    hear_axlstm.load_model(tmp_path)


# -- strict loading


def rewritten(folder, target, change):
    """A copy of a folder whose tensors or JSON a function changes, with the header as it was."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads((folder / "config.json").read_text())
    metadata = change(tensors, config) or metadata
    target.mkdir()
    save_file(tensors, target / "model.safetensors", metadata)
    (target / "config.json").write_text(json.dumps(config))
    return target


def without_a_norm(tensors, config):
    del tensors["blocks.1.norm"]


def with_another_norm(tensors, config):
    tensors["norm.weight"] = tensors["norm.weight"] + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_norm, "blocks.1.norm is missing"),
        (with_another_norm, "is damaged"),
        (lambda tensors, config: tensors.update(more=torch.zeros(1)), "more is unknown"),
        (lambda tensors, config: tensors.update(cls_token=torch.zeros(1, 1, 8)), "cls_token has shape"),
        (lambda tensors, config: config["encoder"].update(depth=1), "depth=2.* but .*depth=1.* is wanted"),
        (lambda tensors, config: config.update(encoder=SSAMConfig(width=16).to_dict()), "SSAMConfig.* is wanted"),
        (lambda tensors, config: {"format": "pt"}, "no 'hear_axlstm' in its metadata"),
    ],
)
@pytest.mark.parametrize("opener", ["AutoModel", "AutoModelForAudioClassification"])
def test_weights_that_do_not_fit_are_refused(folder, tmp_path, change, message, opener):
    broken = rewritten(folder, tmp_path / "broken", change)
    with pytest.raises(WeightsError, match=message):
        getattr(transformers, opener).from_pretrained(broken)


def test_a_state_that_lacks_tensors_is_refused(folder):
    model = HearAxlstmModel.from_pretrained(folder)
    state = model.state_dict()
    del state["encoder.norm.weight"]
    with pytest.raises(WeightsError, match=r"encoder\.norm\.weight is missing"):
        HearAxlstmModel.from_pretrained(None, config=model.config, state_dict=state)


def test_a_folder_without_weights_is_told(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.AutoModel.from_pretrained(tmp_path)


# -- the feature extractor


def wave_of(sound, **options):
    return HearAxlstmFeatureExtractor()(sound, return_tensors="np", **options)["input_values"]


def test_every_kind_of_sound_is_the_same_sound(tmp_path):
    wave = tone(440, 0.5, 44_100)
    soundfile.write(tmp_path / "a.wav", wave, 44_100, subtype="FLOAT")
    expected = wave_of(wave, sampling_rate=44_100)
    assert expected.shape == (1, 8_000)
    pair = {"array": wave, "sampling_rate": 44_100}
    content = (tmp_path / "a.wav").read_bytes()
    paths = [str(tmp_path / "a.wav"), tmp_path / "a.wav", {"path": str(tmp_path / "a.wav"), "bytes": None}]
    samples = [pair, {"audio": pair}, (wave, 44_100), {"raw": wave, "sampling_rate": 44_100}]
    for one in (*paths, *samples, content, {"bytes": content, "path": None}):
        assert np.array_equal(wave_of(one), expected), one
        assert np.array_equal(wave_of([one, one]), np.concatenate([expected] * 2))
    for one in (torch.from_numpy(wave), wave.tolist(), np.stack([wave, wave], 1)[None]):
        assert np.array_equal(wave_of(one, sampling_rate=44_100), expected)


def test_rows_of_an_array_are_sounds_and_rates_may_differ(clips):
    stacked = np.stack([clips[1], clips[1][::-1]])
    assert np.array_equal(wave_of(stacked, sampling_rate=16_000), stacked)
    mixed = HearAxlstmFeatureExtractor()(
        [{"array": clips[1], "sampling_rate": 8_000}, {"array": clips[1], "sampling_rate": 32_000}, clips[1]],
        sampling_rate=16_000,
        return_tensors="pt",
    )
    assert mixed["attention_mask"].sum(1).tolist() == [32_000, 8_000, 16_000]
    assert mixed["input_values"].shape == mixed["attention_mask"].shape == (3, 32_000)


def test_padding_is_as_transformers_has_it(clips):
    extract = HearAxlstmFeatureExtractor()
    ragged = extract(clips, sampling_rate=16_000, padding=False)
    assert [len(wave) for wave in ragged["input_values"]] == LENGTHS
    cut = extract(clips, sampling_rate=16_000, padding="max_length", max_length=20_000, truncation=True, return_tensors="pt")
    assert cut["attention_mask"].sum(1).tolist() == [201, 16_000, 20_000, 20_000]
    assert (
        extract(clips, sampling_rate=16_000, pad_to_multiple_of=1_000, return_tensors="np")["input_values"].shape[1]
        == 49_000
    )


def test_samples_without_a_rate_are_told_of(clips, monkeypatch):
    told = []
    monkeypatch.setattr("hear_axlstm.doors.feature_extractor.logger.warning_once", told.append, raising=False)
    wave_of((clips[1], 16_000))
    assert not told
    assert np.array_equal(wave_of(clips[1])[0], clips[1])
    assert "taken as 16 kHz" in told[0]


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        ([], "no sounds"),
        ("missing.wav", "missing.wav"),
        (np.zeros(200, np.float32), "sound 0: 200 samples"),
        ([np.full(9_000, np.nan, np.float32)], "sound 0: holds NaN"),
        ([np.zeros(9_000, np.float32), np.zeros(0, np.float32)], "sound 1"),
        ([{"array": np.zeros(9_000)}], "expected array and sampling_rate"),
        ([None], "sound 0"),
    ],
)
def test_what_is_no_sound_is_refused(sound, message):
    with pytest.raises(AudioError, match=message):
        wave_of(sound)


def test_a_mask_that_gives_no_lengths_is_refused(folder, batch):
    model = transformers.AutoModel.from_pretrained(folder)
    for mask in (
        batch["attention_mask"].flip(1),
        batch["attention_mask"][:, :-1],
        torch.zeros_like(batch["attention_mask"]),
    ):
        with pytest.raises(AudioError):
            model(batch["input_values"], mask)


def test_an_extractor_is_found_saved_and_bound_to_16_khz(folder, tmp_path):
    for opener in (transformers.AutoFeatureExtractor, transformers.AutoProcessor):
        extractor = opener.from_pretrained(folder)
        assert isinstance(extractor, HearAxlstmFeatureExtractor)
    extractor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["preprocessor_config.json"]
    assert transformers.AutoFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()
    with pytest.raises(ConfigError, match=r"say the rate of sounds in the call"):
        HearAxlstmFeatureExtractor(sampling_rate=44_100)


# -- classification


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label_classification", [2, 0]),
        ("multi_label_classification", [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        ("regression", [[0.5, 0.1, 2.0], [1.0, 2.0, 3.0]]),
    ],
)
def test_problem_types_are_those_of_transformers(folder, problem, labels):
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, num_labels=3, problem_type=problem)
    model.freeze_base_model()
    batch = collate([{"audio": (tone(500, 0.3), 16_000), "labels": label} for label in labels])
    outputs = model(**batch)
    assert outputs.logits.shape == (2, 3)
    outputs.loss.backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"classifier.weight", "classifier.bias"}


def test_rows_that_trainer_took_the_sounds_from_are_refused(folder, tmp_path):
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, num_labels=3)
    arguments = transformers.TrainingArguments(str(tmp_path / "run"), report_to=[], use_cpu=True, disable_tqdm=True)
    with pytest.raises(ConfigError, match=r"a row has label; expected audio, .* remove_unused_columns=False"):
        transformers.Trainer(model, arguments, train_dataset=rows(), data_collator=collate).train()


def test_trainer_trains_saves_and_resumes(folder, tmp_path):
    names = {"id2label": {0: "low", 1: "middle", 2: "high"}, "label2id": {"low": 0, "middle": 1, "high": 2}}
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, num_labels=3, **names)
    data, options = rows(), {"remove_unused_columns": False, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    options |= {"per_device_train_batch_size": 6, "learning_rate": 5e-3}

    def trainer(model, **more):
        arguments = transformers.TrainingArguments(str(tmp_path / "run"), **options, **more)
        return transformers.Trainer(model, arguments, train_dataset=data, eval_dataset=data, data_collator=collate)

    every = {"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True}
    first = trainer(model, num_train_epochs=8, **every)
    first.train()
    predicted = first.predict(data)
    assert (predicted.predictions.argmax(1) == predicted.label_ids).mean() >= 0.9
    first.save_model(str(tmp_path / "final"))

    again = transformers.AutoModelForAudioClassification.from_pretrained(tmp_path / "final")
    assert again.config.id2label == names["id2label"]
    batch = collate(data)
    with torch.no_grad():
        expected = first.model.eval()(**batch).logits
        assert torch.equal(again(**batch).logits, expected)
        embedding = transformers.AutoModel.from_pretrained(tmp_path / "final")(**{k: batch[k] for k in INPUTS}).pooler_output
        assert torch.equal(hear_axlstm.load_model(tmp_path / "final")(batch["input_values"]), embedding)
    hear_axlstm.pack(tmp_path / "final", tmp_path / "packed")  # the head and its classes are in the weights file itself
    packed = transformers.AutoModelForAudioClassification.from_pretrained(tmp_path / "packed")
    assert packed.config.id2label == names["id2label"]
    assert torch.equal(packed.classifier.weight, again.classifier.weight)

    other = transformers.AutoModelForAudioClassification.from_pretrained(folder, num_labels=3)
    resumed = trainer(other, num_train_epochs=8, save_strategy="no")
    resumed.train(resume_from_checkpoint=max((tmp_path / "run").glob("checkpoint-*"), key=os.path.getmtime))
    with torch.no_grad():  # nothing was left to train
        assert torch.equal(other.eval()(**batch).logits, model.eval()(**batch).logits)


INPUTS = "input_values", "attention_mask"


def test_a_head_of_other_classes_is_no_silent_new_head(folder, tmp_path):
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, num_labels=3)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatched"):
        transformers.AutoModelForAudioClassification.from_pretrained(tmp_path, num_labels=4)
    transformers.AutoModelForAudioClassification.from_pretrained(tmp_path, num_labels=4, ignore_mismatched_sizes=True)


def test_pipelines(folder, clips, tmp_path):
    transformers.AutoModelForAudioClassification.from_pretrained(folder, num_labels=3).save_pretrained(tmp_path)
    classify = transformers.pipeline("audio-classification", model=str(tmp_path))
    guesses = classify({"array": clips[1], "sampling_rate": 16_000})
    assert sum(guess["score"] for guess in guesses) == pytest.approx(1.0)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    extract = transformers.pipeline("feature-extraction", model=str(folder), tokenizer=extractor)
    soundfile.write(tmp_path / "a.wav", clips[1], 16_000, subtype="FLOAT")
    steps = extract(str(tmp_path / "a.wav"), return_tensors=True)
    ours = hear_axlstm.load_model(folder)
    with torch.no_grad():
        assert torch.equal(steps, ours.timestamps(torch.from_numpy(clips[1])[None])[0])


# -- the Hub

PROGRAM = """
import sys
import numpy, torch
trust = {"trust_remote_code": True} if sys.argv[1] == "trust" else {}
if not trust:
    import hear_axlstm.doors.transformers
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

wave = numpy.float32([0.5, -0.5] * 9_000)
extractor = AutoFeatureExtractor.from_pretrained("me/model", **trust)
batch = extractor(wave, sampling_rate=16_000, return_tensors="pt")

def embedding(repo):
    with torch.no_grad():
        return AutoModel.from_pretrained(repo, **trust)(**batch).pooler_output

expected = embedding("me/model")
from sentence_transformers import SentenceTransformer
assert numpy.array_equal(SentenceTransformer("me/model", device="cpu", **trust).encode(wave), expected[0])
if not trust:
    AutoModel.from_pretrained("me/model").push_to_hub("me/pushed", commit_message="from a test")
    head = AutoModelForAudioClassification.from_pretrained("me/model")
    head.save_pretrained(sys.argv[3], push_to_hub=True, repo_id="me/head")
    assert torch.equal(embedding("me/pushed"), expected) and torch.equal(embedding("me/head"), expected)
torch.save(expected, sys.argv[2])
"""


@pytest.mark.parametrize("how", ["import", "trust"])
def test_a_repository_opens_after_the_import_or_by_its_own_code(folder, tmp_path, how):
    pytest.importorskip("sentence_transformers")
    with Running() as hub:
        hub.commit("me/model", {path.name: path.read_bytes() for path in folder.iterdir()})
        environment = {
            **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"),
        }  # fmt: skip
        command = [sys.executable, "-c", PROGRAM, how, str(tmp_path / "embedding.pt"), str(tmp_path / "head")]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ours = hear_axlstm.load_model(folder)
    with torch.no_grad():
        expected = ours(torch.tensor([[0.5, -0.5] * 9_000]))
    torch.testing.assert_close(torch.load(tmp_path / "embedding.pt"), expected, rtol=0, atol=1e-6)
    if how == "import":
        pushed = hub.repos["me/pushed"][-1]
        assert pushed.keys() >= {path.name for path in folder.iterdir()}
        assert 'load_model("me/pushed")' in pushed["README.md"].decode()
        assert pushed["model.safetensors"] == (folder / "model.safetensors").read_bytes()
