"""The message in the answer to RETR and TOP (RFC 1939 §5 and §7): in pieces, or at once where all of it is at hand."""

from mailsrv.protocol.dots import ContentWriter, Top, ended


class Content:
    """A message that is said in pieces, of `octets` as RETR says it; TOP wants so many `lines` of its body, or all."""

    def __init__(self, octets: int, lines: int | None) -> None:
        self._octets = octets
        self._writer = ContentWriter()
        self._top = None if lines is None else Top(lines)

    @property
    def wants_more(self) -> bool:
        """Whether there is more to say."""
        return self._top is None or not self._top.is_complete

    def feed(self, octets: bytes) -> bytes:
        """What is to be said of a piece, in lines that end in LF or CRLF."""
        return self._writer.feed(octets if self._top is None else self._top.cut(octets))

    def end(self) -> bytes | None:
        """What ends it; None where it has other octets than were told: the client must not take it for the message."""
        end = self._writer.end()
        return end if self._top is not None or self._writer.octets == self._octets else None


def at_once(message: bytes, octets: int, lines: int | None) -> bytes | None:
    """All that is to be said of a message, and its end; None where it has not so many octets."""
    response, found = ended(message)
    if found != octets:
        return None
    return response if lines is None else ended(Top(lines).cut(message))[0]
