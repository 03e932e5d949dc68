"""Sizes of messages whose names do not tell them: measured once, and remembered in the mailbox, also across restarts.

What is remembered holds for a file of the same name (without flags), size and time of change; anything else is measured
anew. The file is replaced whole; one that is damaged counts as not there.
"""

import logging
import os
from pathlib import Path
from typing import Final

from mailsrv.store import durable

logger = logging.getLogger(__name__)

SIZES_NAME: Final = "mailsrv.sizes"
_FIRST_LINE: Final = b"mailsrv sizes 1"
_PIECE: Final = 256 * 1024


class Measured:
    """What is known of one mailbox; `note` after all have been asked for.

    Both memories are of octets, by name: b"size changed octets", the size and the time of change (ns) of the file.
    """

    def __init__(self, mailbox: Path) -> None:
        self._path = mailbox / SIZES_NAME
        self._before: dict[bytes, bytes] | None = None  # read when it is first needed
        self._now: dict[bytes, bytes] = {}
        self._is_new = False

    def octets_of(self, path: str, name: str) -> int:
        """Octets on the wire of the file at `path`, known by `name` whatever its flags; raises OSError."""
        if self._before is None:
            self._before = _read(self._path)
        found = os.stat(path)  # noqa: PTH116 (a Path for each of 100,000 costs as much again)
        file = b"%d %d " % (found.st_size, found.st_mtime_ns)
        key = os.fsencode(name)
        known = self._before.pop(key, None)
        if known is None or not known.startswith(file):
            self._is_new = True
            known = b"%s%d" % (file, _measure(path))
        self._now[key] = known
        return int(known[len(file) :])

    def note(self) -> None:
        """Remember what was measured, and forget what is gone; it does no harm if that cannot be written."""
        if not self._is_new:
            return
        lines = bytearray()
        number = 0
        for name, known in self._now.items():
            if b"\n" not in name:
                lines += b"%s %s\n" % (known, name)
                number += 1
        try:
            durable.write_file(self._path, b"%s %d\n%s" % (_FIRST_LINE, number, lines))
        except OSError as error:
            logger.warning("sizes of messages are not remembered: %s: %s", self._path, error.strerror)


def _read(path: Path) -> dict[bytes, bytes]:
    known = {}
    try:
        with path.open("rb") as lines:
            first = next(lines, b"")
            for line in lines:
                size, changed, octets, name = line.split(b" ", 3)
                if not name.endswith(b"\n"):
                    raise ValueError(name)
                known[name[:-1]] = b"%d %d %d" % (int(size), int(changed), int(octets))
    except FileNotFoundError:
        return {}
    except ValueError:  # a line that is none of ours
        first = b""
    except OSError as error:
        logger.warning("sizes of messages cannot be read: %s: %s", path, error.strerror)
        return {}
    if first == b"%s %d\n" % (_FIRST_LINE, len(known)):
        return known
    logger.warning("sizes of messages are measured anew: %s is damaged", path)
    return {}


def _measure(path: str) -> int:
    octets, last = 0, b""
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            bare = piece.count(b"\n") - piece.count(b"\r\n") - (last == b"\r" and piece[:1] == b"\n")
            octets += len(piece) + bare
            last = piece[-1:]
    return octets if last in (b"\n", b"") else octets + 2  # RETR ends an unfinished line
