"""Reports of failed delivery: multipart/report (RFC 6522) with message/delivery-status (RFC 3464), for people first.

Where addresses are beyond ASCII, and the sender can take it, in UTF-8 (RFC 6533); else they are encoded for machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime

from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Sender
from mailsrv.model.identity import EntryId
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply
from mailsrv.model.xtext import from_utf8_addr, from_xtext, to_utf8_addr_xtext


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


def is_international(subject: Subject, failed: Sequence[FailedRecipient]) -> bool:
    """Whether the report speaks UTF-8 in its header and to machines (RFC 6533), and so needs SMTPUTF8 on its way.

    It does where there is something to say so, to a sender who can take it.
    """
    sender = subject.sender
    reverse_path = str(sender.reverse_path or "")
    said = [reverse_path, *(str(each.forward_path) for each in failed)]
    said += [_original_recipient(each.original, is_global=True) for each in failed if each.original]
    takes_it = sender.says_smtputf8 or not reverse_path.isascii()
    return takes_it and not (subject.header.isascii() and all(each.isascii() for each in said))


def failure_report(subject: Subject, failed: Sequence[FailedRecipient], now: Arrival, hostname: str) -> bytes:
    """The message that tells the sender, its lines ending in CRLF; its reverse-path must be null (RFC 3464 §2)."""
    boundary = f"=_{subject.entry_id}"
    is_global = is_international(subject, failed)
    words = _octets(_words(failed, hostname))
    parts = [
        _part(f"text/plain; charset={'us-ascii' if words.isascii() else 'utf-8'}", words),
        _part(
            "message/global-delivery-status" if is_global else "message/delivery-status",
            _octets(_status(subject, failed, hostname, is_global=is_global)),
        ),
        _part(
            "message/global-headers" if is_global and _is_utf8(subject.header) else "text/rfc822-headers",
            subject.header.rstrip(b"\r\n") + b"\r\n",
        ),
    ]
    # RFC 2045 §6.4: said of the part that holds 8-bit octets, and of the whole.
    whole = _header(subject, now, hostname, boundary) + _encoding(b"".join(parts)) + "\n"
    delimiter = f"\r\n--{boundary}".encode()
    return _octets(whole) + delimiter[2:] + delimiter.join(parts) + delimiter + b"--\r\n"


def _part(content_type: str, octets: bytes) -> bytes:
    return _octets(f"\nContent-Type: {content_type}\n{_encoding(octets)}\n") + octets


def _encoding(octets: bytes) -> str:
    return "" if octets.isascii() else "Content-Transfer-Encoding: 8bit\n"


def _octets(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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


def _status(subject: Subject, failed: Sequence[FailedRecipient], hostname: str, *, is_global: bool) -> str:
    envelope_id = value_of(subject.sender.parameters, "ENVID")
    message = f"Original-Envelope-Id: {from_xtext(envelope_id)}\n" if envelope_id else ""
    message += f"Reporting-MTA: dns; {hostname}\nArrival-Date: {format_datetime(subject.arrival.moment)}\n"
    return "\n".join([message, *(_recipient_status(each, is_global=is_global) for each in failed)])


def _recipient_status(failed: FailedRecipient, *, is_global: bool) -> str:
    address = str(failed.forward_path)
    final = f"rfc822; {address}" if address.isascii() else f"utf-8; {_utf8_addr(address, is_global=is_global)}"
    original = ""
    if failed.original:
        original = f"Original-Recipient: {_original_recipient(failed.original, is_global=is_global)}\n"
    return (
        f"{original}"
        f"Final-Recipient: {final}\n"
        f"Action: failed\n"
        f"Status: {failed.reason.status}\n"
        f"Diagnostic-Code: smtp; {failed.reason}\n"
    )


def _original_recipient(orcpt: str, *, is_global: bool) -> str:
    """ORCPT as it was meant: RFC 3461 §4.2, RFC 6533 §3."""
    kind, _, address = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return from_xtext(orcpt)
    return f"{kind};{_utf8_addr(from_utf8_addr(address), is_global=is_global)}"


def _utf8_addr(address: str, *, is_global: bool) -> str:
    """RFC 6533 §4: as it is in message/global-delivery-status, and in ASCII in message/delivery-status."""
    return address if is_global else to_utf8_addr_xtext(address)
