"""Logging in over a connection: an exchange step by step, the slow check beside the loop, and what a failure costs."""

import functools
import logging
import time
from concurrent.futures import Future
from enum import Enum, auto
from typing import Any, Protocol

from mailsrv.daemon.connection import Connection
from mailsrv.protocol.sasl import Challenge, Malformed, PasswordOffered
from mailsrv.store.accounts import Account
from mailsrv.work.authentication import Admitted, Authenticator, Exchange, OverloadedError, Rejected

logger = logging.getLogger(__name__)


class LoginFailure(Enum):
    """Why a login was not a login."""

    WRONG = auto()  # who it says, or its proof of it
    BANNED = auto()  # others from its address, or itself, have guessed too often: not even the right answer counts
    MALFORMED = auto()  # not what the mechanism asks for
    NOT_NOW = auto()  # our fault, or too much at once


class LoggingIn(Protocol):
    """What a session answers a login with."""

    def challenge(self, octets: bytes) -> None:
        """Send a challenge."""

    def admit(self, account: Account) -> None:
        """The client is this account."""

    def reject(self, failure: LoginFailure) -> None:
        """The client is nobody."""


class Login:
    """One login under way on `connection`; `door` is told how it goes."""

    def __init__(self, connection: Connection[Any], door: LoggingIn, authenticator: Authenticator) -> None:
        self._connection = connection
        self._door = door
        self._authenticator = authenticator
        self._exchange: Exchange | None = None

    def begin(self, mechanism: str, response: bytes | None) -> None:
        """AUTH, with the initial response if it brought one."""
        self._exchange = self._authenticator.begin(mechanism, self._connection.bindings)
        self._go_on(self._exchange, response)

    def respond(self, response: bytes) -> None:
        """The client's response to a challenge."""
        if self._exchange is not None:
            self._go_on(self._exchange, response)

    def offer(self, user: str, password: str) -> None:
        """A password, without any exchange."""
        if self._is_banned():
            self._door.reject(LoginFailure.BANNED)
        else:
            self._check(user, password)

    def _go_on(self, exchange: Exchange, response: bytes | None) -> None:
        if self._is_banned():
            self._door.reject(LoginFailure.BANNED)
            return
        match exchange.respond(response):
            case Challenge(challenge):
                self._door.challenge(challenge)
            case PasswordOffered(user, password):
                self._check(user, password)
            case Admitted(account):
                self._door.admit(account)
            case Rejected(user):
                self._fail(user)
            case Malformed():
                self._door.reject(LoginFailure.MALFORMED)

    def _check(self, user: str, password: str) -> None:
        if (account := self._authenticator.known(user, password)) is not None:
            self._door.admit(account)
            return
        try:
            future = self._authenticator.submit(user, password)
        except OverloadedError:
            self._door.reject(LoginFailure.NOT_NOW)
            return
        future.add_done_callback(
            lambda done: self._connection.server.call_from_thread(functools.partial(self._checked, user, done))
        )

    def _checked(self, user: str, future: "Future[Account | None]") -> None:
        if not self._connection.session.is_waiting:  # the client is gone
            return
        account = future.result() if future.exception() is None else None
        if self._is_banned():  # meanwhile, by guesses over other connections
            self._door.reject(LoginFailure.BANNED)
        elif account is not None:
            self._door.admit(account)
        elif future.exception() is not None:
            logger.error("a password could not be checked: %r", future.exception())
            self._door.reject(LoginFailure.NOT_NOW)
        else:
            self._fail(user)
        self._connection.pump()

    def _is_banned(self) -> bool:
        return self._connection.server.is_banned(self._connection)

    def _fail(self, user: str) -> None:
        """Count a failed login; the answer follows after the time that it costs, if the client still waits.

        Where it may be our files that are wrong (RFC 3206 §5 knows the difference), nothing is counted.
        """
        if self._authenticator.is_uncertain():
            self._door.reject(LoginFailure.NOT_NOW)
            return
        connection = self._connection
        logger.info("login failed: %s from [%s]", ascii(user), connection.peer)
        connection.server.count("failed_logins")
        delay = self._authenticator.failures.failed(connection.peer, time.time())
        connection.server.loop.call_later(delay, self._answer_failure)

    def _answer_failure(self) -> None:
        if self._connection.session.is_waiting:
            self._door.reject(LoginFailure.WRONG)
            self._connection.pump()
