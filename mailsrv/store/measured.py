"""Sizes of messages whose names do not tell them: measured once, and remembered in the mailbox, also across restarts.

What is remembered holds for a file of the same name (without flags), size and time of change; anything else is measured
anew. Also remembered is what a name tells wrongly. The file is replaced whole; one that is damaged counts as not there.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mailsrv.store import durable
from mailsrv.store.regular import expect_regular, open_regular

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
        self._before = _read(self._path)
        self._now: dict[bytes, bytes] = {}
        self._is_new = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was known of the mailbox."""
        return not self._before

    def knows(self, name: str) -> bool:
        """Whether a file known by `name` was measured once."""
        return os.fsencode(name) in self._before

    def octets_of(self, path: str, name: str, *, anew: bool = False) -> int:
        """Octets on the wire of the file at `path`, known by `name` whatever its flags; raises OSError.

        `anew`: whatever is remembered of it.
        """
        found = os.lstat(path)
        expect_regular(found, path)
        file = b"%d %d " % (found.st_size, found.st_mtime_ns)
        key = os.fsencode(name)
        known = self._before.pop(key, None)
        if anew or known is None or not known.startswith(file):
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
        with open_regular(path) as lines:
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


def octets_on_the_wire(pieces: Iterable[bytes]) -> int:
    """Of a message in such pieces, as RETR sends it (RFC 1939 §11): with CRLF, which an unfinished line gets too."""
    octets, last = 0, b""
    for piece in pieces:
        octets += len(piece) + piece.count(b"\n")
        if b"\r" in piece:  # to look for one octet is far quicker than to count two
            octets -= piece.count(b"\r\n")
        if last == b"\r" and piece[:1] == b"\n":
            octets -= 1
        last = piece[-1:] or last
    return octets if last in (b"\n", b"") else octets + 2


def _measure(path: str) -> int:
    with open_regular(path) as file:
        return octets_on_the_wire(iter(lambda: file.read(_PIECE), b""))
