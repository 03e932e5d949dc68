"""Reports on delivery, read by the standard library as a mail program would (RFC 3464, RFC 6522)."""

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Final, cast

import pytest

from mailsrv.model import reply
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Sender
from mailsrv.model.identity import EntryId
from mailsrv.protocol.report import Action, Content, Reported, Subject, is_international
from mailsrv.protocol.report import report as report_of

HOSTNAME: Final = "mail.example.org"
ARRIVED: Final = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)
NOW: Final = Arrival(datetime(2026, 11, 23, 12, 5, 0, tzinfo=UTC), "report")
HEADER: Final = (
    b"Received: from client.example\r\n\tby mail.example.org\r\nSubject: hello\r\nMessage-ID: <1@example.org>"
)
SUBJECT: Final = Subject(
    EntryId("0abcdefghij-01234567"),
    Sender(Mailbox("alice", "example.org")),
    Arrival(ARRIVED, "ESMTP", "client.example", "[192.0.2.7]"),
    HEADER,
)
BOB: Final = Reported(Mailbox("bob", "example.net"), None, Action.FAILED, reply.NO_SUCH_MAILBOX)
CAROL: Final = Reported(Mailbox("carol x", "example.net"), "rfc822;c+2Bx@example.com", Action.FAILED, reply.EXPIRED)
JOERG: Final = Reported(Mailbox("jörg", "bücher.example"), None, Action.FAILED, reply.NO_SUCH_MAILBOX)
SMTPUTF8: Final = Sender(Mailbox("alice", "example.org"), (("SMTPUTF8", None),))
UTF8_HEADER: Final = HEADER + "\r\nTo: Jörg <jörg@bücher.example>".encode()


def octets_of(subject: Subject = SUBJECT, *reported: Reported, content: Content | None = None) -> bytes:
    to = subject.sender.reverse_path or Mailbox("postmaster", "example.org")
    return b"".join(report_of(subject, reported or (BOB, CAROL), to, NOW, HOSTNAME, content))


def report(subject: Subject = SUBJECT, *reported: Reported, content: Content | None = None) -> EmailMessage:
    octets = octets_of(subject, *reported, content=content)
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert [part.defects for part in message.walk()] == [[]] * len(list(message.walk()))
    return message


def parts(message: EmailMessage) -> list[EmailMessage]:
    return [cast(EmailMessage, part) for part in message.iter_parts()]


def status_of(message: EmailMessage) -> list[EmailMessage]:
    """The groups of fields of message/delivery-status: one for the message, then one a recipient."""
    return cast(list[EmailMessage], parts(message)[1].get_payload())


def test_a_report_is_a_multipart_report_of_three_parts() -> None:
    message = report()
    assert message.get_content_type() == "multipart/report"  # RFC 6522 §3
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in parts(message)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_a_report_goes_to_the_sender_and_says_that_it_is_automatic() -> None:
    message = report()
    assert [address.addr_spec for address in message["To"].addresses] == ["alice@example.org"]
    assert message["From"] == "Mail Delivery System <postmaster@mail.example.org>"
    assert message["Auto-Submitted"] == "auto-replied"  # RFC 3834 §5
    assert message["MIME-Version"] == "1.0"
    assert parsedate_to_datetime(message["Date"]) == NOW.moment
    assert message["Message-ID"].endswith(f"@{HOSTNAME}>")


def test_the_status_has_the_fields_that_are_required_for_message_and_recipients() -> None:
    of_message, bob, carol = status_of(report())
    assert of_message["Reporting-MTA"] == f"dns; {HOSTNAME}"  # RFC 3464 §2.2.2
    assert parsedate_to_datetime(of_message["Arrival-Date"]) == ARRIVED
    assert "Original-Envelope-Id" not in of_message
    assert bob["Final-Recipient"] == "rfc822; bob@example.net"  # §2.3.2
    assert bob["Action"] == "failed"  # §2.3.3
    assert bob["Status"] == "5.1.1"  # §2.3.4
    assert bob["Diagnostic-Code"] == "smtp; 550 5.1.1 no such mailbox here"
    assert "Original-Recipient" not in bob
    assert carol["Final-Recipient"] == 'rfc822; "carol x"@example.net'
    assert carol["Status"] == "5.4.7"


def test_the_original_recipient_and_the_envelope_id_are_given_back_decoded() -> None:
    subject = replace(SUBJECT, sender=Sender(Mailbox("alice", "example.org"), (("ENVID", "QQ+3D314159"),)))
    of_message, _, carol = status_of(report(subject))
    assert of_message["Original-Envelope-Id"] == "QQ=314159"  # RFC 3461 §4.4
    assert carol["Original-Recipient"] == "rfc822;c+x@example.com"  # RFC 3461 §4.2


@pytest.mark.parametrize("hostile", ["a+0D+0AStatus:+202.0.0", "a+0AAction:+20delivered", "a+00", "a+FF"])
def test_encoded_line_ends_and_the_like_put_no_field_into_the_status(hostile: str) -> None:
    subject = replace(SUBJECT, sender=Sender(Mailbox("alice", "example.org"), (("ENVID", hostile),)))
    failed = Reported(Mailbox("bob", "example.net"), f"rfc822;{hostile}", Action.FAILED, reply.NO_SUCH_MAILBOX)
    of_message, recipient = status_of(report(subject, failed))
    assert of_message.keys() == ["Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"]
    assert recipient.get_all("Action") == ["failed"]
    assert recipient.get_all("Status") == ["5.1.1"]


def test_people_are_told_which_address_failed_and_why() -> None:
    words = parts(report())[0].get_content()
    assert "bob@example.net" in words
    assert "550 5.1.1 no such mailbox here" in words
    assert "550 5.4.7 could not be delivered in time" in words
    assert "not try again" in words


def test_the_header_of_the_message_is_attached_as_it_is() -> None:
    attached = parts(report())[2]
    assert cast(bytes, attached.get_payload(decode=True)).rstrip(b"\r\n") == HEADER


@pytest.mark.parametrize("header", [b"Subject: \xe9t\xe9", "Subject: \u00e9t\u00e9".encode()])
def test_a_header_with_8_bit_octets_is_said_to_have_them(header: bytes) -> None:
    message = report(replace(SUBJECT, header=header))
    assert message["Content-Transfer-Encoding"] == "8bit"  # RFC 2045 §6.4: of the whole as well
    attached = parts(message)[2]
    assert attached["Content-Transfer-Encoding"] == "8bit"
    assert cast(bytes, attached.get_payload(decode=True)).rstrip(b"\r\n") == header
    assert "Content-Transfer-Encoding" not in report()


@pytest.mark.parametrize("header", [b"", b"Subject: one\r\n", b"--=_0abcdefghij-0123456\r\nSubject: one"])
def test_any_header_leaves_the_structure_whole(header: bytes) -> None:
    message = report(replace(SUBJECT, header=header))
    assert len(parts(message)) == 3


def test_lines_end_in_crlf_and_are_not_too_long() -> None:
    octets = octets_of()
    assert octets.endswith(b"--\r\n")
    assert octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")
    assert max(len(line) for line in octets.split(b"\r\n")) <= 998  # RFC 5322 §2.1.1


def test_a_reason_of_several_lines_or_of_temporary_kind_stays_in_one_field() -> None:
    failed = Reported(Mailbox("bob", "example.net"), None, Action.FAILED, reply.LOCAL_ERROR.saying("one\ntwo"))
    _, recipient = status_of(report(SUBJECT, failed))
    assert recipient["Status"] == "4.3.0"
    assert recipient["Diagnostic-Code"] == "smtp; 451-4.3.0 one / 451 4.3.0 two"


# --- beyond ASCII ----------------------------------------------------------------------------------


def fields_of(part: EmailMessage) -> list[str]:
    """The lines of message/global-delivery-status, which the standard library does not know."""
    return part.as_bytes().decode().partition("\r\n\r\n")[2].split("\r\n")


def test_a_sender_who_speaks_utf_8_is_told_in_utf_8() -> None:
    subject = replace(SUBJECT, sender=SMTPUTF8, header=UTF8_HEADER)
    assert is_international(subject, (JOERG, BOB))
    message = report(subject, JOERG, BOB)
    assert message.get_param("report-type") == "delivery-status"  # RFC 6533 §4
    words, status, header = parts(message)
    assert (words.get_content_type(), words.get_content_charset()) == ("text/plain", "utf-8")
    assert "jörg@bücher.example" in words.get_content()
    assert status["Content-Type"] == "message/global-delivery-status"
    assert "Final-Recipient: utf-8; jörg@bücher.example" in fields_of(status)
    assert "Final-Recipient: rfc822; bob@example.net" in fields_of(status)
    assert header["Content-Type"] == "message/global-headers"  # §6.3: without a charset
    assert UTF8_HEADER in header.as_bytes()
    assert {part["Content-Transfer-Encoding"] for part in (message, words, status, header)} == {"8bit"}


def test_a_sender_beyond_ascii_is_told_at_that_address() -> None:
    subject = replace(SUBJECT, sender=Sender(Mailbox("jörg", "bücher.example"), (("SMTPUTF8", None),)))
    assert is_international(subject, (BOB,))
    assert "\r\nTo: <jörg@bücher.example>\r\n".encode() in octets_of(subject, BOB)


def test_a_sender_who_knows_ascii_only_is_told_in_ascii_where_machines_read() -> None:
    subject = replace(SUBJECT, header=UTF8_HEADER)
    assert not is_international(subject, (JOERG,))
    message = report(subject, JOERG)
    _, recipient = status_of(message)
    assert recipient["Final-Recipient"] == r"utf-8; j\x{F6}rg@b\x{FC}cher.example"  # RFC 6533 §3
    words, _, header = parts(message)
    assert "jörg@bücher.example" in words.get_content()
    assert header["Content-Type"] == "text/rfc822-headers"


def test_a_sender_who_speaks_utf_8_is_told_in_ascii_where_that_is_enough() -> None:
    subject = replace(SUBJECT, sender=SMTPUTF8)
    assert not is_international(subject, (BOB, CAROL))
    assert octets_of(subject) == octets_of()


def test_a_header_that_is_not_utf_8_is_not_said_to_be() -> None:
    subject = replace(SUBJECT, sender=SMTPUTF8, header=b"Subject: \xe9t\xe9")
    assert parts(report(subject, JOERG))[2].get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("original", "in_ascii", "in_utf8"),
    [
        (r"utf-8;j\x{F6}rg@x.org", r"utf-8;j\x{F6}rg@x.org", "utf-8;jörg@x.org"),
        ("UTF-8;bob@x.org", "UTF-8;bob@x.org", "UTF-8;bob@x.org"),
        ("rfc822;c+2Bx@x.org", "rfc822;c+x@x.org", "rfc822;c+x@x.org"),
        (r"utf-8;a\x{0D}\x{0A}b", r"utf-8;a\x{5C}x{0D}\x{5C}x{0A}b", r"utf-8;a\x{0D}\x{0A}b"),
    ],
)
def test_the_original_recipient_is_given_back_in_the_form_of_the_report(
    original: str, in_ascii: str, in_utf8: str
) -> None:
    failed = replace(JOERG, original=original)
    assert status_of(report(SUBJECT, failed))[1]["Original-Recipient"] == in_ascii
    _, status, _ = parts(report(replace(SUBJECT, sender=SMTPUTF8), failed))
    assert f"Original-Recipient: {in_utf8}" in fields_of(status)


# --- other actions ---------------------------------------------------------------------------------

UNTIL: Final = datetime(2026, 11, 28, 12, 0, 1, tzinfo=UTC)
DELAYED: Final = replace(BOB, action=Action.DELAYED, reason=reply.INSUFFICIENT_STORAGE, retry_until=UNTIL)
DELIVERED: Final = replace(BOB, action=Action.DELIVERED, reason=None)
EXPANDED: Final = replace(BOB, action=Action.EXPANDED, reason=None)
RELAYED: Final = replace(BOB, action=Action.RELAYED, reason=None)


def test_a_report_of_delay_says_until_when_it_is_tried_and_that_nothing_need_be_done() -> None:
    message = report(SUBJECT, DELAYED)
    (_, recipient) = status_of(message)
    assert recipient["Action"] == "delayed"
    assert recipient["Status"] == "4.3.1"
    assert parsedate_to_datetime(recipient["Will-Retry-Until"]) == UNTIL  # RFC 3464 §2.3.9
    assert message["Subject"] == "Your message is delayed"
    words = parts(message)[0].get_content()
    assert "need not send the message again" in words
    assert "not try again" not in words
    assert "Sat, 28 Nov 2026 12:00:01 +0000" in words


@pytest.mark.parametrize(
    ("told", "action", "status", "subject"),
    [
        (DELIVERED, "delivered", "2.1.5", "Your message was delivered"),
        (EXPANDED, "expanded", "2.1.5", "Your message was sent on"),
        (RELAYED, "relayed", "2.1.9", "Your message was sent on"),
    ],
)
def test_a_report_of_success_has_a_status_of_success_and_no_diagnostic(
    told: Reported, action: str, status: str, subject: str
) -> None:
    message = report(SUBJECT, told)
    (_, recipient) = status_of(message)
    assert (recipient["Action"], recipient["Status"]) == (action, status)
    assert "Diagnostic-Code" not in recipient
    assert "Will-Retry-Until" not in recipient
    assert message["Subject"] == subject
    assert "bob@example.net" in parts(message)[0].get_content()


def test_several_actions_stand_in_one_report_and_the_worst_gives_it_its_subject() -> None:
    message = report(SUBJECT, DELIVERED, CAROL)
    assert [each["Action"] for each in status_of(message)[1:]] == ["delivered", "failed"]
    assert message["Subject"] == "Your message could not be delivered"
    words = parts(message)[0].get_content()
    assert words.index("could not be delivered to:") < words.index("was delivered to:")


def test_reports_on_one_message_have_message_ids_of_their_own() -> None:
    ids = {report(SUBJECT, each)["Message-ID"] for each in (BOB, DELAYED, DELIVERED)}
    assert len(ids) == 3


# --- what is returned ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"Hello.\r\n", "Grüße\r\n".encode(), b"--=_other\r\n\r\n--\r\n"])
def test_the_whole_message_is_returned_octet_for_octet(body: bytes) -> None:
    whole = HEADER + b"\r\n\r\n" + body
    pieces = [whole[:20], whole[20:]]
    octets = octets_of(SUBJECT, BOB, content=Content(pieces, is_ascii=whole.isascii()))
    assert octets.count(whole) == 1
    message = report(SUBJECT, BOB, content=Content(pieces, is_ascii=whole.isascii()))
    returned = parts(message)[2]
    assert returned.get_content_type() == "message/rfc822"
    assert message["Content-Transfer-Encoding"] == returned["Content-Transfer-Encoding"]
    assert (message["Content-Transfer-Encoding"] is None) == whole.isascii()
    assert "The message is attached" in parts(message)[0].get_content()


def test_a_message_with_a_header_in_utf_8_is_returned_as_message_global_where_the_sender_takes_it() -> None:
    subject = replace(SUBJECT, sender=SMTPUTF8, header=UTF8_HEADER)
    content = Content([UTF8_HEADER, b"\r\n\r\nHello.\r\n"], is_ascii=False)
    octets = octets_of(subject, JOERG, content=content)
    assert b"\r\nContent-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nReceived:" in octets
    octets = octets_of(replace(subject, sender=SUBJECT.sender), JOERG, content=content)
    assert b"\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nReceived:" in octets


def test_a_message_without_a_sender_is_told_of_to_somebody_else() -> None:
    message = report(replace(SUBJECT, sender=Sender(None)))
    assert [address.addr_spec for address in message["To"].addresses] == ["postmaster@example.org"]
    assert message["Subject"] == "A message without a sender could not be delivered"
    assert "Your" not in parts(message)[0].get_content()
