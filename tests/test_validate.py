"""scripts/validate.py: the command, on a table of tones and noise."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

SCRIPTS = Path(__file__).parents[1] / "scripts"
MODEL = "random:axlstm-tiny"


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("validate")


def test_models_stand_beside_random_weights_and_log_mel(validate, tmp_path):
    rng, rows = np.random.default_rng(0), ["path,label,group"]
    for number in range(12):
        label = ("tone", "noise")[number % 2]
        wave = np.sin(np.arange(8_000) * 0.2 + number) if label == "tone" else rng.normal(size=8_000)
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * wave, 16_000)
        rows.append(f"{number}.wav,{label},{number // 2}")
    (tmp_path / "kinds.csv").write_text("\n".join(rows))

    arguments = [str(tmp_path), MODEL, "--json", str(tmp_path / "scores.json")]
    first, again = (CliRunner().invoke(validate.main, arguments, catch_exceptions=False) for _ in range(2))

    assert first.output == again.output
    assert json.loads((tmp_path / "scores.json").read_text())["mean"] == {MODEL: [1.0], "log-mel": [1.0]}
    assert len(list((tmp_path / "scores").iterdir())) == 2


def test_regression_finds_what_scikit_learn_finds(validate):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    features = rng.normal(size=(60, 20)) + np.eye(3, 20)[labels] * 2
    features = features @ np.linalg.svd(features, full_matrices=False)[2].T

    found = importlib.import_module("linear").regress(features, labels, 3, 0.1, features)

    expected = LogisticRegression(C=0.1, tol=1e-6).fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(found, expected, atol=2e-3)
