"""Results to report."""

from __future__ import annotations

from pathlib import Path

import pytest

from hear_axlstm.evaluation.report import write_report
from hear_axlstm.evaluation.report.summary import summarise
from tests.evaluation.report.world import two_models


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory):
    """Two models, two protocols, a failed task, a missing one and a missing seed."""
    return two_models(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def summary(results):
    return summarise(results)


@pytest.fixture(scope="session")
def page(results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(write_report(results, "html"), encoding="utf-8")
    return path
