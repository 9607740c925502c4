"""Debian packages of recordings: fetched, unpacked, and the sounds that are in them."""

import re
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from hear_axlstm.audio import audio_seconds
from hear_axlstm.errors import AudioError
from hear_axlstm.files.find import is_audio
from hear_axlstm.storage import sha256_of

PACKAGES = tomllib.loads(Path(__file__).with_name("open_sound.toml").read_text(encoding="utf-8"))
KINDS = ("speech", "music", "effects")
SHORTEST = 0.02  # seconds: what is shorter has nothing to hear


@dataclass(frozen=True)
class Recording:
    """A sound of a package. place: its path there. kind: speech, music or effects; None for what is never trained on."""

    package: str
    place: str
    path: Path
    seconds: float
    kind: str | None


def fetch(name: str, folder: Path) -> Path:
    """The file of a package in ``folder``, downloaded unless it is there. Raises ClickException where it cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = PACKAGES[name]
    if (deb := _found(name, folder)) is None:
        try:
            subprocess.run(["apt-get", "download", f"{name}={facts['version']}"], cwd=folder, check=True)  # noqa: S603, S607
        except subprocess.CalledProcessError as error:
            raise click.ClickException(
                f"{name} {facts['version']} could not be fetched ({error}); run `apt-get update` on a machine whose sources "
                f"have Debian bookworm's main section, or put the package's file into {folder}"
            ) from error
        deb = _found(name, folder)
    if deb is None:
        raise click.ClickException(
            f"no file {folder}/{name}_*.deb has the sha256 {facts['sha256']}; remove them and try again"
        )
    return deb


def _found(name: str, folder: Path) -> Path | None:
    return next((deb for deb in folder.glob(f"{name}_*.deb") if sha256_of(deb) == PACKAGES[name]["sha256"]), None)


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a package into ``folder``, and the containers in it. A folder that is there is whole."""
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", deb, part], check=True)  # noqa: S603, S607
    for container in [path for path in part.rglob("*") if path.is_file()]:
        for name, content in _opened(container):
            target = container.with_name(f"{container.name}.d") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    part.rename(folder)


def _opened(container: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the sounds in a container; none where the file is no container."""
    if container.suffix == ".pk3":
        with zipfile.ZipFile(container) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist() if is_audio(Path(name)))
    elif container.name == "queen.1c":
        yield from _of_queen(container.read_bytes())
    elif container.name == "opensfx.cat":
        yield from _of_opensfx(container.read_bytes())


def _of_queen(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The mp3 files of Flight of the Amazon Queen. An entry has a name, a bundle, an offset and a size."""
    for number in range(int.from_bytes(data[13:15], "big")):
        entry = data[15 + 21 * number : 36 + 21 * number]
        name = entry[:12].rstrip(b"\0").decode("ascii")
        offset, size = int.from_bytes(entry[13:17], "big"), int.from_bytes(entry[17:21], "big")
        if name.endswith(".SB"):
            yield f"{name.removesuffix('.SB')}.mp3", data[offset : offset + size]


def _of_opensfx(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The WAV files of OpenTTD's sounds, by number and title, such as "036 Sheep". An entry has an offset and a size.

    There, a byte says how long the description is that follows, in which the title is quoted; the sound comes after it.
    """
    entries = (int.from_bytes(data[:4], "little") & 0x7FFFFFFF) // 8
    for number in range(entries):
        entry = data[8 * number : 8 * number + 8]
        start, size = int.from_bytes(entry[:4], "little") & 0x7FFFFFFF, int.from_bytes(entry[4:], "little")
        sound = start + 1 + data[start]
        title = data[start + 1 : sound].decode("utf-8", "replace").split('"')[1]
        yield f"{number:03d} {re.sub(r'[^A-Za-z0-9]+', ' ', title).strip()}.wav", data[sound : sound + size]


def recordings(unpacked: Path) -> list[Recording]:
    """The sounds of all packages: of exact copies the first one, without files that are too short or cannot be read."""
    found: dict[str, Recording] = {}
    for name, facts in PACKAGES.items():
        root = unpacked / name
        for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and is_audio(path)):
            place = f"/{path.relative_to(root)}"
            kind = next((kind for kind in KINDS if kind in facts and re.search(facts[kind], place)), None)
            trained = any(kind in facts for kind in KINDS)
            if (trained and kind is None) or (content := sha256_of(path)) in found:
                continue
            try:
                seconds = audio_seconds(path)
            except AudioError as error:
                click.echo(f"left out: {error}", err=True)
                continue
            if seconds >= SHORTEST:
                found[content] = Recording(name, place, path, seconds, kind)
    return list(found.values())
