"""What notebooks show of results and models: small, escaped, and never an error."""

import copy
import re

import numpy as np
import pytest
import torch

import hear_axlstm
from hear_axlstm import Embedded, Embedder, Encoder
from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.files import as_html
from hear_axlstm.files.result import Failures
from tests.conftest import noise, tone

EVIL = "</td><script>alert(1)</script>\udcff\n" + "long " * 1_000


def texts(html):
    """What a reader sees, cell by cell."""
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", html)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Embedder(Encoder(AxLSTMConfig(width=16, depth=2)), precision="bfloat16", backend="torch")


def test_a_result_shows_its_first_sounds_and_what_failed(model):
    sounds = [(tone(300, 0.5), SAMPLE_RATE)] * 6 + [(np.zeros(10), SAMPLE_RATE)]
    html = hear_axlstm.embed(sounds, model)._repr_html_()
    found = texts(html)
    assert "Embedded: 7 sounds, 80 numbers each" in html
    assert found.count("0.50 s") == as_html.SHOWN
    assert "and 2 more" in found
    assert found[found.index("1 failure") :] == ["1 failure", "why", "6", found[-1]]
    assert "expected 201 or more" in found[-1]
    assert found[found.index("weights") + 1].startswith("axlstm ")
    assert len(html) < 10_000


@pytest.mark.parametrize("kind", [{"timestamps": True}, {"layers": "all"}, {"timestamps": True, "layers": [0, -1]}])
def test_other_kinds_of_results_show_themselves(model, kind):
    result = hear_axlstm.embed([(tone(300, 0.5), SAMPLE_RATE)], model, **kind)
    assert ("every 40 ms" in result._repr_html_()) == bool(kind.get("timestamps"))
    assert ("layers of 80 numbers" in result._repr_html_()) == bool(kind.get("layers"))


def test_a_folder_and_what_was_there_are_named(model, sound_folder, tmp_path):
    for there in (0, 3):
        result = hear_axlstm.embed(sound_folder, model, out=tmp_path / "out")
        found = texts(result._repr_html_())
        assert str(tmp_path / "out") in found
        assert ("there already" in found) == bool(there)
    assert "a.wav" in texts(hear_axlstm.load_embeddings(tmp_path / "out")._repr_html_())


def test_nothing_shows_itself():
    assert "Embedded: 0 sounds" in Embedded()._repr_html_()


def test_hostile_names_stay_text_and_long_ones_are_cut():
    names = [f"{EVIL}{place}" for place in range(1_000)]
    result = Embedded(names, [None] * 1_000, failures=Failures(dict.fromkeys(names, EVIL)), weights=EVIL)
    html = result._repr_html_()
    assert "<script" not in html
    assert len(html.encode()) < 20_000
    assert "and 995 more" in texts(html)
    assert sum(text.startswith("&lt;/td&gt;&lt;script&gt;") for text in texts(html)) == 16


def test_a_model_says_what_it_is_and_what_to_call(model):
    html = model._repr_html_()
    facts = dict(zip(*[iter(texts(html))] * 2, strict=True))
    assert "Embedder: axlstm" in html
    count = sum(parameter.numel() for parameter in model.parameters())
    assert facts["encoder"] == f"2 blocks of width 16, {count / 1e6:.1f} million parameters"
    assert facts["embedding"] == "80 numbers, of a scene or every 40 ms"
    assert facts["layout"] == "released"
    assert facts["computes in"] == "bfloat16, precision bfloat16, backend torch, on cpu"
    assert facts["centring"].startswith("none")
    assert "16,000 Hz" in facts["takes"]
    assert "hear_axlstm.embed(" in facts["next"]


def test_a_bundled_model_has_its_variant_and_its_centring():
    model = hear_axlstm.load_model("axlstm-tiny-open")
    assert "Embedder: axlstm-tiny" in model._repr_html_()
    assert "the training sound of axlstm-tiny-open" in model._repr_html_()
    model.layout = "released"
    assert "the training sound" not in model._repr_html_()


def test_it_looks_at_no_value(model):
    """So it costs the same on any device, and on the meta device as well."""
    with torch.device("meta"):
        meta = Embedder(Encoder(AxLSTMConfig(width=16, depth=2)), precision="bfloat16", backend="torch")
    assert meta._repr_html_() == model._repr_html_().replace("on cpu", "on meta")


def test_what_is_half_made_shows_its_repr(model):
    broken = copy.copy(model)
    broken.__dict__["_modules"] = {}
    assert broken._repr_html_() is None
    result = hear_axlstm.embed([(noise(8_000).numpy(), SAMPLE_RATE)], model)
    result.durations = None
    assert result._repr_html_() is None
