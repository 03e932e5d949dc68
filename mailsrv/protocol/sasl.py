"""SASL as SMTP (RFC 4954) and POP3 (RFC 5034) carry it: base64, and the mechanisms that hand over a password.

A server's exchange takes each response of the client, decoded, and answers with a step. `None` in the place of the
first one says that the command brought no initial response. A client's makes the responses.
"""

import base64
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send these octets, and give the exchange what the client responds."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class PasswordOffered:
    """The end of an exchange: this password is claimed to be the user's, which is for the caller to verify.

    `authzid` is whom the user wants to act as; empty is the user.
    """

    user: str
    password: str = field(repr=False)  # out of logs and tracebacks
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The end of an exchange: the response is not what the mechanism expects."""


Step: TypeAlias = Challenge | PasswordOffered | Malformed


def encode(octets: bytes) -> bytes:
    """A challenge as it goes over the wire, without the code before it."""
    return base64.b64encode(octets)


def decode(text: bytes) -> bytes | None:
    """A response from the wire (an empty line is an empty one); None where it is not base64, whole and in its form."""
    try:
        octets = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return octets if base64.b64encode(octets) == text else None


def decode_initial(text: bytes) -> bytes | None:
    """The initial response from the command, where `=` is an empty one (RFC 4954 §4); None where it is wrong."""
    if text == b"=":
        return b""
    return decode(text) or None


class Plain:
    """PLAIN, RFC 4616: authzid NUL authcid NUL passwd, at once."""

    def respond(self, octets: bytes | None) -> Step:
        """The step after a response."""
        if octets is None:
            return Challenge(b"")
        words = (_text(octets) or "").split("\0")
        if len(words) != 3:
            return Malformed()
        authzid, user, password = words
        return PasswordOffered(user, password, authzid) if user and password else Malformed()


class Login:
    """LOGIN, which no RFC describes (draft-murchison-sasl-login): the name, then the password."""

    def __init__(self) -> None:
        self._user = ""

    def respond(self, octets: bytes | None) -> Step:
        """The step after a response; the initial one is the name."""
        if octets is None:
            return Challenge(b"Username:")
        text = _text(octets)
        if not text or "\0" in text:
            return Malformed()
        if self._user:
            return PasswordOffered(self._user, text)
        self._user = text
        return Challenge(b"Password:")


def _text(octets: bytes) -> str | None:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


# --- the client's side -----------------------------------------------------------------------------


class Exchange(Protocol):
    """One login of ours at another server."""

    @property
    def mechanism(self) -> str: ...

    @property
    def is_convinced(self) -> bool:
        """Whether the server may be believed that we are in: with some mechanisms it has to prove itself."""

    def initial(self) -> bytes | None:
        """The initial response, where there is one."""

    def respond(self, challenge: bytes) -> bytes | None:
        """The response to a challenge; None where it is not what belongs there."""


class PlainLogin:
    """PLAIN, RFC 4616."""

    mechanism = "PLAIN"
    is_convinced = True

    def __init__(self, user: str, password: str) -> None:
        self._message = f"\0{user}\0{password}".encode()

    def initial(self) -> bytes:
        """All there is."""
        return self._message

    def respond(self, challenge: bytes) -> bytes | None:  # noqa: ARG002
        """A server that asks again has not understood."""
        return None


class LoginLogin:
    """LOGIN: name and password, each when asked; not all servers take the name before."""

    mechanism = "LOGIN"
    is_convinced = True

    def __init__(self, user: str, password: str) -> None:
        self._answers = [password.encode(), user.encode()]

    def initial(self) -> bytes | None:
        """None."""
        return None

    def respond(self, challenge: bytes) -> bytes | None:  # noqa: ARG002
        """The name, then the password."""
        return self._answers.pop() if self._answers else None
