"""What an SMTP session knows of its surroundings, and what it tells and asks of the world around it."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from mailsrv.model.envelope import Envelope, Recipient, Sender


class Service(Enum):
    """What the client has come for, which the listener tells."""

    MAIL = auto()  # from elsewhere to here: RFC 5321
    SUBMISSION = auto()  # by users who log in: RFC 6409
    LMTP = auto()  # from a server in front: RFC 2033


@dataclass(frozen=True, slots=True)
class Limits:
    """What this session enforces and, where there is an extension for it, announces."""

    max_message_octets: int
    max_recipients: int
    max_messages: int
    max_line_octets: int


@dataclass(frozen=True, slots=True)
class Security:
    """How the connection is secured, and what may be offered on it; `mechanisms` of AUTH, in order of preference."""

    is_encrypted: bool = False
    can_encrypt: bool = False
    mechanisms: tuple[str, ...] = ()


IN_CLEAR: Final = Security()


@dataclass(frozen=True, slots=True)
class Hello:
    """What the client called itself, and whether by EHLO or LHLO."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True)
class Header:
    """What was seen of a header: which of received, date and message-id it has, and whether an empty line ends it."""

    names: frozenset[str]
    is_separated: bool


@dataclass(frozen=True, slots=True)
class EncryptionOffered:
    """STARTTLS: accept, begin the handshake once `replies` are sent, and call `secured`; or refuse."""


@dataclass(frozen=True, slots=True)
class AuthenticationBegun:
    """AUTH, with its initial response if there is one: challenge, admit or refuse."""

    mechanism: str
    response: bytes | None


@dataclass(frozen=True, slots=True)
class AuthenticationContinued:
    """The response to a challenge: challenge, admit or refuse."""

    response: bytes


@dataclass(frozen=True, slots=True)
class SenderOffered:
    """MAIL: accept or refuse."""

    sender: Sender


@dataclass(frozen=True, slots=True)
class RecipientOffered:
    """RCPT: accept or refuse."""

    recipient: Recipient
    sender: Sender


@dataclass(frozen=True, slots=True)
class ContentOffered:
    """DATA, or the first BDAT: accept, and be ready for content, or refuse."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class ContentReceived:
    """A piece of the content, dots removed. Not a question."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class HeaderEnded:
    """The content so far was the header; told on submission only. Not a question."""

    header: Header


@dataclass(frozen=True, slots=True)
class ContentAbandoned:
    """What was received of this message is to be forgotten. Not a question."""


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """The final dot, or the last chunk: accept once the message is safe, or refuse."""


Event: TypeAlias = (
    EncryptionOffered
    | AuthenticationBegun
    | AuthenticationContinued
    | SenderOffered
    | RecipientOffered
    | ContentOffered
    | ContentReceived
    | HeaderEnded
    | ContentAbandoned
    | MessageEnded
)
# Those that must be answered before the session goes on.
QUESTIONS: Final = (
    EncryptionOffered,
    AuthenticationBegun,
    AuthenticationContinued,
    SenderOffered,
    RecipientOffered,
    ContentOffered,
    MessageEnded,
)
