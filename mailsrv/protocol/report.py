"""Reports of failed delivery: multipart/report (RFC 6522) with message/delivery-status (RFC 3464), for people first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Final

from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Sender
from mailsrv.model.identity import EntryId
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply

_XTEXT_OCTET: Final = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 §4, hexchar


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """A recipient that did not get the message, with the reason as a reply would give it."""

    forward_path: Mailbox
    original: str | None  # ORCPT as it was given
    reason: Reply


@dataclass(frozen=True, slots=True)
class Subject:
    """What is reported on: the entry, its sender, how it arrived, and the octets of its header."""

    entry_id: EntryId
    sender: Sender
    arrival: Arrival
    header: bytes


def failure_report(subject: Subject, failed: Sequence[FailedRecipient], now: Arrival, hostname: str) -> bytes:
    """The message that tells the sender, its lines ending in CRLF; its reverse-path must be null (RFC 3464 §2)."""
    boundary = f"=_{subject.entry_id}"
    # RFC 2045 §6.4: said of the part that holds 8-bit octets, and of the whole.
    encoding = "" if subject.header.isascii() else "Content-Transfer-Encoding: 8bit\n"
    parts = [
        _header(subject, now, hostname, boundary) + encoding,
        f"--{boundary}\nContent-Type: text/plain; charset=us-ascii\n\n{_words(failed, hostname)}",
        f"--{boundary}\nContent-Type: message/delivery-status\n\n{_status(subject, failed, hostname)}",
        f"--{boundary}\nContent-Type: text/rfc822-headers\n{encoding}\n",
    ]
    text = "\n".join(parts).replace("\n", "\r\n").encode("ascii", "replace")
    return text + subject.header.rstrip(b"\r\n") + f"\r\n\r\n--{boundary}--\r\n".encode()


def _header(subject: Subject, now: Arrival, hostname: str, boundary: str) -> str:
    return (
        f"From: Mail Delivery System <postmaster@{hostname}>\n"
        f"To: <{subject.sender.reverse_path or ''}>\n"
        f"Subject: Your message could not be delivered\n"
        f"Date: {format_datetime(now.moment)}\n"
        f"Message-ID: <{subject.entry_id}.report@{hostname}>\n"
        f"Auto-Submitted: auto-replied\n"  # RFC 3834 §5
        f"MIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\n\tboundary="{boundary}"\n'
    )


def _words(failed: Sequence[FailedRecipient], hostname: str) -> str:
    lines = "".join(f"  {each.forward_path}\n      {each.reason}\n" for each in failed)
    return (
        f"This is the mail server of {hostname}.\n\n"
        f"Your message could not be delivered to:\n\n{lines}\n"
        f"The server will not try again. The header of your message is attached.\n"
    )


def _status(subject: Subject, failed: Sequence[FailedRecipient], hostname: str) -> str:
    envelope_id = value_of(subject.sender.parameters, "ENVID")
    message = f"Original-Envelope-Id: {_from_xtext(envelope_id)}\n" if envelope_id else ""
    message += f"Reporting-MTA: dns; {hostname}\nArrival-Date: {format_datetime(subject.arrival.moment)}\n"
    return "\n".join([message, *(_recipient_status(each) for each in failed)])


def _recipient_status(failed: FailedRecipient) -> str:
    original = f"Original-Recipient: {_from_xtext(failed.original)}\n" if failed.original else ""
    return (
        f"{original}Final-Recipient: rfc822; {failed.forward_path}\n"
        f"Action: failed\n"
        f"Status: {failed.reason.status}\n"
        f"Diagnostic-Code: smtp; {failed.reason}\n"
    )


def _from_xtext(text: str) -> str:
    """`text` decoded (RFC 3461 §4), or as it stands where that gives what a field cannot hold."""
    decoded = _XTEXT_OCTET.sub(lambda octet: chr(int(octet.group(1), 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else text
