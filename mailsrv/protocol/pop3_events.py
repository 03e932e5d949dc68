"""What a POP3 session tells and asks of the world around it, and why it may be refused."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Listed:
    """A message as the session knows it: octets as RETR sends them, and its unique id."""

    octets: int
    uidl: str


@dataclass(frozen=True, slots=True)
class LoginOffered:
    """USER and PASS: `admit` with the maildrop, or `refuse`."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class MessageRequested:
    """RETR or TOP of message `index` (from 0): `begin_message`, `write` and `end_message`, or `refuse`.

    `body_lines` is how many lines of the body TOP wants, None for all of the message.
    """

    index: int
    body_lines: int | None


@dataclass(frozen=True, slots=True)
class UpdateRequested:
    """QUIT: remove the messages of these indices, then `finish`, or `refuse`."""

    deleted: frozenset[int]


Event: TypeAlias = LoginOffered | MessageRequested | UpdateRequested


class Refusal(Enum):
    """Why a question is answered with -ERR; the response codes of RFC 2449 §8 and RFC 3206."""

    BAD_LOGIN = "[AUTH] wrong user or password"
    IN_USE = "[IN-USE] another session has this maildrop open"
    NOT_NOW = "[SYS/TEMP] a fault on our side, try again later"
    MESSAGE_GONE = "[SYS/TEMP] this message cannot be read now"
    NOT_REMOVED = "[SYS/TEMP] some deleted messages were not removed"
    SHUTTING_DOWN = "[SYS/TEMP] the service is stopping, try again soon"
    BANNED = "[SYS/TEMP] too many failed logins from your address, try again later"
    TOO_MANY_CONNECTIONS = "[SYS/TEMP] too many connections, try again later"
    TOO_MANY_ERRORS = "too many errors"
    INSECURE = "a password is taken over TLS only"
