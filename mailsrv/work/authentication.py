"""Logging in, for `smtp` and `pop3` alike: the exchanges of SASL, the checking of passwords, the failed logins.

Three things cost time, and each is bounded: an argon2 check (50 ms and 64 MB) is done by two threads, with a queue; a
SCRAM exchange takes microseconds of the server; and the list of failed logins is kept in memory.

Of a failed login the caller tells `failures`, unless it `is_uncertain`; and waits as long as that says.
"""

import functools
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from mailsrv.config import Config
from mailsrv.host import scram
from mailsrv.host.passwords import Memory
from mailsrv.host.scram import Bindings, MalformedMessageError, RejectedProofError, ServerSide, prepared
from mailsrv.model.mechanisms import MECHANISMS
from mailsrv.model.verifier import Verifier, parse_verifier
from mailsrv.protocol import sasl
from mailsrv.protocol.sasl import Challenge, Malformed, PasswordOffered
from mailsrv.settings import Logins
from mailsrv.store.accounts import Account
from mailsrv.store.failed_logins import FailedLogins, Policy
from mailsrv.store.secret import SECRET_OCTETS, read_secret
from mailsrv.work.routing import Directory

CHECKS_AT_ONCE: Final = 2
CHECKS_WAITING: Final = 100  # besides: some three seconds of work


@dataclass(frozen=True, slots=True)
class Admitted:
    """The end of an exchange: the client has shown that it is this account."""

    account: Account


@dataclass(frozen=True, slots=True)
class Rejected:
    """The end of an exchange: the client has not shown that it is `user`, as it calls itself."""

    user: str


Step: TypeAlias = sasl.Step | Admitted | Rejected


class Exchange(Protocol):
    """What `Authenticator.begin` gives: from a response of the client, or None for no initial one, to a step."""

    def respond(self, octets: bytes | None) -> Step:
        """The step after a response; after one that ends the exchange, none is to be given."""


class OverloadedError(Exception):
    """Too many password checks are waiting: the client should try again later."""


class Authenticator:
    """What one program knows of logging in; safe in any thread."""

    def __init__(self, config: Config, directory: Directory) -> None:
        self.failures = FailedLogins(config.failed_logins, _policy_of(config.logins))
        self._directory = directory
        self._accounts_path = config.accounts
        self._mechanisms = tuple(name for name in MECHANISMS if name in config.logins.mechanisms)
        self._memory = Memory()
        # Without a file, somebody unknown differs in each program and after each start; nobody is kept from logging in.
        self._secret = read_secret(config.secret) or secrets.token_bytes(SECRET_OCTETS)
        self._workers = ThreadPoolExecutor(CHECKS_AT_ONCE, "password")
        self._at_once = threading.BoundedSemaphore(CHECKS_AT_ONCE)
        self._waiting = threading.BoundedSemaphore(CHECKS_AT_ONCE + CHECKS_WAITING)

    def mechanisms(self, *, bindings: Bindings | None) -> tuple[str, ...]:
        """What to offer, the best first, on a connection with these channel bindings.

        SCRAM only where every account can use it: a client tries the best that it knows, and often nothing after it.
        """
        return _offered(self._mechanisms, is_ready=self._directory.is_ready_for_scram(), is_bound=bool(bindings))

    def begin(self, mechanism: str, bindings: Bindings | None) -> Exchange:
        """An exchange of a mechanism by its name in capitals; raises ValueError where there is none of that name."""
        match mechanism:
            case "PLAIN":
                return _Plain(self._directory)
            case "LOGIN":
                return sasl.Login()
            case "SCRAM-SHA-256":
                return _Scram(self._directory, self._secret, bindings or {}, is_plus=False)
            case "SCRAM-SHA-256-PLUS" if bindings:
                return _Scram(self._directory, self._secret, bindings, is_plus=True)
        raise ValueError(f"there is no mechanism {mechanism}")

    def verify(self, user: str, password: str) -> Account | None:
        """The account, if this is its password; waits for its turn, and takes as long for somebody unknown."""
        account = self._directory.account(user)
        password = prepared(password)
        if account is not None and self._memory.knows(account.password_hash, password):
            return account
        with self._at_once:
            is_right = self._memory.verify(account.password_hash if account else None, password)
        return account if is_right else None

    def known(self, user: str, password: str) -> Account | None:
        """The account, if this was verified as its password not long ago; costs microseconds."""
        account = self._directory.account(user)
        if account is None or not self._memory.knows(account.password_hash, prepared(password)):
            return None
        return account

    def submit(self, user: str, password: str) -> "Future[Account | None]":
        """`verify` in a thread; raises OverloadedError."""
        if not self._waiting.acquire(blocking=False):
            raise OverloadedError
        future = self._workers.submit(self.verify, user, password)
        future.add_done_callback(lambda _future: self._waiting.release())
        return future

    def is_uncertain(self) -> bool:
        """Whether `accounts` cannot be read as it stands: who fails to log in may be right, so it is our fault."""
        return any(mistake.path == self._accounts_path for mistake in self._directory.mistakes())

    def close(self) -> None:
        """End the threads; checks that have not begun are cancelled."""
        self._workers.shutdown(cancel_futures=True)
        self.failures.close()


@functools.lru_cache  # asked for each connection
def _offered(names: tuple[str, ...], *, is_ready: bool, is_bound: bool) -> tuple[str, ...]:
    return tuple(
        name
        for name in names
        if not name.startswith("SCRAM") or (is_ready and (is_bound or not name.endswith("-PLUS")))
    )


class _Plain:
    """PLAIN, in which nobody may act as somebody else (RFC 4616 §2), but may name the own account in any form."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._plain = sasl.Plain()

    def respond(self, octets: bytes | None) -> Step:
        step = self._plain.respond(octets)
        if isinstance(step, PasswordOffered) and step.authzid:
            is_own = self._directory.key_of(step.authzid) == self._directory.key_of(step.user)
            return PasswordOffered(step.user, step.password) if is_own else Rejected(step.user)
        return step


class _Scram:
    """A SCRAM exchange; `v=...` goes as a challenge, and the client's response to it is empty (RFC 4954 §4)."""

    def __init__(self, directory: Directory, secret: bytes, bindings: Bindings, *, is_plus: bool) -> None:
        self._directory = directory
        self._secret = secret
        self._account: Account | None = None
        self._server = ServerSide(self._verifier_of, bindings, is_plus=is_plus)
        self._next: Callable[[bytes], Step] = self._first

    def respond(self, octets: bytes | None) -> Step:
        if octets is None:
            return Challenge(b"")
        try:
            return self._next(octets)
        except MalformedMessageError:
            return Malformed()
        except RejectedProofError:
            return Rejected(self._server.user)

    def _first(self, octets: bytes) -> Step:
        challenge = Challenge(self._server.first(octets))
        if self._server.authzid and self._key_of(self._server.authzid) != self._key_of(self._server.user):
            return Rejected(self._server.user)
        self._next = self._final
        return challenge

    def _final(self, octets: bytes) -> Step:
        challenge = Challenge(self._server.final(octets))
        self._next = self._acknowledged
        return challenge

    def _acknowledged(self, octets: bytes) -> Step:
        if octets:
            return Malformed()
        return Admitted(self._account) if self._account else Rejected(self._server.user)

    def _verifier_of(self, user: str) -> Verifier:
        self._account = self._directory.account(user)
        # Made for everybody, so that there is no difference in the time either.
        fake = scram.fake_verifier(self._secret, self._key_of(user))
        return parse_verifier((self._account and self._account.scram_verifier) or str(fake))

    def _key_of(self, name: str) -> str:
        return self._directory.key_of(name)


def _policy_of(logins: Logins) -> Policy:
    return Policy(logins.delay, logins.ban_after, logins.within, logins.ban_seconds, logins.never_banned)
