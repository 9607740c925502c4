"""A temporary folder for a run, which outlives a killed process only until the next run."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

PREFIX = "hear-axlstm-kit-"
LOCK = "lock"  # held as long as the process lives


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the system's temporary one ($TMPDIR); those of processes that were killed are removed first."""
    for lock in Path(gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    with TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        unlocked = Path(folder) / f"no {LOCK}"  # by this name nobody takes it for that of a dead process
        with open(unlocked, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            unlocked.rename(Path(folder) / LOCK)
            yield Path(folder)
