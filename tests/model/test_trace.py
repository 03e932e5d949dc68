"""Trace lines."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import parsedate_to_datetime

from hypothesis import given

from mailsrv.model import trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from tests.model import words

MOMENT = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)
ALICE, BOB = Mailbox("alice", "example.org"), Mailbox("bob", "example.org")


def test_received_says_from_whom_by_whom_for_whom_and_when() -> None:
    envelope = Envelope(Sender(ALICE), (Recipient(BOB),))
    arrival = Arrival(MOMENT, "ESMTP", "client.example", "192.0.2.1")
    assert trace.received(arrival, "mail.example.org", "ID", envelope) == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby mail.example.org (mailsrv) with ESMTP id ID\r\n"
        b"\tfor <bob@example.org>;\r\n"
        b"\tMon, 23 Nov 2026 12:00:01 +0000\r\n"
    )


def test_received_discloses_no_recipient_where_there_are_several() -> None:
    envelope = Envelope(Sender(ALICE), (Recipient(BOB), Recipient(ALICE)))
    assert b"for" not in trace.received(Arrival(MOMENT, "drop"), "mail.example.org", "ID", envelope)


@given(words.arrivals, words.envelopes)
def test_a_trace_line_is_one_field_that_any_mail_program_can_read(arrival: Arrival, envelope: Envelope) -> None:
    octets = trace.received(arrival, "mail.example.org", "ID", envelope)
    message = message_from_bytes(octets + b"\r\n")
    assert message.keys() == ["Received"]
    assert parsedate_to_datetime(message["Received"].rpartition(";")[2]) == arrival.moment.replace(microsecond=0)


def test_a_null_reverse_path_is_an_empty_pair_of_brackets() -> None:
    assert trace.return_path(None) == b"Return-Path: <>\r\n"
    assert trace.return_path(ALICE) == b"Return-Path: <alice@example.org>\r\n"
    assert trace.delivered_to(BOB) == b"Delivered-To: bob@example.org\r\n"
