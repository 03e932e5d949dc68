"""Trace lines."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import parsedate_to_datetime

import pytest
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


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("192.0.2.1", b"[192.0.2.1]"),
        ("2001:db8::1", b"[IPv6:2001:db8::1]"),
        ("::ffff:192.0.2.1", b"[192.0.2.1]"),
        ("fe80::1%eth0", b"[IPv6:fe80::1]"),
        ("local", b"local"),
    ],
)
def test_the_address_of_a_client_is_a_literal_and_a_unix_socket_has_none(peer: str, shown: bytes) -> None:
    arrival = Arrival(MOMENT, "ESMTP", "client.example", peer)
    octets = trace.received(arrival, "mail.example.org", "ID", Envelope(Sender(ALICE), (Recipient(BOB),)))
    assert octets.startswith(b"Received: from client.example (" + shown + b")\r\n")  # RFC 5321 §4.1.3, §4.4


def test_received_discloses_no_recipient_where_there_are_several() -> None:
    envelope = Envelope(Sender(ALICE), (Recipient(BOB), Recipient(ALICE)))
    assert b"for" not in trace.received(Arrival(MOMENT, "drop"), "mail.example.org", "ID", envelope)


@given(words.arrivals, words.envelopes)
def test_a_trace_line_is_one_field_that_any_mail_program_can_read(arrival: Arrival, envelope: Envelope) -> None:
    octets = trace.received(arrival, "mail.example.org", "ID", envelope)
    message = message_from_bytes(octets + b"\r\n")
    assert message.keys() == ["Received"]
    assert parsedate_to_datetime(octets.decode().rpartition(";")[2]) == arrival.moment.replace(microsecond=0)


def test_a_null_reverse_path_is_an_empty_pair_of_brackets() -> None:
    assert trace.return_path(None) == b"Return-Path: <>\r\n"
    assert trace.return_path(ALICE) == b"Return-Path: <alice@example.org>\r\n"
    assert trace.delivered_to(BOB) == b"Delivered-To: bob@example.org\r\n"


def test_addresses_beyond_ascii_stand_in_utf_8() -> None:
    joerg = Mailbox("jörg", "bücher.example")
    arrival = Arrival(MOMENT, "UTF8SMTP", "client.example", "192.0.2.1")
    envelope = Envelope(Sender(ALICE), (Recipient(joerg),))
    assert "for <jörg@bücher.example>;".encode() in trace.received(arrival, "mail.example.org", "ID", envelope)
    assert trace.return_path(joerg) == "Return-Path: <jörg@bücher.example>\r\n".encode()
    assert trace.delivered_to(joerg) == "Delivered-To: jörg@bücher.example\r\n".encode()
