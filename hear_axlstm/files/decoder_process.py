"""Audio files decoded by another process: ``read_audio`` that neither takes this one's time nor ends it by a crash."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from hear_axlstm.audio import Wave, read_audio
from hear_axlstm.errors import AudioError

# Both __init__.py, and torch with it, is left out: a process starts in 0.1 s and 30 MB, not in 1.3 s and 220 MB. No
# multiprocessing: that would run the user's script again in each process, unless it is guarded.
PROGRAM = """
import os, sys, types
for name, folder in (("hear_axlstm", sys.argv[1]), ("hear_axlstm.files", os.path.join(sys.argv[1], "files"))):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [folder]
from hear_axlstm.files.decoder_process import serve
serve()
"""


class Reader:
    """A process that decodes one file at a time. It starts when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def read_audio(self, path: Path) -> Wave:
        """``audio.read_audio`` over there.

        Raises AudioError also when the process dies of the file, OSError when it does not start.
        """
        if self.process is None:
            self.process = _start()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(pickle.dumps(os.fspath(path)))
            process.stdin.flush()
            outcome = pickle.load(process.stdout)  # noqa: S301 - what ``serve`` wrote
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            self.end()
            raise AudioError(f"{path}: cannot be decoded (the process that tried ended with {_status(process)})") from error
        if isinstance(outcome, AudioError):
            raise outcome
        return outcome

    def kill(self) -> None:
        """Make a ``read_audio`` that another thread waits for return at once, by an AudioError."""
        if (process := self.process) is not None:
            process.kill()

    def end(self) -> None:
        """End the process, if there is one; nothing is lost with it."""
        process, self.process = self.process, None
        if process is not None:
            with suppress(BrokenPipeError), process:  # closes the pipes, and waits
                process.kill()


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy starts them when it is imported, and decoding needs none
    }
    process = subprocess.Popen(  # noqa: S603 - runs this file
        [sys.executable, "-P", "-c", PROGRAM, str(Path(__file__).parent.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is for this process, which then ends that one
    )
    assert process.stdout is not None
    if not process.stdout.read(1):
        with process:
            process.kill()
        raise OSError(f"a process to decode files ended with {_status(process)} as it started; workers=0 does without")
    return process


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def serve() -> None:
    """The other process: answers each path with its wave or an AudioError, until its input ends."""
    replies_to = os.dup(1)
    os.dup2(2, 1)  # what a codec prints is no reply
    with suppress(EOFError, BrokenPipeError), open(replies_to, "wb") as replies:  # raised when nobody listens any more
        replies.write(b"!")
        replies.flush()
        while True:
            path = pickle.load(sys.stdin.buffer)  # noqa: S301 - what ``Reader`` wrote
            try:
                outcome: Wave | AudioError = read_audio(path)
            except AudioError as error:
                outcome = error
            pickle.dump(outcome, replies, protocol=5)  # 5: samples are neither copied here nor there
            replies.flush()
