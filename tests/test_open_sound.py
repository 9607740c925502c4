"""scripts/open_sound.py: containers are opened, and what is set apart holds together."""

import importlib
from pathlib import Path
from string import ascii_lowercase

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_containers_and_what_is_set_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    packages, tasks = importlib.import_module("open_packages"), importlib.import_module("open_tasks")

    entry = b"X.SB".ljust(12, b"\0") + b"\1" + (36).to_bytes(4, "big") + (3).to_bytes(4, "big")
    (tmp_path / "queen.1c").write_bytes(b"QTBLCEM10\0\0\0\0" + (1).to_bytes(2, "big") + entry + b"mp3")
    assert list(packages._opened(tmp_path / "queen.1c")) == [("X.mp3", b"mp3")]

    title = b'"Big cow". CC0\0'
    index = (0x80000008).to_bytes(4, "little") + (3).to_bytes(4, "little")
    (tmp_path / "opensfx.cat").write_bytes(index + bytes([len(title)]) + title + b"wav")
    assert list(packages._opened(tmp_path / "opensfx.cat")) == [("000 Big cow.wav", b"wav")]

    def sound(package: str, place: str) -> object:
        return packages.Recording(package, place, tmp_path / package / place.lstrip("/"), 1.0, "speech")

    packs = [sound("hedgewars-data", f"/voices/{pack}/Hello.ogg") for pack in ("Classic", "Default", "Pirate")]
    words = [
        sound("tuxpaint-stamps-default", f"/{n}{v}_desc_{t}.ogg")
        for n in ascii_lowercase
        for v in ("", "2")
        for t in ("fr", "el")
    ]
    _, apart = tasks.set_apart(packs + words)
    assert {path.parent.name for path in apart if path.name == "Hello.ogg"} == {"Pirate"}
    held = {path.name[0] for path in apart} - {"H"}
    assert 0 < len(held) < 26
    assert {path for path in apart if path.name != "Hello.ogg"} == {word.path for word in words if word.path.name[0] in held}
