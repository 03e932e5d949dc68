"""What an SMTP session tells and asks of the world around it."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from mailsrv.model.address import ReversePath
from mailsrv.model.envelope import Envelope, Recipient, Sender


@dataclass(frozen=True, slots=True)
class Limits:
    """What this session enforces and, where there is an extension for it, announces."""

    max_message_octets: int
    max_recipients: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What the client called itself, and whether by EHLO."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True)
class SenderOffered:
    """MAIL: accept or refuse."""

    sender: Sender


@dataclass(frozen=True, slots=True)
class RecipientOffered:
    """RCPT: accept or refuse."""

    recipient: Recipient
    reverse_path: ReversePath


@dataclass(frozen=True, slots=True)
class ContentOffered:
    """DATA: accept, and be ready for content, or refuse."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class ContentReceived:
    """A piece of the content, dots removed. Not a question."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ContentAbandoned:
    """What was received of this message is to be forgotten. Not a question."""


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """The final dot: accept once the message is safe, or refuse."""


Event: TypeAlias = SenderOffered | RecipientOffered | ContentOffered | ContentReceived | ContentAbandoned | MessageEnded
# Those that must be answered before the session goes on.
QUESTIONS: Final = (SenderOffered, RecipientOffered, ContentOffered, MessageEnded)
