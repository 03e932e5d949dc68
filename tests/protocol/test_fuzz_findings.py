"""What the fuzzer found (tests/fuzz), each kept as it must not be again."""

import base64

import pytest

from mailsrv.model import reply
from mailsrv.model.address import GrammarError
from mailsrv.model.parameters import parse_parameters
from mailsrv.model.reply import Reply
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_content import HeaderReader
from mailsrv.protocol.smtp_events import AuthenticationBegun, ContentOffered, Limits, Security, Service


@pytest.mark.parametrize("separator", ["\t", "\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2003"])
def test_nothing_but_a_space_stands_between_parameters(separator: str) -> None:
    with pytest.raises(GrammarError):
        parse_parameters(f"SMTPUTF8{separator}RET=FULL")


LIMITS = Limits(max_message_octets=1000, max_recipients=10, max_messages=10, max_line_octets=40)
WITH_PLAIN = Security(is_encrypted=True, can_encrypt=True, mechanisms=("PLAIN",))


def codes(service: Service, octets: bytes, refusal: Reply | None = None) -> list[int]:
    """The codes of the replies behind the greeting; content is refused with `refusal`, the rest accepted."""
    session = Session("mail.example.org", LIMITS, service)
    session.greet(WITH_PLAIN)
    session.replies()
    session.receive(octets)
    while (event := session.next_event()) is not None:
        if isinstance(event, AuthenticationBegun):
            session.admit("alice@example.org")
        elif isinstance(event, ContentOffered) and refusal is not None:
            session.refuse(refusal)
        elif session.is_waiting:
            session.accept()
    return [int(line[:3]) for line in session.replies().splitlines() if line[3:4] == b" "]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("R\u017fET", 500),
        ("MA\u0131L FROM:<>", 500),
        ("\ufb06ARTTLS", 500),
        ("AUTH PLA\u0131N AGEAYg==", 504),
        ("HELP \ufb06ARTTLS", 501),
    ],
)
def test_letters_that_are_ascii_only_in_capitals_make_no_keyword(line: str, code: int) -> None:
    assert codes(Service.SUBMISSION, b"EHLO c\r\n" + line.encode() + b"\r\n") == [250, code]


def test_a_long_challenge_is_not_cut() -> None:
    session = Session("mail.example.org", LIMITS, Service.SUBMISSION)
    session.greet(WITH_PLAIN)
    session.receive(b"EHLO c\r\nAUTH PLAIN\r\n")
    assert isinstance(session.next_event(), AuthenticationBegun)
    session.replies()
    session.challenge(b"r=" + b"n" * 600)
    assert base64.b64decode(session.replies().removeprefix(b"334 ")) == b"r=" + b"n" * 600


def test_lmtp_refuses_the_last_chunk_once_for_each_recipient() -> None:
    chunk = b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nBDAT 3 LAST\r\na\r\nNOOP\r\n"
    heard = codes(Service.LMTP, chunk, reply.INSUFFICIENT_STORAGE)
    assert heard == [250, 250, 250, 250, 452, 452, 250]  # RFC 2033 §4.3


@pytest.mark.parametrize(("octets", "code"), [(38, 250), (39, 554), (40, 554)])
def test_a_last_line_without_its_end_is_measured_with_it(octets: int, code: int) -> None:
    chunk = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nBDAT %d LAST\r\n" % octets
    assert codes(Service.MAIL, chunk + b"x" * octets) == [250, 250, 250, code]


@pytest.mark.parametrize("cut", [1, 950, 1001, 1100, 1150])
def test_the_pieces_make_no_difference_to_a_field_name_that_is_too_long(cut: int) -> None:
    octets = b"Date: x\r\n" + b"a" * 1100 + b": x\r\nSubject: y\r\n\r\n"
    reader = HeaderReader()
    header, body = reader.feed(octets[:cut])
    more_header, more_body = reader.feed(octets[cut:]) if reader.header is None else (b"", octets[cut:])
    assert header + more_header == b"Date: x\r\n"
    assert header + body + more_header + more_body == octets
    assert reader.header is not None and reader.header.names == {"date"}
