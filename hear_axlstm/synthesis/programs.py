"""Programs that synthesise, where they are installed: they are found on the PATH and run without a shell."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from hear_axlstm.errors import AudioError, ConfigError

PACKAGES = {"espeak-ng": "espeak-ng", "fluidsynth": "fluid-synth"}  # Debian's package has the program's name; Homebrew's


def find_program(name: str) -> str:
    """The path of a program of PACKAGES. Raises ConfigError, which says how to install it."""
    if (path := shutil.which(name)) is None:
        raise ConfigError(
            f"the program {name} is not on the PATH; install it (Debian: apt install {name}; "
            f"macOS: brew install {PACKAGES[name]})"
        )
    return path


def run_program(name: str, arguments: Sequence[str], *, stdin: bytes = b"", timeout: float) -> bytes:
    """The bytes that the program writes to stdout within ``timeout`` seconds.

    Raises ConfigError when it is not installed, AudioError when it fails, crashes or takes too long.
    """
    command = [find_program(name), *arguments]
    try:
        return subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=True).stdout  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"{name} did not end within {timeout:g} s; see whether it works: {name} --version") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip() or "it said nothing"
        raise AudioError(f"{name} ended with exit code {error.returncode} ({said}): {' '.join(arguments)}") from error


def program_version(name: str) -> str:
    """The name and version of a program, such as "espeak-ng 1.51". Raises as ``run_program`` does."""
    said = run_program(name, ["--version"], timeout=10).decode("utf-8", "replace")
    number = re.search(r"\d+(\.\d+)+", said)
    return f"{name} {number[0] if number else 'of unknown version'}"
