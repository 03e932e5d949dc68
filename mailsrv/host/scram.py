"""scramp: SCRAM (RFC 5802, 7677), mostly the server's side of it, with and without PLUS, and the verifiers for it.

Somebody unknown is led through the same conversation as everybody else, with a salt that is always the same for the
same name, and fails at its end: whether there is an account does not show. Nothing that the library says of a mistake
reaches the peer.

Channel bindings (RFC 5929, 9266) are given by the caller, by their names: `tls-exporter`, `tls-server-end-point`,
`tls-unique`.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from scramp import ScramClient, ScramException, ScramMechanism
from scramp.utils import ServerError, saslprep

from mailsrv.model.verifier import KEY_OCTETS, Verifier

Bindings: TypeAlias = Mapping[str, bytes]

# For somebody who steals the file of accounts a guess should be dear, but every client pays it at every login: 40 ms on
# a server's core, some 200 ms on a phone. RFC 7677 §4 asks for 4096 at least. The server itself pays at `user passwd`.
ITERATIONS: Final = 100_000
SALT_OCTETS: Final = 16
MAX_MESSAGE: Final = 4096  # octets; names and nonces are far shorter, and preparing them takes time

# The library refuses the name tls-exporter: it is told this of every binding, and `_Gs2Header` what was really bound.
_ANY_BINDING: Final = "tls-unique"

MAX_ITERATIONS: Final = 1_000_000  # that a server may ask of us: a second of work

_ITERATIONS: Final = re.compile(r",i=([0-9]{1,9})(?:,|$)")
_GS2_HEADER: Final = re.compile(r"(?:[ny]|p=([A-Za-z0-9.-]+)),(?:a=([^,]+))?,")  # RFC 5802 §7
_SASLNAME: Final = re.compile(r"(?:[^=,\0]|=2C|=3D)+")


class MalformedMessageError(Exception):
    """The peer's message is not what belongs there; no password was tried."""


class RejectedProofError(Exception):
    """The peer has not shown that it knows the password, or somebody meddles with the connection."""


def prepared(password: str) -> str:
    """The form to compare passwords by (SASLprep, RFC 4013), however they were typed.

    One that SASLprep does not allow is taken as it is, as PostgreSQL does.
    """
    if password.isascii() and password.isprintable():  # which SASLprep leaves as it is, in 60 microseconds
        return password
    try:
        return saslprep(password) or password
    except ScramException:
        return password


def make_verifier(password: str) -> str:
    """A new verifier of `password`, as it stands in `accounts`; takes some 40 ms."""
    salt = secrets.token_bytes(SALT_OCTETS)
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", hashlib.sha256)  # RFC 5802 §3
    server_key = hmac.digest(salted, b"Server Key", hashlib.sha256)
    return str(Verifier(ITERATIONS, salt, hashlib.sha256(client_key).digest(), server_key))


def fake_verifier(secret: bytes, key: str) -> Verifier:
    """A verifier that fits no password, for the account `key` that does not exist: its salt is always the same."""
    salt = hmac.digest(secret, key.encode(), hashlib.sha256)[:SALT_OCTETS]
    return Verifier(ITERATIONS, salt, secrets.token_bytes(KEY_OCTETS), secrets.token_bytes(KEY_OCTETS))


class ServerSide:
    """One conversation: `first`, then `final`. After either has raised, it is over.

    `verifier_of` is asked with the name that the client gave, and always knows an answer.
    """

    def __init__(self, verifier_of: Callable[[str], Verifier], bindings: Bindings, *, is_plus: bool) -> None:
        self._verifier_of = verifier_of
        self._bindings = bindings
        self._is_plus = is_plus
        self._server: Any = None
        self.user = ""
        self.authzid = ""  # who the client wants to be; empty is `user`

    def first(self, octets: bytes) -> bytes:
        """The answer to the client's first message; raises MalformedMessageError, RejectedProofError."""
        text = _text(octets)
        header = _GS2_HEADER.match(text)
        if header is None or (header[1] is not None) != self._is_plus:
            raise MalformedMessageError
        self.authzid = _unescaped(header[2] or "")
        binding = self._binding(header[1])
        try:
            mechanism = ScramMechanism("SCRAM-SHA-256-PLUS" if self._is_plus else "SCRAM-SHA-256")
            self._server = mechanism.make_server(self._look_up, channel_binding=binding and (_ANY_BINDING, binding[1]))
            # Nor does it know an authzid: it gets a header that it knows, and is told afterwards what was sent.
            flag = f"p={_ANY_BINDING}" if self._is_plus else text[0]
            self._server.set_client_first(f"{flag},,{text[header.end() :]}")
            self._server.gs2_header = _Gs2Header(header[0].encode(), binding[1] if header[1] and binding else b"")
            answer: str = self._server.get_server_first()
        except ScramException as error:
            if error.server_error is ServerError.NO_RESOURCES:
                raise  # `verifier_of` has raised: our fault, and not the peer's
            # RFC 5802 §6: who says `y` was shown a list of mechanisms without PLUS, and that is not the one we sent.
            if error.server_error is ServerError.SERVER_DOES_SUPPORT_CHANNEL_BINDING:
                raise RejectedProofError from None
            raise MalformedMessageError from None
        return answer.encode()

    def final(self, octets: bytes) -> bytes:
        """The answer to the client's final message, which has proved itself; raises RejectedProofError."""
        server, self._server = self._server, None  # one guess, whatever becomes of it
        if server is None:
            raise RejectedProofError
        try:
            server.set_client_final(_text(octets))
            answer: str = server.get_server_final()
        except (ScramException, MalformedMessageError):
            raise RejectedProofError from None
        return answer.encode()

    def _binding(self, name: str | None) -> tuple[str, bytes] | None:
        """What the client binds to; where it does not, any that it could have bound to."""
        if name is None:
            return next(iter(self._bindings.items()), None)
        if name not in self._bindings:
            raise MalformedMessageError
        return name, self._bindings[name]

    def _look_up(self, user: str) -> tuple[bytes, bytes, bytes, int]:
        self.user = user
        found = self._verifier_of(user)
        return found.salt, found.stored_key, found.server_key, found.iterations


class _Gs2Header:
    """The header as it was sent, and what was bound: the client repeats both in its final message (`cbind-input`)."""

    def __init__(self, header: bytes, bound: bytes) -> None:
        self._input = header + bound

    def make_cbind_input(self, _binding: object) -> bytes:
        return self._input


def _text(octets: bytes) -> str:
    if len(octets) > MAX_MESSAGE:
        raise MalformedMessageError
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedMessageError from None


def _unescaped(saslname: str) -> str:
    if saslname and not _SASLNAME.fullmatch(saslname):
        raise MalformedMessageError
    return saslname.replace("=2C", ",").replace("=3D", "=")


class ClientSide:
    """Our own login at another server. It counts only once the server has shown that it knows the password as well."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        self.mechanism = mechanism
        self._client: Any = ScramClient([mechanism], user, password)
        self._answers = [self._acknowledge, self._prove]
        self.is_convinced = False

    def initial(self) -> bytes | None:
        """The client's first message."""
        first: str = self._client.get_client_first()
        return first.encode()

    def respond(self, challenge: bytes) -> bytes | None:
        """The answer to the server's first message, and to its last; None where it is not what belongs there."""
        try:
            return self._answers.pop()(_text(challenge)) if self._answers else None
        except (ScramException, MalformedMessageError):
            return None

    def _prove(self, text: str) -> bytes:
        iterations = _ITERATIONS.search(text)
        if iterations is None or int(iterations[1]) > MAX_ITERATIONS:
            raise MalformedMessageError
        self._client.set_server_first(text)
        final: str = self._client.get_client_final()
        return final.encode()

    def _acknowledge(self, text: str) -> bytes:
        self._client.set_server_final(text)
        self.is_convinced = True
        return b""
