"""Sizes of messages whose names do not tell them: measured once, and remembered in the mailbox, also across restarts.

What is remembered holds for a file of the same name (without flags), size and time of change; anything else is measured
anew. The file is replaced whole; one that is damaged counts as not there.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mailsrv.store import durable

logger = logging.getLogger(__name__)

SIZES_NAME: Final = "mailsrv.sizes"
_FIRST_LINE: Final = b"mailsrv sizes 1"
_PIECE: Final = 256 * 1024


class Measure(NamedTuple):
    """A file as it was, in octets and in ns since 1970, and its octets with CRLF line ends."""

    size: int
    changed: int
    octets: int


class Measured:
    """What is known of one mailbox; `note` after all have been asked for."""

    def __init__(self, mailbox: Path) -> None:
        self._path = mailbox / SIZES_NAME
        self._before: dict[str, Measure] | None = None  # read when it is first needed
        self._now: dict[str, Measure] = {}
        self._is_new = False

    def octets_of(self, path: str, name: str) -> int:
        """Octets on the wire of the file at `path`, known by `name` whatever its flags; raises OSError."""
        if self._before is None:
            self._before = dict(_read(self._path))
        found = os.stat(path)  # noqa: PTH116 (a Path for each of 100,000 costs as much again)
        measure = self._before.get(name)
        if measure is None or measure[:2] != (found.st_size, found.st_mtime_ns):
            self._is_new = True
            measure = Measure(found.st_size, found.st_mtime_ns, _measure(path))
        self._now[name] = measure
        return measure.octets

    def note(self) -> None:
        """Remember what was measured, and forget what is gone; it does no harm if that cannot be written."""
        if not self._is_new:
            return
        lines = [f"{each.size} {each.changed} {each.octets} {name}" for name, each in self._now.items()]
        octets = [os.fsencode(line) for line in lines if "\n" not in line]
        try:
            durable.write_file(self._path, b"\n".join([b"%s %d" % (_FIRST_LINE, len(octets)), *octets, b""]))
        except OSError as error:
            logger.warning("sizes of messages are not remembered: %s: %s", self._path, error.strerror)


def _read(path: Path) -> Iterator[tuple[str, Measure]]:
    try:
        first, *lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("sizes of messages cannot be read: %s: %s", path, error.strerror)
        return
    if first != b"%s %d" % (_FIRST_LINE, len(lines) - 1):
        logger.warning("sizes of messages are measured anew: %s is damaged", path)
        return
    for line in lines[:-1]:
        size, changed, octets, name = line.split(b" ", 3)
        yield os.fsdecode(name), Measure(int(size), int(changed), int(octets))


def _measure(path: str) -> int:
    octets, last = 0, b""
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            bare = piece.count(b"\n") - piece.count(b"\r\n") - (last == b"\r" and piece[:1] == b"\n")
            octets += len(piece) + bare
            last = piece[-1:]
    return octets if last in (b"\n", b"") else octets + 2  # RETR ends an unfinished line
