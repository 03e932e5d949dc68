"""The transparency of SMTP DATA (RFC 5321 §4.5.2) and of POP3 multi-line responses (RFC 1939 §3).

Both end at a lone dot and double a dot that begins a line. Reading knows one end only, CRLF.CRLF: anything
that merely looks like it (LF.LF, CR.CR and their mixtures) stays content, for which a message is refused: nothing can
be smuggled behind it.
"""

from typing import Final

END: Final = b"\r\n.\r\n"
_LINE_START: Final = b"\r\n"
_DOT: Final = b"\r\n."


class ContentReader:
    """Takes octets as they come and gives the content, its dots removed, until its end.

    Each octet is searched once: only what may be the beginning of the end is kept back for the next call.
    """

    def __init__(self) -> None:
        self._held = _LINE_START  # content begins at the start of a line
        self._virtual = len(_LINE_START)  # octets of `_held` that no peer has sent
        self.ended = False

    def feed(self, octets: bytes) -> tuple[bytes, bytes]:
        """Content found so far and, once `ended`, the octets after its end."""
        window = self._held + octets
        dot = window.find(_DOT)  # most of what comes has none, and needs no other look
        end = window.find(END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            return self._clean(window[: end + 2], dot), window[end + len(END) :]
        keep = _length_of_possible_end(window)
        self._held = window[len(window) - keep :]
        return self._clean(window[: len(window) - keep], dot), b""

    def _clean(self, octets: bytes, dot: int) -> bytes:
        """Without the dots that were doubled; `dot` is where the first one may be, negative if there is none."""
        if not octets:
            return octets
        # A split never parts CR from LF: a CR at the end of the window is always held back.
        content = octets.replace(_DOT, _LINE_START) if dot >= 0 else octets
        content, self._virtual = content[self._virtual :], 0
        return content


def _length_of_possible_end(window: bytes) -> int:
    return next((n for n in range(len(END) - 1, 0, -1) if window.endswith(END[:n])), 0)


class ContentWriter:
    """Takes lines that end in LF or CRLF, in pieces of any size; gives them with CRLF and doubled dots."""

    def __init__(self) -> None:
        self.octets = 0  # so far, without the doubled dots
        self._at_line_start = True
        self._held_cr = False

    def feed(self, octets: bytes) -> bytes:
        """`octets` as they go over the wire."""
        if self._held_cr:
            octets = b"\r" + octets
        self._held_cr = octets.endswith(b"\r")
        if self._held_cr:
            octets = octets[:-1]
        return self._stuffed(with_crlf(octets)) if octets else b""

    def end(self) -> bytes:
        """What closes the response: the end of an unfinished line, and the lone dot."""
        last = self._stuffed(b"\r") if self._held_cr else b""
        self._held_cr = False
        if self._at_line_start:
            return last + b".\r\n"
        self.octets += len(_LINE_START)
        return last + END

    def _stuffed(self, octets: bytes) -> bytes:
        self.octets += len(octets)
        stuffed = _with_dots(octets)
        if self._at_line_start and stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_line_start = octets.endswith(b"\n")
        return stuffed


def ended(octets: bytes) -> tuple[bytes, int]:
    """What ContentWriter makes of a whole message, with its end; and the octets, without the doubled dots."""
    content = with_crlf(octets)
    if content and not content.endswith(_LINE_START):
        content += _LINE_START
    stuffed = _with_dots(content)
    if content.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + b".\r\n", len(content)


class Top:
    """Cuts a message after its header and so many lines of its body."""

    def __init__(self, lines: int) -> None:
        self._lines_left = lines
        self._line_length = 0  # of the line in hand, in octets, without its end
        self._is_in_header = True

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is wanted."""
        return not self._is_in_header and self._lines_left == 0

    def cut(self, octets: bytes) -> bytes:
        """What of `octets` belongs to the top."""
        start = 0
        while start < len(octets) and not self.is_complete:
            end = octets.find(b"\n", start) + 1
            line = octets[start : end or len(octets)]
            self._line_length += len(line.rstrip(b"\r\n"))
            start += len(line)
            if end:
                self._end_line()
        return octets[:start]

    def _end_line(self) -> None:
        if not self._is_in_header:
            self._lines_left -= 1
        elif self._line_length == 0:
            self._is_in_header = False
        self._line_length = 0


def _with_dots(octets: bytes) -> bytes:
    """`octets` with the dots doubled that begin a line behind another one."""
    # Most have none, and to look for them from the end is twice as quick.
    return octets if octets.rfind(_DOT) < 0 else octets.replace(_DOT, b"\r\n..")


def with_crlf(octets: bytes) -> bytes:
    """`octets` with every line end, LF or CRLF, as CRLF. A CR elsewhere stays."""
    if b"\r" in octets:  # to look for one octet is far quicker than to look for two
        octets = octets.replace(b"\r\n", b"\n")
    return octets.replace(b"\n", b"\r\n")
