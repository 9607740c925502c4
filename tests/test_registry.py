"""The table of variants, the manifest, the HEAR modules and the README name the same things."""

import copy
import importlib
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors import safe_open

import hear_axlstm
from hear_axlstm.config import VARIANTS
from hear_axlstm.errors import WeightsError
from hear_axlstm.pretraining import read_recipe
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.find import architecture, manifest_path, read_manifest
from hear_axlstm.weights.load import load_weights
from tests.test_config import PUBLISHED_PARAMETERS

PACKAGE = Path(hear_axlstm.__file__).parent
CONTENT = json.loads(manifest_path().read_text())
SCHEMA = jsonschema.Draft202012Validator(json.loads((PACKAGE / "weights" / "manifest.schema.json").read_text()))


def test_the_manifest_follows_its_schema():
    SCHEMA.validate(CONTENT)


def test_the_manifest_has_every_variant_as_the_table_has_it():
    variants = read_manifest()["variants"]
    assert {name: architecture(name) for name in variants if name in VARIANTS} == VARIANTS
    assert {name: variants[name]["parameters"] for name in VARIANTS} == PUBLISHED_PARAMETERS


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_hear_module(variant):
    module = importlib.import_module(f"hear_axlstm.hear.{variant.replace('-', '_')}")
    assert module.__doc__.startswith(variant)
    assert {"load_model", "get_scene_embeddings", "get_timestamp_embeddings"} <= vars(module).keys()
    with pytest.raises(WeightsError, match=f"no weights of {variant} at"):
        module.load_model()


def test_no_module_stands_for_a_variant_that_is_gone():
    modules = {
        path.stem.replace("_", "-")
        for path in (PACKAGE / "hear").glob("*.py")
        if re.match("(axlstm|ssam|ssast)_", path.stem)
    }
    assert modules == VARIANTS.keys()


BUNDLED = [name for name, entry in read_manifest()["variants"].items() if entry["sources"]["bundled"] is not None]


def test_the_default_is_bundled():
    assert read_manifest()["default"] in BUNDLED


def check_course(training, name):
    """How far the loss of a course of training fell, as a share of what it was."""
    assert read_recipe(training["recipe"], synthetic=1.0).encoder == architecture(name)
    curve = training["loss_curve"]
    assert curve[-1][0] == training["steps"]
    assert curve[-1][1] < curve[0][1]
    return curve[-1][1] / curve[0][1]


@pytest.mark.parametrize("name", BUNDLED)
def test_weights_that_come_with_the_package_say_what_they_are(name):
    entry = read_manifest()["variants"][name]
    bundled, training = entry["sources"]["bundled"], entry["training"]
    path = PACKAGE / bundled["file"]
    assert (sha256_of(path), path.stat().st_size) == (bundled["sha256"], bundled["bytes"])
    assert bundled["bytes"] < 11_000_000
    encoder, header = load_weights(path, expected=architecture(name))
    assert header["sha256"] == bundled["fingerprint"]
    assert entry["licence"] == "Apache-2.0"
    assert "synthesised" in entry["training_data"]
    assert header["provenance"]["steps"] == training["steps"]
    first = training
    while isinstance(first.get("init"), dict):  # what it began with was trained by a recipe, too
        check_course(first, name)
        first = first["init"]
    assert check_course(first, name) < 0.6
    with safe_open(path, "pt") as file:
        assert file.get_tensor("head.0.weight").dtype == torch.float16
    assert sum(p.numel() for p in encoder.parameters()) == entry["parameters"]


MEASURED = json.loads((Path(__file__).parent.parent / "benchmarks/results/open.json").read_text())
CALLED = {"instruments": "instrument-v1-probe", "pitches": "instrument-pitch-v1-probe"}  # there, of these scores


@pytest.mark.parametrize("name", ["axlstm-tiny-open", "ssam-tiny-open"])
def test_scores_are_those_that_were_measured(name):
    scores = read_manifest()["variants"][name]["scores"]
    assert len(scores["tasks"]) == len(MEASURED["tasks"])
    for task, value in scores["tasks"].items():
        assert value == pytest.approx(100 * MEASURED["tasks"][CALLED.get(task, task)][name][0], abs=0.051)
    for key, what in (("mean", name), ("random", f"random:{name}"), ("log_mel", "log-mel")):
        assert scores[key] == pytest.approx(100 * MEASURED["mean"][what][0], abs=0.051)


def test_the_readme_lists_every_variant():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert set(re.findall(r"^\| `((?:axlstm|ssam|ssast)-[a-z0-9-]+)` \|", readme, re.MULTILINE)) == VARIANTS.keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schema_version=2),
        lambda m: m["variants"]["ssam-tiny"].pop("parameters"),
        lambda m: m["variants"]["ssam-tiny"]["architecture"].update(flip=True),
        lambda m: m["variants"]["ssam-tiny"]["sources"].update(hub={"repo": "a/b"}),
    ],
)
def test_the_schema_refuses_a_damaged_manifest(change):
    content = copy.deepcopy(CONTENT)
    change(content)
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(content)
