"""What a POP3 session tells and asks of the world around it, and why it may be refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from mailsrv.model.language import Language
from mailsrv.protocol import pop3_texts as texts
from mailsrv.protocol.pop3_texts import Text


@dataclass(frozen=True, slots=True)
class Security:
    """What the connection allows as it is: whether STLS is possible, and how somebody may log in."""

    is_encrypted: bool = False
    can_encrypt: bool = False
    takes_passwords: bool = False
    mechanisms: tuple[str, ...] = ()  # of AUTH, the best first


@dataclass(frozen=True, slots=True)
class Policy:
    """What this server announces besides: days, 0 where messages are never expired; seconds between logins, or 0."""

    expire_days: int = 0
    login_delay: int = 0
    language: Language = Language.ENGLISH  # what `LANG *` gives


class Listing(Protocol):
    """The messages of a maildrop, by index from 0, as they stay for a session."""

    @property
    def octets(self) -> Sequence[int]:
        """Of each message, as RETR sends it."""

    @property
    def total(self) -> int:
        """Of all messages together."""

    @property
    def memo(self) -> dict[str, list[bytes]]:
        """For what the session makes of it, by a name, in pieces with a line for each message.

        It is there again where the same listing is read again, and of the first messages where those behind are others.
        """

    def uidl(self, index: int) -> str:
        """The unique id of a message (RFC 1939 §7)."""


@dataclass(frozen=True, slots=True)
class EncryptionOffered:
    """STLS: `accept` and begin with TLS, then `secured`."""


@dataclass(frozen=True, slots=True)
class LoginOffered:
    """USER and PASS: `admit` with the maildrop, or `refuse`."""

    user: str
    password: str = field(repr=False)  # out of logs and tracebacks


@dataclass(frozen=True, slots=True)
class AuthenticationBegun:
    """AUTH: `challenge`, `admit` with the maildrop, or `refuse`; `response` is None where AUTH brought none."""

    mechanism: str
    response: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthenticationContinued:
    """The response to a challenge; answered like AuthenticationBegun."""

    response: bytes = field(repr=False)


class MessageRequested(NamedTuple):
    """RETR or TOP of a message, by its index from 0: `begin_message`, `write` and `end_message`, or `refuse`.

    `body_lines` is how many lines of the body TOP wants, None for all of the message; `takes_utf8` is whether the
    client said UTF8 (RFC 6856 §2).
    """

    message: int
    body_lines: int | None
    takes_utf8: bool


@dataclass(frozen=True, slots=True)
class UpdateRequested:
    """QUIT: remove the messages of these indices, then `accept`, or `refuse`."""

    deleted: frozenset[int]


Event: TypeAlias = (
    EncryptionOffered
    | LoginOffered
    | AuthenticationBegun
    | AuthenticationContinued
    | MessageRequested
    | UpdateRequested
)


class Refusal(Enum):
    """Why a question is answered with -ERR: the response code (RFC 2449 §8, RFC 3206 §4, RFC 6856 §5), and in words."""

    BAD_LOGIN = "AUTH", texts.BAD_LOGIN
    MALFORMED = "", texts.MALFORMED
    IN_USE = "IN-USE", texts.IN_USE
    LOGIN_DELAY = "LOGIN-DELAY", texts.LOGIN_DELAY
    NOT_NOW = "SYS/TEMP", texts.NOT_NOW
    NEEDS_A_PERSON = "SYS/PERM", texts.NEEDS_A_PERSON
    MESSAGE_GONE = "SYS/TEMP", texts.MESSAGE_GONE
    UNREADABLE = "SYS/PERM", texts.UNREADABLE
    NEEDS_UTF8 = "UTF8", texts.NEEDS_UTF8
    NOT_REMOVED = "SYS/TEMP", texts.NOT_REMOVED
    NOT_REMOVABLE = "SYS/PERM", texts.NOT_REMOVABLE
    SHUTTING_DOWN = "SYS/TEMP", texts.SHUTTING_DOWN
    BANNED = "SYS/TEMP", texts.BANNED
    TOO_MANY_CONNECTIONS = "SYS/TEMP", texts.TOO_MANY_CONNECTIONS
    NO_TLS = "SYS/TEMP", texts.NO_TLS
    TOO_MANY_ERRORS = "", texts.TOO_MANY_ERRORS

    @property
    def code(self) -> str:
        """The response code; empty where none fits."""
        return self.value[0]

    @property
    def text(self) -> Text:
        """Why, in words."""
        return self.value[1]

    def said_in(self, language: Language) -> str:
        """What stands behind -ERR."""
        words = self.text.said_in(language)
        return f"[{self.code}] {words}" if self.code else words
