"""The folder that load_model, transformers and sentence-transformers open, as `hear-axlstm pack` and ``pack`` write it."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

import hear_axlstm
from hear_axlstm.cli import main
from hear_axlstm.config import VARIANTS, AxLSTMConfig, SSAMConfig, SSASTConfig, config_from_dict
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import OutputError, WeightsError
from hear_axlstm.weights.check import read_facts
from hear_axlstm.weights.find import find_weights, list_models, read_manifest
from hear_axlstm.weights.folder import folder_texts
from hear_axlstm.weights.save import write_weights
from tests.conftest import noise

FILES = {
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modeling_hear_axlstm.py",
    "modules.json",
    "preprocessor_config.json",
    "sentence_bert_config.json",
}
CONFIGS = [
    AxLSTMConfig(width=16, depth=1, flip=True, expansion=2),
    SSAMConfig(width=16, depth=1, bidirectional=True),
    SSASTConfig(width=16, depth=1, heads=2, patch=(8, 16)),
]


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def front_matter(card):
    """What a model card says to the Hub, read as the Hub reads it."""
    return yaml.safe_load(re.fullmatch(r"---\n(.*?)\n---\n.*", card, re.DOTALL)[1])


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights" / "mine.safetensors"
    hear_axlstm.save_weights(Encoder(CONFIGS[0]), path, {"note": "of a test"}, layout="time")
    return path


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)
@pytest.mark.parametrize("layout", ["time", "released"])
def test_a_model_in_memory_becomes_a_folder_that_gives_the_same_embeddings(config, layout, tmp_path):
    model = Embedder(Encoder(config), layout=layout).eval()
    hear_axlstm.pack(model, tmp_path / "folder")
    assert names_in(tmp_path / "folder") == FILES
    again = hear_axlstm.load_model(tmp_path / "folder")
    assert again.layout == layout
    assert torch.equal(again(noise(1, 9_000)), model(noise(1, 9_000)))
    found = json.loads((tmp_path / "folder/config.json").read_text())
    assert config_from_dict(found["encoder"]) == config
    assert (found["layout"], found["hidden_size"]) == (layout, config.embedding_size)


def test_the_weights_file_stays_as_it_is(weights, tmp_path):
    hear_axlstm.pack(weights, tmp_path / "folder")
    assert (tmp_path / "folder/model.safetensors").read_bytes() == weights.read_bytes()


def test_a_folder_packs_itself_and_stays_the_same_when_it_is_packed_again(weights, tmp_path):
    folder = tmp_path / "folder"
    hear_axlstm.pack(weights, folder)
    before = {name: (folder / name).read_bytes() for name in FILES}
    for source in (weights, folder):
        hear_axlstm.pack(source, folder)
        assert {name: (folder / name).read_bytes() for name in names_in(folder)} == before


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_differs_is_kept_unless_it_may_be_replaced(name, weights, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_text("somebody's own")
    (folder / "notes.txt").write_text("somebody's own")
    with pytest.raises(OutputError, match=rf"{re.escape(name)} is there, and is not what would be written; .*--overwrite"):
        hear_axlstm.pack(weights, folder)
    assert names_in(folder) == {name, "notes.txt"}
    assert (folder / name).read_text() == "somebody's own"
    hear_axlstm.pack(weights, folder, overwrite=True)
    assert names_in(folder) == {"notes.txt", *FILES}
    hear_axlstm.load_model(folder)


def test_nothing_is_written_where_there_is_nothing_to_pack(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 100)
    for source in (tmp_path / "broken.safetensors", tmp_path / "none", "axlstm-tinny"):
        with pytest.raises(WeightsError):
            hear_axlstm.pack(source, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_folder_that_cannot_be_written_is_told(weights, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be written"):
            hear_axlstm.pack(weights, folder)


def test_the_command_writes_the_folder_and_says_where(weights, tmp_path):
    arguments = ["pack", str(weights), "-o", str(tmp_path / "folder")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'folder'}\n")
    (tmp_path / "folder/README.md").write_text("my own card")
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "README.md is there" in refused.stderr
    assert CliRunner().invoke(main, [*arguments, "--overwrite"]).exit_code == 0
    assert CliRunner().invoke(main, ["pack", "axlstm-tinny", "-o", str(tmp_path / "other")]).exit_code == 1


@pytest.mark.parametrize("name", [name for name in list_models() if read_manifest()["variants"][name]["sources"]["bundled"]])
def test_the_card_of_bundled_weights_has_their_numbers(name):
    card, entry = folder_texts(read_facts(find_weights(name)))["README.md"], read_manifest()["variants"][name]
    told = front_matter(card)
    assert (told["library_name"], told["pipeline_tag"], told["license"]) == (
        "hear-axlstm",
        "feature-extraction",
        "apache-2.0",
    )
    assert {"audio", entry["architecture"]["family"], "transformers", "sentence-transformers"} <= set(told["tags"])
    assert f"# {name}\n" in card
    assert entry["training_data"] in card
    assert f"| **mean** | **{entry['scores']['mean']}** |" in card
    for task, score in entry["scores"]["tasks"].items():
        assert f"| {task} | {score} |" in card


def test_the_card_of_other_weights_claims_nothing(weights):
    card = folder_texts(read_facts(weights))["README.md"]
    assert front_matter(card)["license"] == "unknown"
    assert "No scores are known of these weights." in card
    assert '"note": "of a test"' in card


@pytest.mark.parametrize("evil", ["x\n---\nlicense: mit", "```\n# A title", '"<script>', "a: b", "näme", "` ", ""])
def test_names_do_not_change_what_a_card_says(evil, tmp_path):
    path = tmp_path / "mine.safetensors"
    hear_axlstm.save_weights(Encoder(CONFIGS[1]), path, {evil: evil})
    facts = {**read_facts(path), "head": {"labels": [evil, "b"], "problem_type": ""}}
    card = folder_texts(facts, name=evil, place=evil)["README.md"]
    plain = folder_texts(facts)["README.md"]
    assert front_matter(card) == front_matter(plain)
    fences, titles = (re.compile(pattern, re.MULTILINE) for pattern in (r"^```", r"^#+ "))
    assert len(fences.findall(card)) == len(fences.findall(plain))
    assert len(titles.findall(card)) == len(titles.findall(plain))
    assert "<script>" not in card.partition("## Training data")[0]


def test_every_variant_has_a_card(random_weights):
    header = read_facts(random_weights("axlstm-tiny"))
    for variant, config in VARIANTS.items():
        texts = folder_texts({**header, "config": config.to_dict()}, name=variant, place=f"me/{variant}")
        assert front_matter(texts["README.md"])["library_name"] == "hear-axlstm"
        assert f'load_model("me/{variant}")' in texts["README.md"]
        assert json.loads(texts["config.json"])["hidden_size"] == config.embedding_size


def with_a_head(path, facts, value=1.0):
    config = CONFIGS[1]
    head = facts, {"weight": torch.full((2, 80), value), "bias": torch.zeros(2)}
    write_weights(config, Encoder(config).state_dict(), path, {}, layout="time", head=head)


def test_load_model_passes_a_head_by_and_the_folder_names_its_classes(tmp_path):
    with_a_head(tmp_path / "mine.safetensors", {"labels": ["low", "high"], "problem_type": "regression"})
    hear_axlstm.load_model(tmp_path / "mine.safetensors")
    hear_axlstm.pack(tmp_path / "mine.safetensors", tmp_path / "folder")
    found = json.loads((tmp_path / "folder/config.json").read_text())
    assert (found["id2label"], found["problem_type"]) == ({"0": "low", "1": "high"}, "regression")
    assert front_matter((tmp_path / "folder/README.md").read_text())["pipeline_tag"] == "audio-classification"
    with pytest.raises(WeightsError, match="NaN"):
        with_a_head(tmp_path / "mine.safetensors", {"labels": ["a", "b"], "problem_type": ""}, torch.nan)


@pytest.mark.parametrize("facts", [{}, {"labels": [], "problem_type": ""}, {"labels": ["a", 1], "problem_type": ""}])
def test_a_head_that_is_unclear_is_refused(facts, tmp_path):
    with_a_head(tmp_path / "mine.safetensors", facts)
    with pytest.raises(WeightsError, match="head"):
        hear_axlstm.load_model(tmp_path / "mine.safetensors")


def test_a_long_provenance_does_not_fill_the_card(tmp_path):
    hear_axlstm.save_weights(Encoder(CONFIGS[1]), tmp_path / "mine.safetensors", {"curve": list(range(10_000))})
    assert len(folder_texts(read_facts(tmp_path / "mine.safetensors"))["README.md"]) < 10_000


def test_python_in_a_card_compiles(weights):
    for text in re.findall(r"^```python\n(.*?)^```$", folder_texts(read_facts(weights))["README.md"], re.M | re.S):
        compile(text, "card", "exec")


def test_the_line_of_code_names_classes_that_are_there(weights):
    pytest.importorskip("transformers")
    texts = folder_texts(read_facts(weights))
    namespace = {}
    exec(texts["modeling_hear_axlstm.py"], namespace)
    for file in ("config.json", "preprocessor_config.json"):
        for opener, place in json.loads(texts[file])["auto_map"].items():
            module, _, name = place.partition(".")
            assert Path(f"{module}.py").name in texts
            assert isinstance(namespace[name], type), opener
