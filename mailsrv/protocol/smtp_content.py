"""The content of a message while it comes in: framed by DATA or BDAT, and looked through for what must not be taken.

Whatever is found is found again however the octets were cut into pieces: the inspector counts, and the session judges
when the dots or the chunk have ended.
"""

import re
from collections.abc import Iterator
from typing import Final

from mailsrv.model import reply
from mailsrv.model.reply import Reply
from mailsrv.protocol.smtp_events import ContentAbandoned, ContentReceived, Event, Header, HeaderEnded, Limits

MAX_RECEIVED: Final = 100  # RFC 5321 §6.3: at least 100
_SHOWN_LINE: Final = 1000  # octets of an unfinished line of the header by which it is judged
# A name and its colon stand within what is shown of a line, however long that is.
_NAME: Final = rb"([!-9;-~]{1,900})[ \t]{0,90}:"
# The fields that are asked for. To keep the names of all would let one message take as much memory as it has fields.
_ASKED_FOR: Final = re.compile(rb"^(received|date|message-id)[ \t]{0,90}:", re.MULTILINE | re.IGNORECASE)
# The first line that is neither a field nor folded: the empty one, or the beginning of a body that stands without it.
_HEADER_END: Final = re.compile(rb"^(?![ \t]|" + _NAME + rb")(?=[\s\S])", re.MULTILINE)


class ChunkReader:
    """The octets of one BDAT (RFC 3030 §2), as they are."""

    def __init__(self, octets: int, *, is_last: bool) -> None:
        self.left = octets
        self.is_last = is_last

    @property
    def ended(self) -> bool:
        return self.left == 0

    def feed(self, octets: bytes) -> tuple[bytes, bytes]:
        """Content found, and the octets after its end."""
        content, rest = octets[: self.left], octets[self.left :]
        self.left -= len(content)
        return content, rest


class HeaderReader:
    """Looks through the header as it passes. What it has not yet seen whole it keeps back, a line at most."""

    def __init__(self) -> None:
        self._held = b""
        self._is_within_line = False  # of a line so long that its beginning has passed already
        self._names: set[str] = set()
        self.received = 0
        self.header: Header | None = None  # once it has ended

    def feed(self, octets: bytes) -> tuple[bytes, bytes]:
        """The octets that belong to the header, and those after it: nothing until it has ended."""
        window = self._held + octets
        whole = window.rfind(b"\n") + 1
        if len(window) - whole > _SHOWN_LINE:
            whole = len(window)
        lines, self._held = window[:whole], window[whole:]
        start = lines.find(b"\n") + 1 or len(lines) if self._is_within_line else 0
        end = _HEADER_END.search(lines, start)
        self._count(lines[start : end.start()] if end else lines[start:])
        if end is None:
            self._is_within_line = not lines.endswith(b"\n") if lines else self._is_within_line
            return lines, b""
        self.header = Header(frozenset(self._names), lines.startswith(b"\r\n", end.start()))
        rest, self._held = lines[end.start() :] + self._held, b""
        return lines[: end.start()], rest

    def finish(self) -> bytes:
        """The message has ended: what was kept back."""
        last, self._held = self._held, b""
        if self.header is None:
            self._count(last)
            self.header = Header(frozenset(self._names), is_separated=False)
        return last

    def _count(self, lines: bytes) -> None:
        for name in _ASKED_FOR.findall(lines):
            word = name.decode("ascii").lower()
            self._names.add(word)
            self.received += word == "received"


class Inspector:
    """Counts what the session judges a message by."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._has_bare_end = False  # a CR or LF that stands alone
        self._last = b""  # the last two octets
        self._line_octets = 0  # of the line that has not yet ended
        self._has_nul = self._has_long_line = False
        self.octets = 0

    def look(self, octets: bytes) -> None:
        """Look through the next octets of the message."""
        if not octets:
            return
        self._has_bare_end = self._has_bare_end or self._find_bare_end(octets)
        self._has_nul = self._has_nul or b"\0" in octets
        self._measure_lines(octets)
        self._last = (self._last + octets[-2:])[-2:]
        self.octets += len(octets)

    @property
    def lacks_line_end(self) -> bool:
        """Whether the last line has not ended."""
        return self.octets > 0 and self._last != b"\r\n"

    @property
    def _last_line_octets(self) -> int:
        return self._line_octets + len(b"\r\n") if self.lacks_line_end else 0

    def fault(self, received: int, *, is_complete: bool) -> Reply | None:
        """Why the message, as far as it has come, cannot be taken."""
        # A CR that came last may still be followed by its LF.
        if self._has_bare_end or (is_complete and self._last[-1:] == b"\r"):
            return reply.BARE_LINE_END_IN_CONTENT
        if self._has_nul:
            return reply.NUL_IN_CONTENT
        if self._has_long_line or (is_complete and self._last_line_octets > self._limits.max_line_octets):
            return reply.LINE_TOO_LONG_IN_CONTENT
        if received > MAX_RECEIVED:
            return reply.TOO_MANY_HOPS
        if self.octets > self._limits.max_message_octets:
            return reply.MESSAGE_TOO_BIG
        return None

    def _find_bare_end(self, octets: bytes) -> bool:
        """Whether a CR or LF stands alone in the next octets; to leave out the pairs is quicker than to count all."""
        start, end = 0, len(octets)
        if self._last[-1:] == b"\r":
            if octets[:1] != b"\n":
                return True
            start = 1
        if octets[-1:] == b"\r":
            end -= 1
        rest = octets[start:end].replace(b"\r\n", b"")
        return b"\r" in rest or b"\n" in rest

    def _measure_lines(self, octets: bytes) -> None:
        """Find lines that are too long by looking at no more than one line end in so many octets."""
        limit = self._limits.max_line_octets
        start = -self._line_octets  # where the line in hand began, seen from these octets
        while start + limit < len(octets):
            end = octets.rfind(b"\n", max(start, 0), start + limit) if start + limit > 0 else -1
            if end < 0:
                self._has_long_line = True
                break
            start = end + 1
        self._line_octets = len(octets) - 1 - octets.rfind(b"\n") + (self._line_octets if b"\n" not in octets else 0)


class Incoming:
    """One message as it comes in; `tells_header` is for who has to complete headers."""

    def __init__(self, limits: Limits, *, tells_header: bool) -> None:
        self._inspector = Inspector(limits)
        self._header = HeaderReader()
        self._tells_header = tells_header
        self.is_abandoned = False  # what still comes is only looked through

    def take(self, octets: bytes) -> Iterator[Event]:
        """The next octets of the message, as events."""
        self._inspector.look(octets)
        yield from self._pass_on(octets, is_complete=False)

    def finish(self) -> Iterator[Event]:
        """The message has ended; an unfinished last line is ended."""
        ending = b"\r\n" if self._inspector.lacks_line_end else b""
        yield from self._pass_on(ending, is_complete=True)

    def fault(self, *, is_complete: bool = False) -> Reply | None:
        """Why the message, as far as it has come, cannot be taken."""
        return self._inspector.fault(self._header.received, is_complete=is_complete)

    def _pass_on(self, octets: bytes, *, is_complete: bool) -> Iterator[Event]:
        events = list(self._through_header(octets, is_complete=is_complete))
        if self.is_abandoned:
            return
        if self.fault(is_complete=is_complete) is not None:
            self.is_abandoned = True
            yield ContentAbandoned()
        else:
            yield from events

    def _through_header(self, octets: bytes, *, is_complete: bool) -> Iterator[Event]:
        if self._header.header is not None:
            if octets:
                yield ContentReceived(octets)
            return
        inside, after = self._header.feed(octets)
        if is_complete:
            inside += self._header.finish()
        if inside:
            yield ContentReceived(inside)
        if self._tells_header and self._header.header is not None:
            yield HeaderEnded(self._header.header)
        if after:
            yield ContentReceived(after)
