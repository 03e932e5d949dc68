"""Reports on delivery: multipart/report (RFC 6522) with message/delivery-status (RFC 3464), for people first.

One report tells of all recipients that one attempt came to know of, whatever their actions. Where addresses are beyond
ASCII, and the sender can take it, it is in UTF-8 (RFC 6533); else they are encoded for machines.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import Enum
from typing import Final

from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Sender
from mailsrv.model.identity import EntryId
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply
from mailsrv.model.xtext import from_utf8_addr, from_xtext, to_utf8_addr_xtext


class Action(Enum):
    """What is reported of a recipient (RFC 3464 §2.3.3); the worst comes first, and gives a report its subject."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"  # handed to a server that reports nothing
    EXPANDED = "expanded"  # sent on to several addresses
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Reported:
    """A recipient, and what became of it; `reason` as a reply would give it, where it was not served."""

    forward_path: Mailbox
    original: str | None  # ORCPT as it was given
    action: Action
    reason: Reply | None = None
    retry_until: datetime | None = None  # of one that is delayed

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 3463)."""
        if self.reason is not None:
            return self.reason.status
        return "2.1.9" if self.action is Action.RELAYED else "2.1.5"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is reported on: its sender, how it arrived, and the octets of its header; `entry_id` is the report's own."""

    entry_id: EntryId
    sender: Sender
    arrival: Arrival
    header: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """The whole message, for a report that returns it."""

    pieces: Iterable[bytes]
    is_ascii: bool


@dataclass(frozen=True, slots=True)
class _Words:
    """What people are told of an action, behind "Your message": in Subject, before the addresses; and after them."""

    subject: str
    before: str
    after: str = ""


_WORDS: Final = {
    Action.FAILED: _Words("could not be delivered", "could not be delivered to:", "The server will not try again.\n"),
    Action.DELAYED: _Words(
        "is delayed",
        "has not been delivered yet to:",
        "The server goes on trying. You need not send the message again.\n",
    ),
    Action.RELAYED: _Words("was sent on", "was handed to a mail server that does not report on delivery, for:"),
    Action.EXPANDED: _Words("was sent on", "was sent on to the addresses that stand behind:"),
    Action.DELIVERED: _Words("was delivered", "was delivered to:"),
}


def is_international(subject: Subject, reported: Sequence[Reported]) -> bool:
    """Whether the report speaks UTF-8 in its header and to machines (RFC 6533), and so needs SMTPUTF8 on its way.

    It does where there is something to say so, to a sender who can take it.
    """
    sender = subject.sender
    reverse_path = str(sender.reverse_path or "")
    said = [reverse_path, *(str(each.forward_path) for each in reported)]
    said += [_original_recipient(each.original, is_global=True) for each in reported if each.original]
    takes_it = sender.says_smtputf8 or not reverse_path.isascii()
    return takes_it and not (subject.header.isascii() and all(each.isascii() for each in said))


def report(
    subject: Subject,
    reported: Sequence[Reported],
    to: Mailbox,
    now: Arrival,
    hostname: str,
    content: Content | None = None,
) -> Iterator[bytes]:
    """The message that tells `to`, in pieces, its lines ending in CRLF; its reverse-path must be null (RFC 3464 §2).

    It returns `content`, or without it the header only.
    """
    boundary = f"=_{subject.entry_id}"
    is_global = is_international(subject, reported)
    words = _octets(_words(subject, reported, hostname, is_whole=content is not None))
    parts = [
        _part(f"text/plain; charset={'us-ascii' if words.isascii() else 'utf-8'}", words),
        _part(
            "message/global-delivery-status" if is_global else "message/delivery-status",
            _octets(_status(subject, reported, hostname, is_global=is_global)),
        ),
    ]
    is_utf8 = is_global and _is_utf8(subject.header)
    if content is None:
        kind = "message/global-headers" if is_utf8 else "text/rfc822-headers"
        parts.append(_part(kind, subject.header.rstrip(b"\r\n") + b"\r\n"))
    else:
        kind = "message/global" if is_utf8 else "message/rfc822"
        parts.append(_head_of_part(kind, is_ascii=content.is_ascii))
    # RFC 2045 §6.4: said of the part that holds 8-bit octets, and of the whole.
    is_ascii = all(part.isascii() for part in parts) and (content is None or content.is_ascii)
    whole = _header(subject, reported, to, now, hostname, boundary) + _encoding(is_ascii=is_ascii) + "\n"
    delimiter = f"\r\n--{boundary}".encode()
    opening = _octets(whole) + delimiter[2:] + delimiter.join(parts)
    return itertools.chain([opening], content.pieces if content else (), [delimiter + b"--\r\n"])


def _part(content_type: str, octets: bytes) -> bytes:
    return _head_of_part(content_type, is_ascii=octets.isascii()) + octets


def _head_of_part(content_type: str, *, is_ascii: bool) -> bytes:
    return _octets(f"\nContent-Type: {content_type}\n{_encoding(is_ascii=is_ascii)}\n")


def _encoding(*, is_ascii: bool) -> str:
    return "" if is_ascii else "Content-Transfer-Encoding: 8bit\n"


def _octets(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _header(
    subject: Subject, reported: Sequence[Reported], to: Mailbox, now: Arrival, hostname: str, boundary: str
) -> str:
    actions = {each.action for each in reported}
    worst = next(action for action in Action if action in actions)
    return (
        f"From: Mail Delivery System <postmaster@{hostname}>\n"
        f"To: <{to}>\n"
        f"Subject: {_whose(subject)} {_WORDS[worst].subject}\n"
        f"Date: {format_datetime(now.moment)}\n"
        f"Message-ID: <{subject.entry_id}.{worst.value}.report@{hostname}>\n"
        f"Auto-Submitted: auto-replied\n"  # RFC 3834 §5
        f"MIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\n\tboundary="{boundary}"\n'
    )


def _whose(subject: Subject) -> str:
    """A message without a sender, such as a report that failed, is told of to postmaster, who did not write it."""
    return "Your message" if subject.sender.reverse_path is not None else "A message without a sender"


def _words(subject: Subject, reported: Sequence[Reported], hostname: str, *, is_whole: bool) -> str:
    text = f"This is the mail server of {hostname}.\n\n"
    for action in Action:
        lines = "".join(_line_for_people(each) for each in reported if each.action is action)
        if lines:
            text += f"{_whose(subject)} {_WORDS[action].before}\n\n{lines}\n{_WORDS[action].after}"
    return f"{text}{'The message' if is_whole else 'The header of the message'} is attached.\n"


def _line_for_people(reported: Reported) -> str:
    reason = f"      {reported.reason}\n" if reported.reason else ""
    until = f"      it is tried until {format_datetime(reported.retry_until)}\n" if reported.retry_until else ""
    return f"  {reported.forward_path}\n{reason}{until}"


def _status(subject: Subject, reported: Sequence[Reported], hostname: str, *, is_global: bool) -> str:
    envelope_id = value_of(subject.sender.parameters, "ENVID")
    message = f"Original-Envelope-Id: {from_xtext(envelope_id)}\n" if envelope_id else ""
    message += f"Reporting-MTA: dns; {hostname}\nArrival-Date: {format_datetime(subject.arrival.moment)}\n"
    return "\n".join([message, *(_recipient_status(each, is_global=is_global) for each in reported)])


def _recipient_status(reported: Reported, *, is_global: bool) -> str:
    address = str(reported.forward_path)
    final = f"rfc822; {address}" if address.isascii() else f"utf-8; {_utf8_addr(address, is_global=is_global)}"
    original = ""
    if reported.original:
        original = f"Original-Recipient: {_original_recipient(reported.original, is_global=is_global)}\n"
    reason = f"Diagnostic-Code: smtp; {reported.reason}\n" if reported.reason else ""
    until = f"Will-Retry-Until: {format_datetime(reported.retry_until)}\n" if reported.retry_until else ""
    return (
        f"{original}"
        f"Final-Recipient: {final}\n"
        f"Action: {reported.action.value}\n"
        f"Status: {reported.status}\n"
        f"{reason}{until}"
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
