"""The ``stream`` command: sound from a pipe in, a row for each embedding out, as soon as it is certain."""

from __future__ import annotations

import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import click
import numpy as np

from hear_axlstm.cli.common import (
    FAILED,
    REFUSED,
    device_option,
    main,
    model_name,
    model_option,
    precision_option,
    quiet_option,
    reported,
    send,
    tell,
    unwarned,
)
from hear_axlstm.config import HOP_MS, MIN_SAMPLES, SAMPLE_RATE, Precision
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.progress import several

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from hear_axlstm.audio.pipe import Raw
    from hear_axlstm.audio.wav import Header
    from hear_axlstm.stream import Statistics, Steps
    from hear_axlstm.stream.standards import Learnt
    from hear_axlstm.stream.streams import Context

Format = Literal["json", "npy"]
Rows = Callable[["Steps"], bytes]
WAITING = 1 << 20  # bytes that may wait in the pipe while weights are read, where the system lets them


@main.command("stream")
@model_option
@click.option(
    "--statistics",
    default="running",
    metavar="running|first|MEAN,DEVIATION|PATH",
    help="Standardise the log-mel by the mean and the deviation of the past (nothing comes in the first second), of the "
    "first seconds (nothing comes in these), by two numbers, or by those of a sound or a folder of sounds that are like "
    "what comes, which is best.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    help="Remember so much of the past (running), or listen for so long (first).",
)
@click.option(
    "--context",
    type=click.Choice(["chunk", "long"]),
    default="chunk",
    help="Begin anew every 2 seconds, as the encoders were trained, or carry the state on, an experiment.",
)
@click.option("--raw", type=click.Choice(["s16le", "f32le"]), help="Read samples without a header, coded like this.")
@click.option("--rate", type=int, help=f"The rate of --raw samples in Hz; by default {SAMPLE_RATE}.")
@click.option("--channels", type=int, help="How many channels take turns in --raw samples; by default 1.")
@click.option("--format", type=click.Choice(get_args(Format)), default="json", help="Write lines of JSON, or npy arrays.")
@precision_option
@device_option
@quiet_option
def stream_command(
    model: str,
    statistics: str,
    seconds: float,
    context: Context,
    raw: Raw | None,
    rate: int | None,
    channels: int | None,
    format: Format,
    precision: Precision,
    device: str,
    quiet: bool,
) -> None:
    """Embed sound on standard input as it comes, a row every 40 ms.

    The sound is a WAV of any rate and any number of channels, as `ffmpeg -i IN -f wav -` and `arecord` write it, or samples
    without a header, with --raw.

    A row is a line {"time_ms": 15.0, "embedding": [...]}, or an npy array with these two fields. It is written as soon as
    it is certain: 42.5 ms after a moment has sounded, or 2 seconds with encoders that need a whole chunk. Resampling from
    8000 Hz or more takes up to 0.12 s besides. When the input ends, or at Ctrl-C, the rest is written.
    """
    from hear_axlstm.audio import too_few
    from hear_axlstm.audio.pipe import SoundPipe

    with reported(REFUSED):
        stdin = _Stdin()
        header = _header(raw, rate, channels)
        from hear_axlstm.hear import load_model  # takes seconds
        from hear_axlstm.stream import Stream

        embedder = load_model(model, precision=precision, device=device)
        standard = _statistics(statistics, quiet)
        with unwarned("hear_axlstm.stream.streams") if quiet else nullcontext():  # of rows that come late
            stream = Stream(embedder, statistics=standard, seconds=seconds, context=context)
    rows = (_json_rows if format == "json" else _npy_rows)(embedder.timestamp_embedding_size)
    heard = written = 0
    with reported(FAILED), stdin.until_interrupted(), _named():
        pipe = SoundPipe(stdin, header)
        resampled = "" if pipe.header.rate == SAMPLE_RATE else "resampled "
        if not quiet:
            every = f"a row every {HOP_MS * embedder.encoder.config.patch[0]:g} ms, {stream.latency_ms:g} ms behind"
            tell(f"stdin: {_said(pipe.header)}; {model_name(model)}: {every} the {resampled}sound")
        for block in pipe.blocks():
            heard += len(block)
            steps = stream.push(block)
            written += len(steps.times)
            if not send(rows(steps)):
                return
        if heard < MIN_SAMPLES:
            raise AudioError(too_few(heard))
        steps = stream.flush()
        written += len(steps.times)
        if send(rows(steps)) and not quiet:
            tell(f"{heard / SAMPLE_RATE:,.1f} s heard, {several(written, 'row')} written")


class _Stdin:
    """Standard input, of which ``read`` returns what is there, and waits only where nothing is.

    Raises ConfigError where that would wait for somebody to type sound.
    """

    def __init__(self) -> None:
        way = "expected sound from a pipe or a file, as in `ffmpeg -i IN -f wav - | hear-axlstm stream`"
        if sys.stdin is None:
            raise ConfigError(f"stdin is closed; {way}")
        if sys.stdin.isatty():
            raise ConfigError(f"stdin is a terminal; {way}")
        self._file: Any = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        self._waits = self._ended = False
        with suppress(AttributeError, OSError, ValueError):  # no pipe, or no Linux
            fcntl.fcntl(self._file, fcntl.F_SETPIPE_SZ, WAITING)

    def read(self, most: int, /) -> bytes:
        """Bytes as they come; none at the end. Raises KeyboardInterrupt from Ctrl-C on."""
        try:
            self._waits = True
            if self._ended:
                raise KeyboardInterrupt
            while (data := self._file.read(most)) is None:  # of a pipe that does not wait
                select.select([self._file], [], [])
            return bytes(data)
        finally:
            self._waits = False

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """Let Ctrl-C end the input: at once where it waits, else when what has come is embedded and written.

        A second one ends everything. Where Ctrl-C is ignored, as in the background, it stays so.
        """

        def end(*_: Any) -> None:
            again, self._ended = self._ended, True
            if again or self._waits:
                raise KeyboardInterrupt

        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _named() -> Iterator[None]:
    """Have what is wrong with the sound begin with its name."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"stdin: {error}") from error


def _header(raw: Raw | None, rate: int | None, channels: int | None) -> Header | None:
    """What the options say of a sound without a header; None of a WAV. Raises ConfigError and AudioError."""
    from hear_axlstm.audio.pipe import RAW
    from hear_axlstm.audio.wav import Header

    if raw is None:
        if not (rate is None and channels is None):
            raise ConfigError(
                "--rate and --channels are for --raw samples; a WAV says its own: leave them out, or give --raw"
            )
        return None
    with _named():
        return Header(RAW[raw], SAMPLE_RATE if rate is None else rate, 1 if channels is None else channels)


def _said(header: Header) -> str:
    """What is known of a sound, for people."""
    return f"{header.coding.name}, {several(header.channels, 'channel')}, {header.rate:,} Hz"


def _statistics(text: str, quiet: bool) -> Statistics | Learnt | tuple[float, float]:
    """What ``Stream`` takes as ``statistics``; those of sounds are measured. Raises ConfigError on anything else."""
    from hear_axlstm import statistics
    from hear_axlstm.stream.standards import Learnt

    if text in get_args(Learnt):
        return cast(Learnt, text)
    with suppress(ValueError):
        mean, deviation = map(float, text.split(","))
        return mean, deviation
    if not text or not Path(text).exists():
        raise ConfigError(f"--statistics is {text!r}; expected running, first, MEAN,DEVIATION, or a path to sounds")
    found = statistics([text])
    if not quiet:
        tell(f"{text}: --statistics {found.mean:.6g},{found.deviation:.6g}")
    return found


def _json_rows(size: int) -> Rows:
    """What writes steps as lines of JSON: nine digits, which give every float32 back exactly."""
    pattern = '{"time_ms": %r, "embedding": [' + ", ".join(["%.9g"] * size) + "]}\n"

    def rows(steps: Steps) -> bytes:
        found = zip(steps.times.tolist(), steps.embeddings.tolist(), strict=True)
        return "".join(pattern % (time, *embedding) for time, embedding in found).encode()

    return rows


def _npy_rows(size: int) -> Rows:
    """What writes steps as npy arrays, one after the other, without dimensions, of the fields time_ms and embedding."""
    dtype = np.dtype([("time_ms", "<f8"), ("embedding", "<f4", (size,))])
    example = BytesIO()
    np.lib.format.write_array(example, np.zeros((), dtype))
    head = example.getvalue()[: -dtype.itemsize]

    def rows(steps: Steps) -> bytes:
        found = np.zeros(len(steps.times), dtype)
        found["time_ms"], found["embedding"] = steps.times.cpu(), steps.embeddings.cpu()
        return b"".join(head + row.tobytes() for row in found)

    return rows
