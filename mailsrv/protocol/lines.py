"""Command lines out of octets, for SMTP and POP3: CRLF ends a line, nothing else does."""

from enum import Enum, auto
from typing import Final, NamedTuple

_WORD: Final = 16  # octets, more than any command has


class Fault(Enum):
    """What is wrong with a line."""

    BARE_LINE_END = auto()
    TOO_LONG = auto()


class Line(NamedTuple):
    """A command line without its CRLF; with a fault, its octets are not to be used.

    How a faulty line began is for who must know which command it would have been.
    """

    octets: bytes
    fault: Fault | None = None
    beginning: bytes = b""


class LineReader:
    """Holds what has been received and not yet used; memory is bounded by whoever stops feeding it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # octets of a line with its CRLF
        self._buffer = bytearray()
        self._searched = 0
        self._skipping = False  # the rest of a line that was too long

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, octets: bytes) -> None:
        """Append `octets`."""
        self._buffer += octets

    def take(self, most: int) -> bytes:
        """The next octets, at most so many, for a reader of content."""
        octets = bytes(self._buffer[:most])
        del self._buffer[:most]
        self._searched = 0
        return octets

    def clear(self) -> None:
        """Forget everything not yet used."""
        self._buffer.clear()
        self._searched = 0

    def next_line(self) -> Line | None:
        """The next line, or None while it is not whole.

        A bare LF does end the search (a peer that knows no CR would wait for ever), but as a fault.
        """
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            return self._unfinished()
        octets = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        if self._skipping:
            self._skipping = False
            return self.next_line()
        if len(octets) > self._limit:
            return Line(b"", Fault.TOO_LONG, octets[:_WORD])
        line = octets[:-2]
        if octets[-2:] != b"\r\n" or b"\r" in line:
            return Line(b"", Fault.BARE_LINE_END, octets[:_WORD])
        return Line(line)

    def _unfinished(self) -> Line | None:
        self._searched = len(self._buffer)
        if self._searched <= self._limit:
            return None
        beginning = bytes(self._buffer[:_WORD])
        self.clear()
        if self._skipping:
            return None
        self._skipping = True
        return Line(b"", Fault.TOO_LONG, beginning)
