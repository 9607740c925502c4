"""A process that ends with the one it works for."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

SECONDS = 0.5


def end_with(owner: int, scratch: Path) -> None:
    """From now on, when the parent process is not ``owner`` (any more), remove the folder ``scratch`` and end."""

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(SECONDS)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_on_signals() -> None:
    """SIGINT and SIGTERM end the program by SystemExit: Lightning would take KeyboardInterrupt for the end of a training."""

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
