"""faulthandler: on SIGUSR1 a program writes where each of its threads is, even while one of them spins."""

import faulthandler
import os
import signal
import time
from pathlib import Path
from typing import Final

SIGNAL: Final = signal.SIGUSR1
_SETTLED: Final = 0.1  # seconds without growth after which the stacks are whole


def write_on_signal(path: Path) -> None:
    """Have this process write its stacks to `path` when SIGUSR1 comes, and when it dies of a fault; raises OSError."""
    file = path.open("w", encoding="ascii")  # stays open for the life of the process
    faulthandler.enable(file, all_threads=True)
    faulthandler.register(SIGNAL, file, all_threads=True)


def request(pid: int, path: Path, timeout: float) -> str:
    """The stacks of a process that called `write_on_signal`, or why there are none, after at most `timeout` seconds."""
    before = _size(path)
    try:
        os.kill(pid, SIGNAL)
    except OSError as error:
        return f"no stacks: {error.strerror}\n"
    deadline = time.monotonic() + timeout
    size = before
    while time.monotonic() < deadline:
        time.sleep(_SETTLED)
        if _size(path) == size > before:
            break
        size = _size(path)
    text = path.read_text("ascii", "replace")[before:] if size > before else ""
    return text or "no stacks: the process did not answer\n"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
