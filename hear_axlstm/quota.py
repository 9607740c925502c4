"""How many processors control groups leave a process: a container with half a processor sees all of the machine's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

SPACES = re.compile(r"\\([0-7]{3})")  # as /proc/self/mountinfo writes spaces and the like


def quota(root: Path = Path("/")) -> int | None:
    """The processors that Linux's control groups, versions 1 and 2, allow this process, rounded up; None: all there are.

    The tightest of the process's group and of those above it counts. root: where /proc and the mounted folders begin.
    """
    shares = [share for folder in _groups(root) if (share := _share(folder)) is not None]
    return max(1, math.ceil(min(shares))) if shares else None


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the process's groups of processors, and of the groups above them."""
    with suppress(OSError):
        groups = dict(_own_groups((root / "proc/self/cgroup").read_text()))
        mounts = (root / "proc/self/mountinfo").read_text()
        for line in mounts.splitlines():
            place, _, kind = line.partition(" - ")
            version = kind.split()[0]
            if version == "cgroup2" or (version == "cgroup" and "cpu" in kind.split()[-1].split(",")):
                top, mounted = (SPACES.sub(lambda code: chr(int(code[1], 8)), text) for text in place.split()[3:5])
                below = PurePosixPath(groups.get(version, "/"))
                # A container may see the whole path of its group, and of the tree only its own part.
                below = below.relative_to(top) if below.is_relative_to(top) else PurePosixPath()
                folder = root / mounted.lstrip("/")
                yield from (folder / part for part in (below, *below.parents) if ".." not in part.parts)


def _own_groups(text: str) -> Iterator[tuple[str, str]]:
    """The kind of file system that a group is found in, and its path there, from /proc/self/cgroup."""
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            yield "cgroup2" if number == "0" else "cgroup", path


def _share(folder: Path) -> float | None:
    """The processors of one group, None where it has no limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (limit := folder / "cpu.max").exists():
            time, period = limit.read_text().split()
        else:
            time, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if time in ("max", "-1") else int(time) / int(period)
    return None
