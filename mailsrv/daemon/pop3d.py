"""mailsrv-pop3d, the supervisor's `pop3`: hands out mail.

Reads the network; reads mailboxes, locks them, and removes messages in UPDATE only.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from mailsrv.config import Config
from mailsrv.daemon import service
from mailsrv.daemon.connection import Connection, Unwelcome
from mailsrv.daemon.logins import LoginFailure, answer_failure
from mailsrv.daemon.server import Server, listening_sockets
from mailsrv.protocol.pop3 import Session
from mailsrv.protocol.pop3_events import Event, Listed, LoginOffered, MessageRequested, Refusal, UpdateRequested
from mailsrv.store.accounts import Account
from mailsrv.store.maildir import Maildir, mailbox_path
from mailsrv.store.maildrop import Maildrop, MaildropInUseError
from mailsrv.work.authentication import Authenticator
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

T = TypeVar("T")

LISTENERS: Final = ("pop3", "pop3s")
PIECE: Final = 64 * 1024  # octets of a message in memory at a time
WORKERS: Final = 2  # password checks, listings and removals at once
TURNED_AWAY: Final[Mapping[Unwelcome, Refusal]] = {
    Unwelcome.FULL: Refusal.TOO_MANY_CONNECTIONS,
    Unwelcome.TOO_MANY_FROM_ADDRESS: Refusal.TOO_MANY_CONNECTIONS,
    Unwelcome.BANNED: Refusal.BANNED,
}
# RFC 3206 §5: [AUTH] only for what is wrong with user or password, not with our files.
REJECTED: Final[Mapping[LoginFailure, Refusal]] = {
    LoginFailure.WRONG: Refusal.BAD_LOGIN,
    LoginFailure.NOT_NOW: Refusal.NOT_NOW,
}


class Pop3:
    """What all connections share."""

    def __init__(self, config: Config, server: Server, authenticator: Authenticator) -> None:
        self.server = server
        self.hostname = config.hostname
        self.authenticator = authenticator
        self.workers = ThreadPoolExecutor(WORKERS, "pop3-worker")
        self._mail = config.mail

    def maildir(self, account: Account) -> Path:
        """Where the account's mailbox lies."""
        return mailbox_path(self._mail, account.mailbox)


class Pop3Connection(Connection[Session]):
    """One client: the session asks, accounts and maildrop answer."""

    def __init__(self, pop3: Pop3, listener: str) -> None:
        super().__init__(pop3.server, Session(pop3.hostname), listener)
        self._pop3 = pop3
        self._maildrop: Maildrop | None = None
        self._message: BinaryIO | None = None
        self._is_working = False  # a worker has the maildrop in hand
        self._is_released = False

    def greet(self, unwelcome: Unwelcome | None) -> None:
        refusal = TURNED_AWAY[unwelcome] if unwelcome else None
        self.session.greet(refusal, takes_passwords=self.takes_passwords)

    def secured(self) -> None:
        raise RuntimeError("there is no STLS yet")

    def answer(self, event: Event) -> None:
        match event:
            case LoginOffered(user, password):
                self._log_in(user, password)
            case MessageRequested(index):
                self._open(index)
            case UpdateRequested(deleted):
                self._update(deleted)

    def released(self) -> None:
        self._is_released = True
        self._close_message()
        if not self._is_working:
            self._unlock()

    def go_on(self) -> None:
        self._stream()

    # --- AUTHORIZATION -----------------------------------------------------------------------------

    def _log_in(self, user: str, password: str) -> None:
        if self.server.is_banned(self):
            self._refuse(Refusal.BANNED)
            return
        self._work(
            functools.partial(_open_maildrop, self._pop3, user, password),
            functools.partial(self._logged_in, user),
        )

    def _logged_in(self, user: str, future: "Future[Maildrop | None]") -> None:
        try:
            self._maildrop = future.result()
        except MaildropInUseError:
            self._refuse(Refusal.IN_USE)
        except OSError as error:
            logger.warning("the maildrop of %s cannot be opened: %s", user, error)
            self._refuse(Refusal.NOT_NOW)
        else:
            if self._is_released:
                self._unlock()
            elif self.server.is_banned(self):  # meanwhile, by guesses over other connections
                self._unlock()
                self._refuse(Refusal.BANNED)
            elif self._maildrop is None:
                answer_failure(self, self._pop3.authenticator, user, lambda why: self._refuse(REJECTED[why]))
            elif not self.session.is_closed:
                self.server.count("logins")
                self.session.admit([Listed(each.octets, each.uidl) for each in self._maildrop.messages])

    # --- TRANSACTION -------------------------------------------------------------------------------

    def _open(self, index: int) -> None:
        try:
            self._message = self._opened().open(index)
        except OSError as error:
            logger.warning("a message cannot be read: %s", error)
            self.session.refuse(Refusal.MESSAGE_GONE)
            return
        self.session.begin_message()
        self._stream()

    def _stream(self) -> None:
        """Send of the message in hand as much as the client takes now."""
        while self._message is not None and not self._is_clogged:
            piece = self._message.read(PIECE)
            wants_more = self.session.write(piece) and piece
            if not wants_more:
                self._close_message()
                self.session.end_message()
                self.server.count("sent")
            self.server.progress += 1
            self.write(self.session.replies())

    def _close_message(self) -> None:
        if self._message is not None:
            self._message.close()
            self._message = None

    # --- UPDATE ------------------------------------------------------------------------------------

    def _update(self, deleted: frozenset[int]) -> None:
        if deleted:
            self._work(functools.partial(self._opened().remove, deleted), self._updated)
        else:
            self._unlock()
            self.session.finish()

    def _updated(self, future: "Future[None]") -> None:
        self._unlock()
        error = future.exception()
        if error is not None:
            logger.warning("messages were not removed: %s", error)
            self._refuse(Refusal.NOT_REMOVED)
        elif not self.session.is_closed:
            self.session.finish()

    # --- the maildrop ------------------------------------------------------------------------------

    def _work(self, work: Callable[[], T], done: "Callable[[Future[T]], None]") -> None:
        """Have a worker do what may take long; `done` is called in the loop, and the session goes on."""
        self._is_working = True

        def finished(future: "Future[T]") -> None:
            self._is_working = False
            try:
                done(future)
            except Exception:  # a fault of ours must not leave the client waiting
                logger.exception("a session broke off")
                self.session.break_off()
            self.pump()

        future = self._pop3.workers.submit(work)
        future.add_done_callback(lambda done: self.server.call_from_thread(functools.partial(finished, done)))

    def _refuse(self, refusal: Refusal) -> None:
        if not self.session.is_closed:
            self.session.refuse(refusal)

    def _opened(self) -> Maildrop:
        if self._maildrop is None:
            raise RuntimeError("the session let a command through that has no maildrop")
        return self._maildrop

    def _unlock(self) -> None:
        if self._maildrop is not None:
            self._maildrop.close()
            self._maildrop = None


def _open_maildrop(pop3: Pop3, user: str, password: str) -> Maildrop | None:
    """The maildrop of who logs in, locked and listed; None where user or password is wrong."""
    account = pop3.authenticator.verify(user, password)
    if account is None:
        return None
    path = pop3.maildir(account)
    Maildir(path).create()
    return Maildrop(path)


def main() -> None:
    """The console script."""
    config, heart, sockets = service.start("pop3", lambda config: listening_sockets(config, "pop3", LISTENERS))
    authenticator = Authenticator(config, Directory(config))
    server = Server("pop3", config, heart, authenticator.failures)
    pop3 = Pop3(config, server, authenticator)
    with pop3.workers:
        server.run(sockets, lambda listener: Pop3Connection(pop3, listener))


if __name__ == "__main__":
    main()
