"""What a program tells of itself when asked by a signal, even while its main thread spins.

On SIGUSR1 faulthandler writes where each thread is. On SIGRTMIN a thread of its own writes what is open: a process that
has changed its user shows that to nobody else.
"""

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

SIGNAL: Final = signal.SIGUSR1
FILES_SIGNAL: Final = signal.SIGRTMIN
MOST_FILES: Final = 2000
_SETTLED: Final = 0.1  # seconds without growth after which the stacks are whole


def _no_tick() -> None:
    """Nobody else waits."""


def write_on_signal(path: Path) -> None:
    """Have this process answer; to be called before other threads are begun.

    Its stacks go to `path`, also when it dies of a fault; raises OSError.
    """
    file = path.open("w", encoding="ascii")  # stays open for the life of the process
    faulthandler.enable(file, all_threads=True)
    faulthandler.register(SIGNAL, file, all_threads=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {FILES_SIGNAL})
    threading.Thread(target=_write_files, args=(_files_of(path),), name="evidence", daemon=True).start()


def request(pid: int, path: Path, timeout: float, tick: Callable[[], None] = _no_tick) -> str:
    """The stacks of a process that called `write_on_signal`, or why there are none, after at most `timeout` seconds.

    `tick` is called again and again meanwhile.
    """
    before = _size(path)
    try:
        os.kill(pid, SIGNAL)
    except OSError as error:
        return f"no stacks: {error.strerror}\n"
    deadline = time.monotonic() + timeout
    size = before
    while time.monotonic() < deadline:
        time.sleep(_SETTLED)
        tick()
        if _size(path) == size > before:
            break
        size = _size(path)
    text = path.read_text("ascii", "replace")[before:] if size > before else ""
    return text or "no stacks: the process did not answer\n"


def request_files(pid: int, path: Path, timeout: float, tick: Callable[[], None] = _no_tick) -> list[str]:
    """What such a process has open; empty where it does not answer within `timeout` seconds."""
    files = _files_of(path)
    with contextlib.suppress(OSError):
        files.unlink(missing_ok=True)
        os.kill(pid, FILES_SIGNAL)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not files.exists():
            time.sleep(_SETTLED / 5)
            tick()
        return files.read_text("utf-8", "replace").splitlines()
    return []


def _files_of(path: Path) -> Path:
    return path.with_suffix(".files")


def _write_files(path: Path) -> None:
    draft = path.with_name(f".{path.name}.tmp")
    while True:
        signal.sigwait({FILES_SIGNAL})
        with contextlib.suppress(OSError):
            draft.write_text("\n".join(sorted(_open_here())), "utf-8", "backslashreplace")
            draft.replace(path)


def _open_here() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd")[:MOST_FILES]:
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(Path("/proc/self/fd", name).readlink()))
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
