"""Whose turn it is to move entries: delivery's, a batch at a time, or that of a command of the operator.

Two locks of the kernel, gone with the process that holds them: the spool itself, and a gate before it. Who wants the
spool holds the gate while waiting for it, so a busy delivery lets a command in after the batch that it has in hand.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.005


class Turns:
    """The two locks, `path` and `path.gate`; opened when they are first needed."""

    def __init__(self, path: Path) -> None:
        self._paths = (path.with_name(f"{path.name}.gate"), path)
        self._fds: tuple[int, ...] = ()

    @contextlib.contextmanager
    def taken(self, patience: float, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be the only one for the time of the context; raises TimeoutError after `patience` seconds, OSError."""
        deadline = time.monotonic() + patience
        gate, spool = self._opened()
        _lock(gate, deadline, while_waiting)
        try:
            _lock(spool, deadline, while_waiting)
        finally:
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(spool, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the files."""
        for fd in self._fds:
            os.close(fd)
        self._fds = ()

    def _opened(self) -> tuple[int, ...]:
        if not self._fds:
            self._paths[0].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fds = tuple(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in self._paths)
        return self._fds


def _lock(fd: int, deadline: float, while_waiting: Callable[[], None]) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the spool is in use by another process")
        while_waiting()
        time.sleep(POLL_SECONDS)
