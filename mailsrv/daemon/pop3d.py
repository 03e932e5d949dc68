"""mailsrv-pop3d, the supervisor's `pop3`: hands out mail.

Reads the network; reads mailboxes, locks them, and removes messages in UPDATE only, or when they have expired.
"""

import errno
import functools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import BinaryIO, Final, TypeVar

from mailsrv.config import Config
from mailsrv.daemon import service
from mailsrv.daemon.connection import Connection, Unwelcome
from mailsrv.daemon.logins import Login, LoginFailure
from mailsrv.daemon.server import Server
from mailsrv.daemon.sockets import listening_sockets
from mailsrv.model.address import Mailbox
from mailsrv.model.language import Language, language_of
from mailsrv.model.program import is_first
from mailsrv.protocol.pop3 import Session
from mailsrv.protocol.pop3_events import (
    AuthenticationBegun,
    AuthenticationContinued,
    EncryptionOffered,
    Event,
    LoginOffered,
    MessageRequested,
    Policy,
    Refusal,
    Security,
    UpdateRequested,
)
from mailsrv.store.accounts import Account
from mailsrv.store.ledger import Form, Kind, Ledger
from mailsrv.store.listings import NotListedError
from mailsrv.store.maildrop import LoginTooSoonError, Maildrop, MaildropInUseError, is_header_ascii
from mailsrv.work.authentication import Authenticator
from mailsrv.work.downloads import Downloads, form_of
from mailsrv.work.expiry import Expiry
from mailsrv.work.maildrops import Maildrops
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

T = TypeVar("T")

LISTENERS: Final = ("pop3", "pop3s")
PIECE: Final = 64 * 1024  # octets of a message in memory at a time
NOT_FOR_POP3: Final = frozenset({"LOGIN"})  # USER and PASS do the same
TURNED_AWAY: Final[Mapping[Unwelcome, Refusal]] = {
    Unwelcome.FULL: Refusal.TOO_MANY_CONNECTIONS,
    Unwelcome.TOO_MANY_FROM_ADDRESS: Refusal.TOO_MANY_CONNECTIONS,
    Unwelcome.BANNED: Refusal.BANNED,
}
# RFC 3206 §5: [AUTH] only for what is wrong with user or password, not with our files.
REJECTED: Final[Mapping[LoginFailure, Refusal]] = {
    LoginFailure.WRONG: Refusal.BAD_LOGIN,
    LoginFailure.BANNED: Refusal.BANNED,
    LoginFailure.MALFORMED: Refusal.MALFORMED,
    LoginFailure.NOT_NOW: Refusal.NOT_NOW,
}
# Faults of a mailbox that do not pass by themselves.
LASTING: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)
FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})


class Pop3:
    """What all connections share."""

    def __init__(self, config: Config, server: Server, authenticator: Authenticator) -> None:
        self.server = server
        self.hostname = config.hostname
        self.authenticator = authenticator
        self.downloads = Downloads(Ledger(config.books, server.name, config.ledger.keep_days))
        self.maildrops = Maildrops(config, self.downloads)
        server.problems += [self.downloads.write, self.maildrops.late]
        self.policy = Policy(
            expire_days=config.pop3.expire_days,
            login_delay=config.pop3.login_delay,
            language=language_of(config.pop3.language) or Language.ENGLISH,
        )
        self.sends_utf8 = config.pop3.utf8_headers == "send"


class Pop3Connection(Connection[Session]):
    """One client: the session asks, accounts and maildrop answer."""

    def __init__(self, pop3: Pop3, listener: str) -> None:
        super().__init__(pop3.server, Session(pop3.hostname, pop3.policy), listener)
        self._pop3 = pop3
        self._login = Login(self, self, pop3.authenticator)
        self._maildrop: Maildrop | None = None
        self._mailbox = Mailbox("", "")  # of who has logged in
        self._message: BinaryIO | None = None  # what is being sent
        self._asked = MessageRequested(0, None, takes_utf8=False)  # what it is sent for
        self._is_working = False  # a worker has the maildrop in hand
        self._is_released = False

    def greet(self, unwelcome: Unwelcome | None) -> None:
        self.session.greet(self._security(), TURNED_AWAY[unwelcome] if unwelcome else None)

    def secured(self) -> None:
        self.session.secured(self._security())

    def answer(self, event: Event) -> None:
        match event:
            case MessageRequested():  # the most frequent one comes first
                self._say_message(event)
            case EncryptionOffered():
                self.session.accept()
                self.begin_tls()
            case LoginOffered(user, password):
                self._login.offer(user, password)
            case AuthenticationBegun(mechanism, response):
                self._login.begin(mechanism, response)
            case AuthenticationContinued(response):
                self._login.respond(response)
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

    def _security(self) -> Security:
        mechanisms: tuple[str, ...] = ()
        if self.takes_passwords:
            offered = self._pop3.authenticator.mechanisms(bindings=self.bindings)
            mechanisms = tuple(each for each in offered if each not in NOT_FOR_POP3)
        return Security(
            is_encrypted=self.is_encrypted,
            can_encrypt=self.server.certificates.context() is not None,
            takes_passwords=self.takes_passwords,
            mechanisms=mechanisms,
        )

    def challenge(self, octets: bytes) -> None:
        self.session.challenge(octets)

    def admit(self, account: Account) -> None:
        self._admit(account, functools.partial(self._pop3.maildrops.reopen, account.mailbox))

    def reject(self, failure: LoginFailure) -> None:
        self._refuse(REJECTED[failure])

    def _admit(self, account: Account, opened: Callable[[], Maildrop]) -> None:
        try:
            self._maildrop = opened()
        except NotListedError:  # to go to a worker and back costs as much as a whole login
            work = functools.partial(self._pop3.maildrops.open, account.mailbox)
            self._work(work, lambda future: self._admit(account, future.result))
        except MaildropInUseError:
            self._refuse(Refusal.IN_USE)
        except LoginTooSoonError:
            self._refuse(Refusal.LOGIN_DELAY)
        except OSError as error:
            logger.warning("the maildrop of %s cannot be opened: %s", account.mailbox, error)
            self._refuse(Refusal.NEEDS_A_PERSON if error.errno in LASTING else Refusal.NOT_NOW)
        else:
            if self._is_released:
                self._unlock()
            elif not self.session.is_closed:
                self.server.count("logins")
                self._mailbox = account.mailbox
                self.session.admit(self._maildrop.listing)

    # --- TRANSACTION -------------------------------------------------------------------------------

    def _say_message(self, asked: MessageRequested) -> None:
        """Most messages are small, and where and as they were listed: those are said at once."""
        try:
            message = self._opened().read_where_it_was(asked.message)
        except OSError:
            message = None
        if message is not None and (self._takes(asked) or message.isascii()) and self.session.say_message(message):
            self._note_sent(asked)
        else:
            self._open(asked)

    def _takes(self, asked: MessageRequested) -> bool:
        """Whether the client takes any header (RFC 6856 §4)."""
        return asked.takes_utf8 or self._pop3.sends_utf8

    def _open(self, asked: MessageRequested) -> None:
        maildrop = self._opened()
        try:
            message = maildrop.open_where_it_was(asked.message)
        except FileNotFoundError:  # to look for it may be to list 100,000 files
            work = functools.partial(maildrop.open, asked.message)
            self._work(work, functools.partial(self._found, asked))
        except OSError as error:
            self._refuse_message(error)
        else:
            self._begin(asked, message)

    def _found(self, asked: MessageRequested, future: "Future[BinaryIO]") -> None:
        try:
            message = future.result()
        except OSError as error:
            self._refuse_message(error)
        else:
            if self.session.is_closed:
                message.close()
            else:
                self._begin(asked, message)
        if self._is_released:
            self._unlock()

    def _begin(self, asked: MessageRequested, message: BinaryIO) -> None:
        """Send a message, if it is what it was and the client takes it."""
        self._message, self._asked = message, asked
        try:
            octets = self._opened().octets_of(asked.message, message)
            needs_utf8 = not (self._takes(asked) or is_header_ascii(message))
        except OSError as error:
            self._refuse_message(error)
            return
        if needs_utf8:
            self._close_message()
            self.session.refuse(Refusal.NEEDS_UTF8)
            return
        self.session.begin_message(octets)
        self._stream()

    def _refuse_message(self, error: OSError) -> None:
        logger.warning("a message cannot be read: %s", error)
        self._close_message()
        self._refuse(Refusal.UNREADABLE if error.errno in FORBIDDEN else Refusal.MESSAGE_GONE)

    def _stream(self) -> None:
        """Send of the message in hand as much as the client takes now."""
        while self._message is not None and not self._is_clogged:
            try:
                piece = self._message.read(PIECE)
            except OSError as error:
                logger.warning("a message cannot be read to its end: %s", error)
                self._close_message()
                self.session.break_off()
                return
            is_last = len(piece) < PIECE
            self.server.progress += 1
            if self.session.write(piece) and not is_last:
                self.write(self.session.replies())
            else:  # what is said here goes with the answer to what the client has asked for behind it
                self._close_message()
                self._end_message()

    def _end_message(self) -> None:
        if self.session.end_message():
            self._note_sent(self._asked)
            return
        listing, index = self._opened().listing, self._asked.message
        logger.warning("a message has changed while it was sent: %s", listing.path(index))
        listing.distrust(index)

    def _note_sent(self, asked: MessageRequested) -> None:
        self.server.count("sent")
        if asked.body_lines is None:
            self._pop3.downloads.note(self._fetched, self._opened().listing.file_name(asked.message))

    @functools.cached_property
    def _fetched(self) -> Form:
        """The lines of the ledger about what this client fetches."""
        return form_of(Kind.FETCHED, self._mailbox, self.peer)

    def _close_message(self) -> None:
        if self._message is not None:
            self._message.close()
            self._message = None

    # --- UPDATE ------------------------------------------------------------------------------------

    def _update(self, deleted: frozenset[int]) -> None:
        if deleted:
            work = functools.partial(self._pop3.maildrops.remove, self._opened(), deleted, self._mailbox, self.peer)
            self._work(work, self._updated)
        else:
            self._unlock()
            self.session.accept()

    def _updated(self, future: "Future[None]") -> None:
        self._unlock()
        error = future.exception()
        if error is not None:
            logger.warning("messages were not removed: %s", error)
            is_lasting = isinstance(error, OSError) and error.errno in LASTING
            self._refuse(Refusal.NOT_REMOVABLE if is_lasting else Refusal.NOT_REMOVED)
        elif not self.session.is_closed:
            self.session.accept()

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

        future = self._pop3.maildrops.submit(work)
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


def main() -> None:
    """The console script."""
    name = service.process_name("pop3")
    config, heart, sockets = service.start(name, lambda config: listening_sockets(config, name, LISTENERS))
    directory = Directory(config)
    authenticator = Authenticator(config, directory)
    server = Server(name, config, heart, authenticator.failures)
    pop3 = Pop3(config, server, authenticator)
    expiry = Expiry(config, directory, server.count, pop3.downloads.expired)
    server.problems.append(lambda: "; ".join(expiry.problems))
    if is_first(name):
        expiry.start()
    with pop3.maildrops.workers:
        server.run(sockets, lambda listener: Pop3Connection(pop3, listener))
    expiry.stop()
    pop3.downloads.write()


if __name__ == "__main__":
    main()
