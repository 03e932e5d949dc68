"""Messages that we write to people by ourselves: out-of-office answers (RFC 3834), and warnings of a full mailbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from typing import Final

from mailsrv.model.address import Mailbox

MAX_SUBJECT: Final = 200  # characters of the subject that an answer gives back


@dataclass(frozen=True, slots=True)
class Head:
    """From whom and to whom a message goes, about what, under which Message-ID (without its brackets), and when."""

    sender: str
    to: Mailbox
    subject: str
    identity: str
    moment: datetime


def answer(head: Head, text: str, reference: str) -> bytes:
    """The answer of somebody who is away; `reference` is the Message-ID of what is answered, empty for none."""
    fields = [("In-Reply-To", reference), ("References", reference)] if reference else []
    return _message(head, text, [*fields, ("Auto-Submitted", "auto-replied")])  # RFC 3834 §3.1.7


def warning(to: Mailbox, amounts: Sequence[str], hostname: str, identity: str, moment: datetime) -> bytes:
    """What somebody is told whose mailbox is nearly full; the amounts are in words."""
    lines = "".join(f"  {line}\n" for line in amounts)
    text = (
        f"This is the mail server of {hostname}.\n\n"
        f"Your mailbox {to} is nearly full:\n\n{lines}\n"
        f"When it is full, no more mail comes in, and senders are told so. Please remove what you do not need.\n"
    )
    sender = f"Mail Delivery System <postmaster@{hostname}>"
    head = Head(sender, to, "Your mailbox is nearly full", identity, moment)
    return _message(head, text, [("Auto-Submitted", "auto-generated")])


def auto_subject(subject: bytes) -> str:
    """The subject of an answer to a message of this Subject, as it stands in its header (RFC 3834 §3.1.5)."""
    try:
        text = " ".join(subject.decode("utf-8").split())[:MAX_SUBJECT]
    except UnicodeDecodeError:
        text = ""
    return f"Auto: {text}" if text and text.isprintable() else "Auto: your message"


def _message(head: Head, text: str, fields: list[tuple[str, str]]) -> bytes:
    known = [
        ("From", head.sender),
        ("To", str(head.to)),
        ("Subject", head.subject if head.subject.isascii() else Header(head.subject, "utf-8").encode()),
        ("Date", format_datetime(head.moment)),
        ("Message-ID", f"<{head.identity}>"),
        *fields,
        ("MIME-Version", "1.0"),
        ("Content-Type", f"text/plain; charset={'us-ascii' if text.isascii() else 'utf-8'}"),
        *([] if text.isascii() else [("Content-Transfer-Encoding", "8bit")]),
    ]
    whole = "".join(f"{name}: {value}\n" for name, value in known) + f"\n{text}"
    return whole.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode()
