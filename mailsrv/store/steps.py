"""The last steps of a program, in `var/run/NAME.steps`, for whoever looks after it has died or while it hangs.

A ring of lines in a file that is mapped into memory: writing one costs a microsecond and no system call, and the kernel
keeps it when the process is gone.
"""

import mmap
import os
import time
from pathlib import Path
from typing import Final

LINE_OCTETS: Final = 128
LINES: Final = 128


class Steps:
    """The writing side."""

    def __init__(self, path: Path) -> None:
        """Begin anew; where the disk is full, in memory alone. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, LINE_OCTETS * LINES)  # else a full disk would be a SIGBUS later
            self._ring = mmap.mmap(fd, LINE_OCTETS * LINES)
        except OSError:
            self._ring = mmap.mmap(-1, LINE_OCTETS * LINES)
        finally:
            os.close(fd)
        self._ring[:] = b"\0" * (LINE_OCTETS * LINES)
        self._count = 0
        self._last = "", ""

    def note(self, who: str, what: str) -> None:
        """`who` did `what`, now; what is done again and again is noted when it begins."""
        if (who, what) == self._last:
            return
        self._last = who, what
        line = f"{self._count} {time.time():.3f} {who} {what}"[: LINE_OCTETS - 1].encode("ascii", "replace")
        start = self._count % LINES * LINE_OCTETS
        self._ring[start : start + LINE_OCTETS] = line.ljust(LINE_OCTETS - 1) + b"\n"
        self._count += 1


def read_steps(path: Path) -> list[str]:
    """The last steps, oldest first, each with its seconds since 1970; none where there are none to be read."""
    try:
        octets = path.read_bytes()
    except OSError:
        return []
    numbered = []
    for start in range(0, len(octets), LINE_OCTETS):
        number, _, step = octets[start : start + LINE_OCTETS].decode("ascii", "replace").rstrip().partition(" ")
        if number.isdigit():  # else nothing was ever written there
            numbered.append((int(number), step))
    return [step for _, step in sorted(numbered)]
