"""Runs that draw no guesses, which takes most of a second, unless a test looks at them."""

import pytest

from hear_axlstm.pretraining import watch


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    monkeypatch.setattr(watch, "CLIPS", ())
