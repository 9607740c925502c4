"""Whether the kit is there, and how it is installed."""

from importlib.metadata import PackageNotFoundError

import pytest

from hear_axlstm.errors import EvaluationError
from hear_axlstm.evaluation.kit import require
from hear_axlstm.evaluation.kit.require import require_kit

OURS = "pip install 'hear-axlstm[kit]'"
THEIRS = "pip install --no-deps --ignore-requires-python heareval==2021.1.3"


def not_installed(name):
    raise PackageNotFoundError(name)


def test_the_version_is_told():
    assert require_kit() == "2021.1.3"


def test_without_the_kit_both_commands_are_told(monkeypatch):
    monkeypatch.setattr(require, "version", not_installed)
    with pytest.raises(EvaluationError) as error:
        require_kit()
    assert OURS in str(error.value)
    assert THEIRS in str(error.value)


def test_another_kit_is_refused(monkeypatch):
    monkeypatch.setattr(require, "version", lambda name: "2021.0.1")
    with pytest.raises(EvaluationError, match=r"is 2021\.0\.1; expected 2021\.1\.3") as error:
        require_kit()
    assert THEIRS in str(error.value)


def test_what_the_kit_imports_is_asked_for_by_name(monkeypatch):
    find_spec = require.find_spec
    missing = {"sed_eval", "pytorch_lightning"}
    monkeypatch.setattr(require, "find_spec", lambda name: None if name in missing else find_spec(name))
    with pytest.raises(EvaluationError, match="imports pytorch_lightning, sed_eval, which") as error:
        require_kit()
    assert OURS in str(error.value)
    assert THEIRS not in str(error.value)
