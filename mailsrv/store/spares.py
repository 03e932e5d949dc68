"""Spool files used again: the file of an entry that was decided becomes the draft of the next, in place of a new one.

To create a file costs several times as much as to fill one that is there: with each creation, ext4 without a journal
looks at every inode that was removed within the last minutes (docs/PERFORMANCE.md has the figures).

Delivery gives, `smtp` takes. What is taken is overwritten, so nobody else may have it in hand: neither by another name,
nor as an open file. And it must not come back as the entry that it was: after a power loss that would be an entry
with the octets of another. So a file is taken only once `new/`, which it has left, has been synced since.
"""

import fcntl
import os
import stat
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mailsrv.store import durable
from mailsrv.store.durable import Spare

MOST_SPARES: Final = 256
MOST_OCTETS: Final = 64 * 1024  # of a file that is kept


class Spares:
    """The folder of the files that wait to be used again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._room = 0
        self._was_given = False  # anything, since the last sweep

    def count(self) -> None:
        """Learn how many more may be kept; to be called before many are given."""
        if self._room >= MOST_SPARES // 2:
            return
        try:
            self._room = MOST_SPARES - len(os.listdir(self.folder))
        except OSError:
            self._room = 0

    def give(self, path: Path) -> bool:
        """Keep a file that counts no more, in place of removing it; False where it is to be removed."""
        if self._room <= 0:
            return False
        try:
            is_worth_keeping = _is_worth_keeping(path.lstat())
        except OSError:
            return False
        if not is_worth_keeping or durable.put_away(path, self.folder / path.name) is not None:
            return False
        self._room -= 1
        self._was_given = True
        return True

    def sweep(self) -> None:
        """Remove all, unless some were given since the last sweep: where little mail comes in, none are needed."""
        was_given, self._was_given = self._was_given, False
        if not was_given:
            with suppress(OSError):
                durable.forget([self.folder / name for name in os.listdir(self.folder)])


class Stock:
    """The spare files that one process may take, in a folder that others look at as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: deque[str] = deque()

    def look(self, pace: int) -> list[str]:
        """What may be added once `new/` has been synced, if less is left than is taken twice; `pace` is once."""
        if len(self._names) >= 2 * pace:
            return []
        try:
            known = set(self._names)
            return [name for name in os.listdir(self._folder) if name not in known]
        except OSError:
            return []

    def add(self, names: Iterable[str]) -> None:
        """`new/` has been synced since these were looked at."""
        self._names.extend(names)

    def take(self, path: Path) -> Spare | None:
        """A spare file, from now on at `path`, open for writing, its octets still in it, if there is one."""
        while True:
            try:
                spare = self._folder / self._names.popleft()
            except IndexError:
                return None
            if durable.put_away(spare, path) is not None:  # somebody else was first, or it was swept away
                continue
            with suppress(OSError):
                fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                status = os.fstat(fd)
                if status.st_nlink == 1 and _is_ours_alone(fd):
                    return Spare(fd, status.st_size, status.st_dev)
                os.close(fd)
            with suppress(OSError):
                path.unlink()


def _is_worth_keeping(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= MOST_OCTETS


def _is_ours_alone(fd: int) -> bool:
    """Whether nobody else has it open: only then the kernel gives a lease for writing."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True
