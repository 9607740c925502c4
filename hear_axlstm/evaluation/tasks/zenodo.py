"""Names of HEAR tasks -> their archives (48 kHz) from Zenodo, continued where a broken line or a killed call left off."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.error import HTTPError

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import OutputError, TaskError
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, check_names
from hear_axlstm.progress import Bar, progress_bar
from hear_axlstm.version import __version__

LOGGER = logging.getLogger("hear_axlstm")

RECORD = "6332517"  # version 2021.3; 10.5281/zenodo.5885750 stands for all versions
API = "https://zenodo.org/api/records"

CHUNK = 1 << 16  # bytes read at once: what a break may lose
PROGRESS = 1 << 20  # bytes after which a line that broke counts as a good one
TRANSIENT = frozenset({408, 425, 429})  # besides 5xx
BYTES_PER_SECOND = 2 * SAMPLE_RATE  # of a clip once it is prepared
PREPARED_SHARE = 0.5  # of an archive's size, where clips differ in length: a third of the samples, not compressed

LARGEST_ANSWER = 16 << 20  # bytes; the record of the tasks has 100 kB
LARGEST_FILE = 1 << 50
NO_RECORD = "is the record's number right?"
RECORD_TRIES = 4  # fewer than for an archive, since nothing is lost by then

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How often and how long a download is retried.

    tries: how many may fail in a row without getting 1 MiB further. pause: s before the second one; it doubles from try to
    try, up to ``longest``. timeout: s without a byte.
    """

    tries: int = 8
    pause: float = 1.0
    longest: float = 120.0
    timeout: float = 60.0


PATIENCE = Patience()


@dataclass(frozen=True)
class RecordFile:
    """A file of a Zenodo record. size: bytes."""

    name: str
    size: int
    md5: str
    url: str


@dataclass
class Downloaded:
    """The archives and failures of one call of ``download_tasks``.

    archives: task -> file, in the order of the names. skipped: tasks that were there already. failures: task -> reason.
    """

    archives: dict[str, Path] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class _BrokenError(Exception):
    """A failure that may not happen the next time. wait: s that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _RangeError(Exception):
    """The server has nothing from the asked byte on: HTTP 416."""


def download_tasks(
    names: Sequence[str],
    folder: Path,
    *,
    record: str = RECORD,
    api: str = API,
    patience: Patience = PATIENCE,
    progress: bool = False,
) -> Downloaded:
    """Fetch the archives of tasks, named by folder as in the catalogue, and check their sizes and md5 sums.

    An archive gets its name when it is whole; until then it is NAME.part, which the next call continues. One that is there
    is not fetched again. One that fails is recorded in ``failures``, and the others go on.
    progress: a bar on stderr.

    Raises ConfigError on unknown names, TaskError when the record cannot be read, OutputError when the disk is too small
    for what is missing, OSError when it cannot be written.
    """
    check_names(names)
    targets = {name: folder / KNOWN_TASKS[name].archive for name in names}
    result = Downloaded(skipped=[name for name, target in targets.items() if target.is_file()])
    if missing := [name for name in targets if name not in result.skipped]:
        folder.mkdir(parents=True, exist_ok=True)
        files = read_record(record, api=api, patience=patience)
        listed = {name: files[target.name] for name in missing if (target := targets[name]).name in files}
        for name in missing:
            if name not in listed:
                result.failures[name] = (
                    f"record {record} has no {targets[name].name}; its files: {', '.join(files) or 'none'}"
                )
        _check_space(listed, folder)
        total, there = sum(file.size for file in listed.values()), sum(_got(folder, file) for file in listed.values())
        with progress_bar(total=total, initial=there, unit="B", unit_scale=True, desc="download", shown=progress) as bar:
            for number, (name, file) in enumerate(listed.items(), 1):
                bar.set_description(f"archive {number} of {len(listed)}: {name}")
                try:
                    _fetch(file, targets[name], patience, bar)
                except TaskError as error:
                    result.failures[name] = str(error)
    result.archives = {name: target for name, target in targets.items() if name not in result.failures}
    return result


def read_record(record: str = RECORD, *, api: str = API, patience: Patience = PATIENCE) -> dict[str, RecordFile]:
    """The files of a record by name. Raises TaskError when it cannot be read or is not as Zenodo's API documents it."""
    url = f"{api}/{record}"

    def ask() -> Any:
        with _open(url, {"Accept": "application/json"}, patience) as response:
            try:
                content = response.read(LARGEST_ANSWER + 1)
                if len(content) > LARGEST_ANSWER:
                    raise TaskError(f"{url}: the answer has more than {LARGEST_ANSWER:,} bytes; {NO_RECORD}")
                return json.loads(content)
            except (OSError, HTTPException, ValueError, RecursionError) as error:
                if isinstance(error, TaskError):
                    raise
                raise _BrokenError(f"{url}: the answer is not whole ({_cause(error)})") from error

    patience = replace(patience, tries=min(patience.tries, RECORD_TRIES))
    answer = _patiently(ask, patience, lambda: 0)
    try:
        files = [_record_file(entry, url) for entry in _entries(answer)]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise TaskError(f"{url}: not a Zenodo record as its API documents one ({error!r}); {NO_RECORD}") from error
    return {file.name: file for file in files}


def _entries(answer: Any) -> list[Mapping[str, Any]]:
    """The record's files: a list in the usual form of the API, "entries" by name in InvenioRDM's."""
    files = answer["files"]
    return files if isinstance(files, list) else list(files["entries"].values())


def _record_file(entry: Mapping[str, Any], record_url: str) -> RecordFile:
    name, size, links = entry["key"], entry["size"], entry.get("links", {})
    if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < LARGEST_FILE:
        raise ValueError(f"a file called {name!r} has a size of {size!r} bytes")
    kind, _, md5 = entry["checksum"].partition(":")
    if kind != "md5" or not re.fullmatch("[0-9a-f]{32}", md5):
        raise ValueError(f"{name}: checksum {entry['checksum']!r} is not an md5")
    # "self" was the content in the API of 2023 and before; today it may be the file's description, one level above that.
    url = links.get("content") or links.get("download") or links.get("self") or f"{record_url}/files/{name}/content"
    if url == f"{record_url}/files/{name}":
        url += "/content"
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{name}: {url!r} is not a web address")
    return RecordFile(name, size, md5, url)


def _check_space(files: Mapping[str, RecordFile], folder: Path) -> None:
    needed = sum(file.size - _got(folder, file) for file in files.values())
    later = sum(_prepared_bytes(name, file) for name, file in files.items())
    free = shutil.disk_usage(folder).free
    figures = (
        f"{folder}: the archives need {needed / 1e9:.2f} GB, then the tasks at 16 kHz about {later / 1e9:.2f} GB more; "
        f"{free / 1e9:.2f} GB are free"
    )
    if needed > free:
        raise OutputError(f"{figures}. Make room, choose another folder, or name fewer tasks")
    if needed + later > free:
        LOGGER.warning("%s: prepare them on another disk, or one by one, deleting the archives", figures)


def _prepared_bytes(name: str, file: RecordFile) -> float:
    task = KNOWN_TASKS[name]
    if task.clips is None or task.seconds is None:
        return PREPARED_SHARE * file.size
    return task.clips * task.seconds * BYTES_PER_SECOND


def _got(folder: Path, file: RecordFile) -> int:
    """How many bytes of a file have been fetched, 0 before it is begun."""
    part = _part(folder / file.name)
    return part.stat().st_size if part.is_file() else 0


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _fetch(file: RecordFile, target: Path, patience: Patience, bar: Bar) -> None:
    part = _part(target)
    for last in (False, True):
        _patiently(lambda: _continue(file, part, patience, bar), patience, lambda: _got(target.parent, file))
        if not (fault := _fault(file, part)):
            part.replace(target)
            return
        bar.update(-part.stat().st_size)
        part.unlink()
        LOGGER.warning("%s: %s; deleted%s", file.name, fault, "" if last else ", and fetched again from the start")
    raise TaskError(f"{file.name}: {fault}, also when fetched again; deleted. Repeat it later, and report it if it stays so")


def _fault(file: RecordFile, path: Path) -> str:
    """The fault of a finished download in words; empty when there is none."""
    if (size := path.stat().st_size) != file.size:
        return f"it has {size:,} bytes, but the record says {file.size:,}"
    with open(path, "rb") as content:
        md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "" if md5 == file.md5 else f"its md5 is {md5}, but the record says {file.md5}"


def _continue(file: RecordFile, part: Path, patience: Patience, bar: Bar) -> None:
    """Add to ``part`` until it has the file's size, or more when the server sends more."""
    got = _got(part.parent, file)
    if got >= file.size:
        return
    headers = {"Range": f"bytes={got}-"} if got else {}
    try:
        response = _open(file.url, headers, patience)
    except _RangeError as error:
        bar.update(-got)
        part.unlink()
        raise _BrokenError(f"{file.name}: the server does not go on at byte {got:,}") from error
    with response, open(part, "ab") as out:
        if got and not response.headers.get("Content-Range", "").startswith(f"bytes {got}-"):
            out.truncate(0)  # the server ignores Range: this is the file from its start
            bar.update(-got)
            got = 0
        while got <= file.size:
            try:
                content = response.read(CHUNK)
            except (OSError, HTTPException) as error:
                raise _BrokenError(f"{file.name}: the connection broke at byte {got:,} ({_cause(error)})") from error
            if not content:
                break
            out.write(content)
            bar.update(len(content))
            got += len(content)
    if got < file.size:
        raise _BrokenError(f"{file.name}: the connection ended at byte {got:,} of {file.size:,}")


def _open(url: str, headers: Mapping[str, str], patience: Patience) -> HTTPResponse:
    """The response. Raises TaskError for a refusal that will stay, _BrokenError for one that may not, _RangeError."""
    request = urllib.request.Request(url, headers={"User-Agent": f"hear-axlstm/{__version__}", **headers})  # noqa: S310 - http(s)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=patience.timeout)  # noqa: S310 - http(s)
        return response
    except HTTPError as error:
        with error:
            reason = f"{url}: the server answers {error.code} {error.reason}"
            if error.code == 416:
                raise _RangeError from error
            if error.code in TRANSIENT or error.code >= 500:
                raise _BrokenError(reason, _seconds_to_wait(error.headers.get("Retry-After"))) from error
            raise TaskError(f"{reason}; check the address, and that Zenodo still has the record") from error
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"{url}: no connection ({_cause(error)})") from error


def _seconds_to_wait(value: str | None) -> float:
    """The seconds that a Retry-After header asks for, which holds seconds or a date.

    >>> _seconds_to_wait("3"), _seconds_to_wait("Fri, 31 Dec 1999 23:59:59 GMT"), _seconds_to_wait("soon")
    (3.0, 0.0, 0.0)
    """
    if value is None:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _patiently(step: Callable[[], T], patience: Patience, reached: Callable[[], int]) -> T:
    """Repeat ``step`` until it is not broken, and return its result.

    reached: how many bytes there are by now. Raises TaskError when the tries are used up.
    """
    failed, furthest = 0, reached()
    while True:
        try:
            return step()
        except _BrokenError as broken:
            if reached() >= furthest + PROGRESS:
                failed, furthest = 0, reached()
            failed += 1
            if failed >= patience.tries:
                raise TaskError(
                    f"{broken}; given up after {failed} tries. Repeat it later: what is there is continued"
                ) from broken
            seconds = min(max(broken.wait, patience.pause * 2 ** (failed - 1)), patience.longest)
            LOGGER.warning("%s; again in %.0f s", broken, seconds)
            sleep(seconds)


def _cause(error: BaseException) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__
