"""Real and adversarial messages through SMTP and out of POP3: a server carries them, octet for octet."""

import re
from functools import cache
from pathlib import Path

import pytest

from mailsrv.protocol.dots import with_crlf
from mailsrv.protocol.pop3 import Session as Pop3Session
from mailsrv.protocol.pop3_events import MessageRequested, Policy
from mailsrv.protocol.smtp import Session as SmtpSession
from mailsrv.protocol.smtp_events import (
    ContentOffered,
    ContentReceived,
    Limits,
    MessageEnded,
    RecipientOffered,
    SenderOffered,
)
from tests.protocol.worlds import MemoryListing, octets_on_the_wire, pop3_security

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
MESSAGES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
# Sizes of pieces, and up to how many octets a message is cut into such.
SIZES = {1: 3_000, 7: 20_000, 1460: 10_000_000, 65536: 10_000_000}
TRANSACTION = b"EHLO c\r\nMAIL FROM:<a@b.example> BODY=8BITMIME\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"

needs_corpus = pytest.mark.skipif(not MESSAGES, reason=f"no messages in {CORPUS}")
by_message = pytest.mark.parametrize("path", MESSAGES, ids=lambda path: f"{path.parent.name}-{path.name}")


@cache
def normalised(path: Path) -> bytes:
    """The message in lines that end in CRLF; a CR or LF that stands alone would be refused."""
    octets = with_crlf(re.sub(rb"\r(?!\n)", b"\n", path.read_bytes()))
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


def stuffed(content: bytes) -> bytes:
    """As a client sends it: RFC 5321 §4.5.2."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def received(stream: bytes, size: int) -> tuple[bytes, bytes]:
    """What an SMTP session hands on of the one message in `stream`, and its replies."""
    session = SmtpSession("mail.example.org", Limits(10_000_000, 10, 10, 100_000))
    content = bytearray()
    for start in range(0, len(stream), size):
        session.receive(stream[start : start + size])
        while (event := session.next_event()) is not None:
            match event:
                case ContentReceived(octets):
                    content += octets
                case SenderOffered() | RecipientOffered() | ContentOffered() | MessageEnded():
                    session.accept()
    return bytes(content), session.replies()


def retrieved(message: bytes, octets: int, size: int) -> bytes:
    """What a POP3 session sends for RETR of the message, which it knows to have so many octets."""
    session = Pop3Session("mail.example.org", Policy())
    session.greet(pop3_security("", ""))
    session.receive(b"USER alice\r\nPASS secret\r\nRETR 1\r\n")
    session.next_event()
    session.admit(MemoryListing([("1", message)]))
    assert octets == octets_on_the_wire(message)
    assert session.next_event() == MessageRequested(0, None, takes_utf8=False)
    session.replies()
    session.begin_message(octets)
    for start in range(0, len(message), size):
        assert session.write(message[start : start + size])
    assert session.end_message()
    status, _, response = session.replies().partition(b"\r\n")
    assert status == f"+OK {octets} octets".encode()
    return response


@needs_corpus
@by_message
def test_a_message_comes_out_as_it_went_in_whatever_the_pieces(path: Path) -> None:
    content = normalised(path)
    for size in [size for size, most in SIZES.items() if len(content) <= most]:
        kept, said = received(TRANSACTION + stuffed(content) + b"QUIT\r\n", size)
        assert kept == content
        assert [line[:3] for line in said.split(b"\r\n")[-4:]] == [b"354", b"250", b"221", b""]
        for stored in (content, content.replace(b"\r\n", b"\n")):  # as it came, and as the Maildir keeps it
            assert retrieved(stored, len(content), size) == stuffed(content)


@needs_corpus
@by_message
def test_a_message_with_a_bare_line_end_is_refused_and_any_other_is_not(path: Path) -> None:
    octets = path.read_bytes().removesuffix(b"\r\n") + b"\r\n"
    is_bare = re.search(rb"(?<!\r)\n|\r(?!\n)", octets) is not None
    _, said = received(TRANSACTION + stuffed(octets) + b"QUIT\r\n", 65536)
    last = said.split(b"\r\n")[-3]
    assert last == (b"554 5.6.0 a bare CR or LF in the message is refused" if is_bare else b"250 2.0.0 queued")
