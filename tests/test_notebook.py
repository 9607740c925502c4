"""The notebook runs, what it shows is of its cells, and the page of the docs is the notebook."""

import copy

import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from tests.conftest import ROOT, tone

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

from scripts.notebook import NOTEBOOK, PAGE, code_of, page  # noqa: E402


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def executed(notebook, folder, monkeypatch, **parameters):
    """The notebook with other parameters, run in a folder, with a small encoder."""
    torch.manual_seed(0)
    hear_axlstm.save_weights(Encoder(AxLSTMConfig(width=16, depth=2)), folder / "small.safetensors")
    values = {"SOUNDS": "", "TEST": "", "MODEL": "small.safetensors", "CLIPS": 4, "EPOCHS": 1} | parameters
    own = copy.deepcopy(notebook)
    (cell,) = [cell for cell in own.cells if "parameters" in cell.metadata.get("tags", [])]
    for name in values:
        assert name in cell.source
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    nbclient.NotebookClient(own, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return own


def outputs(cell, mime):
    return [output.data[mime] for output in cell.outputs if mime in output.get("data", {})]


def test_the_notebook_runs_with_fewer_sounds(notebook, tmp_path, monkeypatch):
    own = executed(notebook, tmp_path, monkeypatch)
    assert len([picture for cell in code_cells(own) for picture in outputs(cell, "image/png")]) == 2
    assert len(list(tmp_path.glob("sounds/*/*.wav"))) == 2 * len(list(tmp_path.glob("test-sounds/*/*.wav"))) == 32
    assert (tmp_path / "tuned/classifier.safetensors").is_file()


def test_it_takes_a_folder_of_ones_own(notebook, tmp_path, monkeypatch):
    for kind, hertz in {"high": 3_000, "low": 300}.items():
        (tmp_path / "mine" / kind).mkdir(parents=True)
        for number in range(4):
            soundfile.write(tmp_path / "mine" / kind / f"{number}.flac", tone(hertz + 10 * number, 0.4, 44_100), 44_100)
    executed(notebook, tmp_path, monkeypatch, SOUNDS="mine")
    assert not (tmp_path / "sounds").exists()
    assert (tmp_path / "tuned/scores.json").is_file()


def test_what_it_shows_is_of_its_cells(notebook):
    """scripts/notebook.py brings it up to date."""
    assert notebook.metadata["hear_axlstm"]["code"] == code_of(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, 1 + len(code_cells(notebook))))
    assert not [output for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "error"]


def test_the_page_is_the_notebook(notebook):
    text, pictures = page(notebook)
    assert PAGE.read_text() == text
    assert {name: (PAGE.parent / name).read_bytes() for name in pictures} == pictures
