"""From a dropped file to a spool entry: the envelope from its block or its header, trace lines before its content.

The content is carried, not repaired: line ends become CRLF, and what is prepended is said in docs/SPOOL.md.
"""

import io
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final

from mailsrv.config import Config
from mailsrv.model import trace
from mailsrv.model.address import Mailbox, ReversePath
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import EntryId
from mailsrv.protocol.dots import with_crlf
from mailsrv.protocol.header import Field, HeaderError, mailboxes, split_fields
from mailsrv.store import entry
from mailsrv.store.durable import Draft
from mailsrv.store.entry import FormatError
from mailsrv.store.spool import Claim
from mailsrv.work import books
from mailsrv.work.octets import no_tick, pieces_of, unparted

logger = logging.getLogger(__name__)

MAX_HEADER: Final = 1024 * 1024  # octets
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_LONE_DOT: Final = re.compile(rb"\n\.(?!\.)")
_RECIPIENT_FIELDS: Final = frozenset({"to", "cc", "bcc"})


@dataclass(frozen=True, slots=True)
class Understood:
    """A dropped file as it will be sent: `fields` are those that stay; the body begins at octet `body`."""

    envelope: Envelope
    fields: tuple[Field, ...]
    has_envelope_block: bool
    body: int
    is_dotstuffed: bool

    def has_field(self, name: str) -> bool:
        return any(field.name == name for field in self.fields)

    def about(self) -> dict[str, str]:
        """What people know the message by, for the books."""
        return books.about(b"".join(field.raw for field in self.fields if field.name in books.KNOWN_BY))


@dataclass(frozen=True, slots=True)
class Given:
    """What was said besides the file: it counts before its header, `otherwise_sender` after it."""

    sender: Mailbox | None = None
    recipients: tuple[Mailbox, ...] = ()
    otherwise_sender: Mailbox | None = None


NOTHING_GIVEN: Final = Given()


class Intake:
    """Understands dropped files by the configuration."""

    def __init__(self, config: Config, tick: Callable[[], None] = no_tick) -> None:
        self._tick = tick
        self._hostname = config.hostname
        self._dotstuff = config.delivery.dotstuff

    def draft(self, claim: Claim, draft: Draft) -> Understood:
        """Write a claimed file as an entry; raises FormatError, or OSError, and then has aborted the draft."""
        if claim.path.is_symlink():
            raise FormatError("expected a file, not a symbolic link: copy the file itself", 0, 0)
        try:
            with claim.path.open("rb") as file:
                understood = self.understand(file)
                self.write(draft, file, understood, claim.entry_id, "drop")
        except BaseException:
            draft.abort()
            raise
        return understood

    def understand(self, file: BinaryIO, given: Given = NOTHING_GIVEN) -> Understood:
        """What the file and `given` say; raises FormatError where no envelope can be learnt from them, OSError."""
        block = entry.read_block(file)
        start = block.length if block else 0
        file.seek(start)
        header = _read_header(file, lines_before=block.lines if block else 0, octets_before=start)
        try:
            fields = split_fields(header)
            envelope = block.envelope if block else _envelope_of(fields, given)
        except HeaderError as error:
            if block is None:
                raise FormatError(error.reason, error.line, _octet_of_line(header, error.line)) from error
            # The envelope is known, so the content is none of our business.
            fields, envelope = (Field("", header, 1),), block.envelope
        if not envelope.is_ascii:
            envelope = envelope.saying_smtputf8()  # for the relay to know
        if block is None:
            fields = tuple(field for field in fields if field.name != "bcc")
        body = start + len(header)
        self._check_line_ends(file, start, block.lines if block else 0)
        is_ours = block is not None and block.arrival is not None  # we write no doubled dots
        is_dotstuffed = not is_ours and self._is_dotstuffed(file, start)
        return Understood(envelope, fields, block is not None, body, is_dotstuffed)

    def write(self, draft: Draft, file: BinaryIO, understood: Understood, entry_id: EntryId, protocol: str) -> None:
        """Write what was understood of `file` as an entry; raises OSError."""
        arrival = Arrival(datetime.now(UTC), protocol)
        draft.write(entry.render(understood.envelope, arrival, entry_id))
        draft.write(trace.received(arrival, self._hostname, entry_id, understood.envelope))
        if not understood.has_field("date"):
            draft.write(trace.date(arrival.moment))
        if not understood.has_field("message-id"):
            draft.write(trace.message_id(entry_id, self._hostname))
        file.seek(understood.body)
        header = b"".join(field.raw for field in understood.fields)
        pieces = _with_crlf(itertools.chain([header], pieces_of(file, self._tick)))
        for piece in _unstuffed(pieces) if understood.is_dotstuffed else pieces:
            draft.write(piece)
        if understood.is_dotstuffed:
            logger.info("%s: a dot was removed from each line that began with two", entry_id)

    def _is_dotstuffed(self, file: BinaryIO, start: int) -> bool:
        return self._dotstuff == "yes" or (self._dotstuff == "auto" and _has_doubled_dots_only(file, start, self._tick))

    def _check_line_ends(self, file: BinaryIO, start: int, lines_before: int) -> None:
        """Raise FormatError at the first bare CR: it is no line end, and SMTP refuses it likewise."""
        last = file.seek(0, io.SEEK_END) - 1
        file.seek(start)
        octet, line = start, lines_before + 1
        for block in unparted(pieces_of(file, self._tick)):
            if block.count(b"\r") != block.count(b"\r\n") and (bare := _BARE_CR.search(block)):
                if octet + bare.start() == last:  # the last line is as good as ended
                    return
                line += block.count(b"\n", 0, bare.start())
                raise FormatError("a bare CR is refused, lines end in LF or CRLF", line, octet + bare.start())
            octet, line = octet + len(block), line + block.count(b"\n")


def _has_doubled_dots_only(file: BinaryIO, start: int, tick: Callable[[], None]) -> bool:
    """Whether there are lines that begin with a dot, and every one of them begins with two."""
    file.seek(start)
    is_doubled, held = False, b"\n"
    for piece in pieces_of(file, tick):
        window = held + piece
        keep = 2 if window.endswith(b"\n.") else int(window.endswith(b"\n"))
        held, window = window[len(window) - keep :], window[: len(window) - keep]
        if _LONE_DOT.search(window):
            return False
        is_doubled |= b"\n.." in window
    return is_doubled and held != b"\n."


def _read_header(file: BinaryIO, *, lines_before: int, octets_before: int) -> bytes:
    """The octets before the empty line, or before the end."""
    lines: list[bytes] = []
    size = 0
    while (line := file.readline(MAX_HEADER)) not in (b"", b"\n", b"\r\n"):
        lines.append(line)
        size += len(line)
        if size > MAX_HEADER:
            at = lines_before + len(lines)
            raise FormatError(f"expected a header of at most {MAX_HEADER} octets", at, octets_before + size)
    if not lines and not line and not lines_before:
        raise FormatError("the file is empty", 0, 0)
    return b"".join(lines)


def _envelope_of(fields: tuple[Field, ...], given: Given) -> Envelope:
    recipients = given.recipients or mailboxes(fields, _RECIPIENT_FIELDS)
    if not recipients:
        raise HeaderError("expected a recipient in To, Cc or Bcc, or an X-Receiver before the header", 1)
    return Envelope(Sender(_sender_of(fields, given)), tuple(Recipient(mailbox) for mailbox in recipients))


def _sender_of(fields: tuple[Field, ...], given: Given) -> ReversePath:
    if given.sender is not None:
        return given.sender
    for name in ("sender", "from"):
        found = mailboxes(fields, frozenset({name}))
        if len(found) == 1:
            return found[0]
        if found:
            line = next(field.line for field in fields if field.name == name)
            raise HeaderError(f"expected one address in {name.title()}, or a Sender with the one that sends", line)
    if given.otherwise_sender is not None:
        return given.otherwise_sender
    raise HeaderError("expected a sender in From or Sender, or an X-Sender before the header", 1)


def _octet_of_line(header: bytes, line: int) -> int:
    return sum(len(each) for each in header.split(b"\n")[: line - 1]) + line - 1


def _with_crlf(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces with CRLF for LF, the last line ended."""
    last = b""
    for block in unparted(pieces):
        last = block[-1:] or last
        yield with_crlf(block)
    if last == b"\r":
        yield b"\n"
    elif last not in (b"\n", b""):
        yield b"\r\n"


def _unstuffed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces without the first dot of each line that begins with two."""
    held, virtual = b"\r\n", 2  # octets that stand before the first line, and in no file
    for piece in pieces:
        window = held + piece
        keep = next((n for n in (3, 2, 1) if window.endswith(b"\r\n."[:n])), 0)
        held, window = window[len(window) - keep :], window[: len(window) - keep]
        octets = window.replace(b"\r\n..", b"\r\n.")
        yield octets[virtual:]
        virtual -= min(virtual, len(octets))
    yield held[virtual:]
