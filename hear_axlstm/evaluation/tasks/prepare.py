"""An archive of a HEAR task, or its extracted folder, at 48 kHz -> a task folder as hear-eval-kit wants it.

At 16 kHz, which our encoders take, or at another rate for a module that takes that.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from tqdm.utils import CallbackIOWrapper

from hear_axlstm.audio import native_blocks
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError, TaskError
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, TaskFolder, read_task
from hear_axlstm.parallel import ordered_map
from hear_axlstm.progress import Bar, progress_bar, several
from hear_axlstm.storage import LARGEST_JSON, replacing, sweep, write_text

RATES = (48_000, 44_100, 32_000, 22_050)  # Hz, that HEAR publishes beside 16 kHz; of several, the first is taken
UNFINISHED = ".unfinished"  # folder beside the tasks: what is in it is never taken for a task
MADE_OF = "made-of"  # file beside the splits of a task that was made of a folder: the hash of what the sounds there were
SHOWN = 5  # clips that an error names
LONGEST = 3_600  # seconds of a clip; HEAR's longest have 600
LARGEST_CLIP = 1 << 30  # bytes
LARGEST_HEADER = 1 << 20  # bytes of a member's description
PACKED_AT_MOST = 100  # times smaller than its content is an archive of sound
DESCRIBING = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
WAV_HEADER = 44  # bytes of the files that ``write_wav`` writes
ROUNDING = 2  # samples that a clip may be off by
WAITING_BYTES = 256 << 20  # of clips that have been read from an archive and wait to be resampled
FOLDERS = frozenset(map(str, (SAMPLE_RATE, *RATES)))
DESCRIPTIONS = frozenset({".json", ".csv"})

Job = tuple[Path | bytes, Path]  # a sound file or its content, and where its resampled clip goes
ShowBar = Callable[..., Bar]  # ``progress_bar`` for one task


def prepare_task(
    source: Path,
    tasks: Path,
    *,
    sample_rate: int = SAMPLE_RATE,
    workers: int | None = None,
    progress: bool = False,
    title: str = "",
) -> TaskFolder:
    """Make ``tasks``/NAME, the task of an archive (.tar.gz) or of a folder, with its sounds at a rate: mono WAV, 16 bits.

    source: an archive, which is read once and never unpacked to the disk, or a task folder with the sounds at one of
    ``RATES``; a folder that has them at ``sample_rate`` is returned as it is. It may be ``tasks``/NAME itself, which then
    gets a folder of the rate, "16000". sample_rate: Hz, 16000 or one of ``RATES``. workers: threads that resample, as many
    as processors when left out. progress: a bar on stderr. title: what stands before it, the source's name when left out.

    The folder appears when it is whole; a call that was killed is continued by the next one, file by file.

    Raises TaskError, which names the file, when a clip is missing or cannot be decoded, when the archive is damaged, holds
    something else or a path that leads out of it; OSError when a file cannot be written.
    """
    if sample_rate not in (SAMPLE_RATE, *RATES):
        raise ConfigError(f"sample_rate is {sample_rate}; expected one of {SAMPLE_RATE}, {', '.join(map(str, RATES))}")
    bar = partial(progress_bar, desc=title or source.name, shown=progress)
    if source.is_dir():
        return _prepare_folder(source, tasks, sample_rate, workers, bar)
    if source.is_file():
        return _prepare_archive(source, tasks, sample_rate, workers, bar)
    raise TaskError(f"{source}: no such file or folder; expected a .tar.gz of a HEAR task, or its folder")


def unfinished(target: Path, ingredients: Mapping[str, object]) -> Path:
    """The folder, named as ``target``, in which it is put together before ``finish``: one for the same ingredients.

    Folders that were begun for ``target`` with other ingredients are removed.
    """
    key = hashlib.sha256(json.dumps(dict(ingredients), sort_keys=True).encode()).hexdigest()[:12]
    work = target.parent / UNFINISHED / key / target.name
    for other in work.parent.parent.glob(f"*/{target.name}"):
        if other != work:
            shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    for folder in work.glob("*/*/"):
        sweep(folder)
    return work


def finish(work: Path, target: Path) -> None:
    """Give the folder that ``unfinished`` began its name, and remove the folders around it if nothing else is there."""
    work.replace(target)
    _tidy(target.parent / UNFINISHED)


def _tidy(folder: Path) -> None:
    for empty in (*folder.glob("*/"), folder):
        with suppress(OSError):
            empty.rmdir()


def resample_clip(source: Path | bytes, target: Path, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a sound as mono WAV of 16 bits at a rate. Channels are averaged. The file has the time of its source.

    Shape: n samples at ``rate`` -> round(n * sample_rate / rate), halves upwards. Raises TaskError when it cannot be
    decoded, is not finite, or lasts longer than ``LONGEST``.
    """
    name = "/".join(target.parts[-2:]) if isinstance(source, bytes) else str(source)
    status = None if isinstance(source, bytes) else _status(source)
    try:
        wave, rate = _decoded(io.BytesIO(source) if isinstance(source, bytes) else source, name)
    except AudioError as error:
        raise TaskError(f"{error}; mend or replace it") from error
    if not len(wave):
        raise TaskError(f"{name}: holds no samples; mend or replace it")
    if not np.isfinite(wave).all():
        raise TaskError(f"{name}: holds NaN or infinity; mend or replace it")
    if rate != sample_rate:
        wave = soxr.resample(wave, rate, sample_rate, quality="VHQ")
    write_wav(target, wave, sample_rate)
    if status is not None:
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _decoded(source: Path | io.BytesIO, name: str) -> tuple[NDArray[np.float32], int]:
    """The samples of a clip, (n,), and their rate. Raises AudioError."""
    blocks: list[NDArray[np.float32]] = []
    rates: set[int] = set()
    samples = 0
    for rate, block in native_blocks(source, name):
        blocks.append(block)
        rates.add(rate)
        samples += len(block)
        if len(rates) > 1 or samples > LONGEST * rate:
            raise AudioError(f"{name}: {f'rates of {rates} Hz' if len(rates) > 1 else f'longer than {LONGEST:,} s'}")
    return (np.concatenate(blocks), rates.pop()) if blocks else (np.zeros(0, np.float32), SAMPLE_RATE)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); mend or replace it") from error


def write_wav(target: Path, wave: NDArray[Any], sample_rate: int) -> None:
    """Samples (n,) in [-1, 1] -> a WAV file of 16 bits, which appears whole or not at all. Raises OSError."""
    # Not scaled by libsndfile, which takes 32767 one way and 32768 the other.
    samples = np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
    content = io.BytesIO()  # libsndfile says of a full disk that all is well
    soundfile.write(content, samples, sample_rate, format="WAV", subtype="PCM_16")
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())


def _resampled(jobs: Iterable[Job], sample_rate: int, workers: int | None) -> Generator[str, None, None]:
    """Do the jobs, and yield for each why it cannot be done, nothing where it is. Threads: libsndfile, soxr and zlib let
    others work meanwhile. Raises OSError when a file cannot be written.
    """
    return ordered_map(partial(_tried, sample_rate=sample_rate), jobs, workers, size=_bytes_waiting, limit=WAITING_BYTES)


def _tried(job: Job, sample_rate: int) -> str:
    try:
        resample_clip(*job, sample_rate)
    except TaskError as error:
        return str(error)
    except (MemoryError, RuntimeError, ValueError) as error:
        return f"{'/'.join(job[1].parts[-2:])}: cannot be prepared ({error!r}); mend or replace it"
    return ""


def _raise_failures(source: Path, outcomes: Iterable[str]) -> None:
    """Wait for the jobs. Raises TaskError with the first few reasons when some could not be done."""
    if failures := [outcome for outcome in outcomes if outcome]:
        rest = f", and {len(failures) - SHOWN:,} more" if len(failures) > SHOWN else ""
        raise TaskError(
            f"{source}: {several(len(failures), 'clip')} cannot be prepared: {', '.join(failures[:SHOWN])}{rest}"
        )


def _bytes_waiting(job: Job) -> int:
    return len(job[0]) if isinstance(job[0], bytes) else 1


def _prepare_folder(source: Path, tasks: Path, sample_rate: int, workers: int | None, progress: ShowBar) -> TaskFolder:
    task, wanted = read_task(source), str(sample_rate)
    target = tasks / source.absolute().name
    record, in_place = target / wanted / MADE_OF, target.resolve() == source.resolve()
    rate = next((rate for rate in RATES if rate > sample_rate and (source / str(rate)).is_dir()), None)
    if (source / wanted).is_dir() and (rate is None or not (in_place and record.is_file())):
        return task
    if rate is None:
        rates = [str(rate) for rate in (SAMPLE_RATE, *RATES) if rate >= sample_rate]
        raise TaskError(f"{source}: no folder of sounds; expected one of {', '.join(rates)}")
    clips = [Path(split, name) for split in task.splits for name in _clip_names(task, split)]
    if missing := [str(clip) for clip in clips if not (source / str(rate) / clip).is_file()]:
        raise TaskError(f"{source / str(rate)}: clips are missing ({len(missing):,}), {missing[0]} first; extract it again")
    made_of = _made_of(source / str(rate), clips)
    if (in_place and (source / wanted).is_dir()) or (not in_place and _is_finished(target, wanted)):
        if record.is_file() and record.read_bytes() != made_of.encode():
            what = target / wanted if in_place else target
            raise TaskError(f"{what} was made before sounds of {source} changed; remove it, and repeat: it is made again")
        return read_task(target)
    facts = {"source": str(source.resolve()), "rate": rate, "task": task.sha256}
    work = unfinished(target, facts if sample_rate == SAMPLE_RATE else {**facts, "sample_rate": sample_rate})
    audio = work / wanted
    jobs = [
        (source / str(rate) / clip, audio / clip) for clip in clips if not _is_of(audio / clip, source / str(rate) / clip)
    ]
    with progress(_resampled(jobs, sample_rate, workers), total=len(jobs), unit="clip") as bar:
        _raise_failures(source, bar)
    _even_out(task, audio, sample_rate)
    write_text(audio / MADE_OF, made_of)
    if in_place:
        audio.replace(target / wanted)
        shutil.rmtree(work)
        _tidy(tasks / UNFINISHED)
    else:
        for name in (*(f"{split}.json" for split in task.splits), VOCABULARY, METADATA):
            shutil.copyfile(source / name, work / name)
        finish(work, target)
    return read_task(target)


def _made_of(folder: Path, clips: Iterable[Path]) -> str:
    """The hash of the names, sizes and times of clips."""
    digest = hashlib.sha256()
    for clip in clips:
        status = _status(folder / clip)
        digest.update(f"{clip} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_of(made: Path, source: Path) -> bool:
    """Whether a clip was made of its source as that is now, whose time it has."""
    return made.is_file() and made.stat().st_mtime_ns == _status(source).st_mtime_ns


def _prepare_archive(source: Path, tasks: Path, sample_rate: int, workers: int | None, progress: ShowBar) -> TaskFolder:
    archive = _Archive(source, tasks, sample_rate, progress)
    try:
        with closing(_resampled(archive.jobs(), sample_rate, workers)) as outcomes:
            _raise_failures(source, outcomes)
    except BadArchiveError:
        if archive.work is not None:
            shutil.rmtree(archive.work)  # its clips may be damaged, too
        raise
    target, work = archive.target, archive.work
    if target is None:
        raise TaskError(f"{source}: holds no sounds in NAME/48000/SPLIT/; expected a HEAR task")
    if work is None:
        return read_task(target)
    for name, content in archive.descriptions().items():
        (work / name).write_bytes(content)
    task = read_task(work)
    audio = work / str(sample_rate)
    clips = [Path(split, name) for split in task.splits for name in _clip_names(task, split)]
    if missing := [str(clip) for clip in clips if not (audio / clip).is_file()]:
        raise TaskError(f"{source}: clips are missing ({len(missing):,}), {missing[0]} first; download it again")
    _even_out(task, audio, sample_rate)
    finish(work, target)
    return read_task(target)


class BadArchiveError(TaskError):
    """An archive that is damaged, or a trap."""


class _Member(tarfile.TarInfo):
    """A member of an archive, whose description may not be larger than any honest one's: tarfile reads that at once."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in DESCRIBING and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a description of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Archive:
    """An archive that is read once, from its start to its end, wherever in it the task's folder is.

    target: the task that it holds, once the first clip has been met. work: the folder to put it together in, None when the
    target is there already.
    """

    def __init__(self, source: Path, tasks: Path, sample_rate: int, progress: ShowBar) -> None:
        self.target: Path | None = None
        self.work: Path | None = None
        self._source, self._tasks = source, tasks
        self._root, self._wanted = PurePosixPath(), str(sample_rate)
        self._rate = ""
        self._texts: dict[PurePosixPath, bytes] = {}
        self._progress = progress

    def jobs(self) -> Iterator[Job]:
        """The clips that are not made yet. Raises TaskError."""
        try:
            for path, file in self._files():
                if path.suffix in DESCRIPTIONS:
                    self._texts[path] = file.read()
                    self._check_size("descriptions", sum(map(len, self._texts.values())), LARGEST_JSON)
                elif path.suffix == ".wav" and len(path.parts) > 3 and path.parts[-3] in FOLDERS:
                    if self.target is None:
                        self._begin(path)
                    if self.work is None:
                        return
                    if path.parents[2] != self._root:
                        raise BadArchiveError(
                            f"{self._source}: holds two tasks, {self._root} and {path.parents[2]}; expected one"
                        )
                    target = self.work / self._wanted / path.parts[-2] / path.name
                    if path.parts[-3] == self._rate and not target.is_file():
                        yield file.read(), target
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadArchiveError(f"{self._source}: not a whole .tar.gz ({error}); download it again") from error

    def descriptions(self) -> dict[str, bytes]:
        """Metadata, vocabulary and splits, by file name. Raises TaskError when there is no metadata."""
        if self._root / METADATA not in self._texts:
            raise TaskError(f"{self._source}: holds no {self._root / METADATA}; expected a HEAR task")
        return {path.name: content for path, content in self._texts.items() if path.parent == self._root}

    def _begin(self, clip: PurePosixPath) -> None:
        self._root, self._rate = clip.parents[2], clip.parts[-3]
        self.target = self._tasks / self._root.name
        if not _is_finished(self.target, self._wanted):
            facts = self._source.stat()
            made_of = {"archive": self._source.name, "bytes": facts.st_size, "modified": facts.st_mtime_ns}
            other = {} if self._wanted == str(SAMPLE_RATE) else {"sample_rate": self._wanted}
            self.work = unfinished(self.target, {**made_of, **other})

    def _files(self) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
        """The files in it, hidden ones left out; each can be read until the next one is asked for."""
        size = self._source.stat().st_size
        with (
            open(self._source, "rb") as packed,
            self._progress(total=size, unit="B", unit_scale=True) as bar,
            gzip.open(CallbackIOWrapper(bar.update, packed)) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|", bufsize=1 << 20, tarinfo=_Member) as tar,
        ):
            for member in tar:
                path = self._checked_path(member)
                self._check_size("files", member.offset_data + member.size, PACKED_AT_MOST * size + LARGEST_CLIP)
                self._check_size(member.name, member.size, LARGEST_CLIP)
                if member.isfile() and not path.name.startswith("."):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield path, file
            end = 0
            while rest := unpacked.read(1 << 20):  # to its end, where the checksum is
                end += len(rest)
                self._check_size("bytes after its end", end, LARGEST_CLIP)

    def _check_size(self, what: str, size: int, most: int) -> None:
        if size > most:
            raise BadArchiveError(f"{self._source}: {what!r}: {size:,} bytes; expected {most:,} at most: do not trust it")

    def _checked_path(self, member: tarfile.TarInfo) -> PurePosixPath:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or not (member.isfile() or member.isdir()):
            raise BadArchiveError(
                f"{self._source}: holds {member.name!r}, a link or a path that leads out of it; HEAR's archives have none: "
                "do not trust this one"
            )
        return path


def _is_finished(target: Path, rate: str) -> bool:
    """Whether the task is there with its sounds. Raises TaskError when something else has its name."""
    if target.exists() and not (target / rate).is_dir():
        raise TaskError(
            f"{target} is there, but has no folder {rate}; prepare that folder itself, remove it, or choose another folder"
        )
    return target.exists()


def _clip_names(task: TaskFolder, split: str) -> list[str]:
    """The names of a split's clips. Raises TaskError for a name that leads out of the split's folder."""
    names = list(task.clips(split))
    if strange := [name for name in names if PurePosixPath(name).name != name or "\\" in name]:
        raise TaskError(f"{task.path / split}.json: {strange[0]!r} is not a plain file name; correct the file")
    return names


def _even_out(task: TaskFolder, audio: Path, sample_rate: int) -> None:
    """Clips of a task with a duration get its number of samples, where they are off by what rounding does.

    They were cut by ffmpeg at several rates, then resampled to 48 kHz and again by us; the kit stacks clips of equal length.
    """
    if task.sample_duration is None:
        return
    expected = round(task.sample_duration * sample_rate)
    for split in task.splits:
        for name in task.clips(split):
            path = audio / split / name
            samples, status = (path.stat().st_size - WAV_HEADER) // 2, path.stat()
            if 0 < abs(expected - samples) <= ROUNDING:
                wave, _ = soundfile.read(os.fsencode(path))
                write_wav(path, np.pad(wave[:expected], (0, max(0, expected - len(wave)))), sample_rate)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
