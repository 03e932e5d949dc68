"""mailsrv-smtpd, the supervisor's `smtp`: receives mail for our mailboxes, and mail from our users, into the spool.

Reads the network; creates drafts in `spool/tmp`, publishes them to `spool/new`; touches nothing else but the list of
failed logins and the ledger.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from mailsrv.config import Config
from mailsrv.daemon import service
from mailsrv.daemon.connection import Connection, Unwelcome
from mailsrv.daemon.logins import Login, LoginFailure
from mailsrv.daemon.server import Server
from mailsrv.daemon.sockets import listening_sockets
from mailsrv.model import reply, trace
from mailsrv.model.address import ReversePath
from mailsrv.model.envelope import Arrival, Envelope
from mailsrv.model.failure import reply_to
from mailsrv.model.identity import EntryId, arrival_of, new_entry_id
from mailsrv.model.reply import Reply
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_events import (
    AuthenticationBegun,
    AuthenticationContinued,
    ContentAbandoned,
    ContentOffered,
    ContentReceived,
    EncryptionOffered,
    Event,
    Header,
    HeaderEnded,
    Limits,
    MessageEnded,
    RecipientOffered,
    Security,
    SenderOffered,
    Service,
)
from mailsrv.store import entry
from mailsrv.store.accounts import Account
from mailsrv.store.durable import Draft, Outcome
from mailsrv.store.groupcommit import GroupCommit
from mailsrv.store.ledger import Kind, Ledger, Line
from mailsrv.store.spares import Stock
from mailsrv.store.spool import Spool, State
from mailsrv.work.authentication import Authenticator
from mailsrv.work.books import arrived
from mailsrv.work.quota import Gauge
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

SERVICES: Final[Mapping[str, Service]] = {
    "smtp": Service.MAIL,
    "submission": Service.SUBMISSION,
    "submissions": Service.SUBMISSION,
    "lmtp": Service.LMTP,
}
TURNED_AWAY: Final[Mapping[Unwelcome, Reply]] = {
    Unwelcome.FULL: reply.TOO_MANY_CONNECTIONS,
    Unwelcome.TOO_MANY_FROM_ADDRESS: reply.TOO_MANY_FROM_ADDRESS,
    Unwelcome.BANNED: reply.BANNED,
}
REJECTED: Final[Mapping[LoginFailure, Reply]] = {
    LoginFailure.WRONG: reply.BAD_LOGIN,
    LoginFailure.BANNED: reply.BANNED,
    LoginFailure.MALFORMED: reply.NOT_THE_MECHANISM,
    LoginFailure.NOT_NOW: reply.LOGIN_NOT_AVAILABLE,
}


class Smtp:
    """What all connections share."""

    def __init__(self, config: Config, server: Server, directory: Directory, authenticator: Authenticator) -> None:
        self.server = server
        self.hostname = config.hostname
        self.own_sender_only = config.smtp.own_sender_only
        self.limits = Limits(
            max_message_octets=config.smtp.max_message_octets,
            max_recipients=config.smtp.max_recipients,
            max_messages=config.smtp.max_messages,
            max_line_octets=config.smtp.max_line_octets,
        )
        self.directory = directory
        self.gauge = Gauge(directory, config.mail)
        self.authenticator = authenticator
        self.spool = Spool(config.spool)
        self.ledger = Ledger(config.books, server.name, config.ledger.keep_days)
        self.stock = Stock(self.spool.spares.folder)
        self.commits = GroupCommit(server, self.ledger, self.stock, is_alone=server.has_one_client)
        self._is_held = False  # the directory
        server.problems.append(self.commits.problem)

    def hold_directory(self) -> None:
        """All recipients that come in one turn of the loop are answered by the files as they stand at the first."""
        if not self._is_held:
            self._is_held = True
            self.directory.hold()
            self.server.call_soon(self._release_directory)

    def _release_directory(self) -> None:
        self._is_held = False
        self.directory.release()


class SmtpConnection(Connection[Session]):
    """One client: the session asks, the directory and the spool answer."""

    def __init__(self, smtp: Smtp, listener: str) -> None:
        self._service = SERVICES[listener]
        super().__init__(smtp.server, Session(smtp.hostname, smtp.limits, self._service), listener)
        self._smtp = smtp
        self._login: Login | None = None
        self._account: Account | None = None
        self._entry_id = EntryId("")
        self._draft: Draft | None = None
        self._line: Callable[[int], Line]  # of the message in hand, once its size is known
        self._fault: OSError | None = None

    def greet(self, unwelcome: Unwelcome | None) -> None:
        self.session.greet(self._security(), TURNED_AWAY[unwelcome] if unwelcome else None)

    def secured(self) -> None:
        self.session.secured(self._security())

    def answer(self, event: Event) -> None:
        match event:
            case ContentReceived(octets):
                self._write(octets)
            case HeaderEnded(header):
                self._complete_header(header)
            case SenderOffered(sender):
                self._answer_sender(sender.reverse_path)
            case RecipientOffered():
                self._answer_recipient(event)
            case ContentOffered(envelope):
                self._begin(envelope)
            case MessageEnded():
                self._commit()
            case ContentAbandoned():
                self._abandon()
            case EncryptionOffered():
                self._account = None
                self.session.accept()
                self.begin_tls()
            case AuthenticationBegun(mechanism, response):
                self._login = Login(self, self, self._smtp.authenticator)
                self._login.begin(mechanism, response)
            case AuthenticationContinued(response) if self._login is not None:
                self._login.respond(response)

    def released(self) -> None:
        self._abandon()

    def _security(self) -> Security:
        mechanisms: tuple[str, ...] = ()
        if self._service is Service.SUBMISSION and self.takes_passwords:
            mechanisms = self._smtp.authenticator.mechanisms(bindings=self.bindings)
        can_encrypt = self.server.certificates.context() is not None
        return Security(self.is_encrypted, can_encrypt, mechanisms)

    # --- AUTH --------------------------------------------------------------------------------------

    def challenge(self, octets: bytes) -> None:
        self.session.challenge(octets)

    def admit(self, account: Account) -> None:
        self._account = account
        self.server.count("logins")
        self.session.admit(str(account.mailbox))

    def reject(self, failure: LoginFailure) -> None:
        self.session.refuse(REJECTED[failure])

    # --- the transaction ---------------------------------------------------------------------------

    def _answer_sender(self, reverse_path: ReversePath) -> None:
        """A user sends as itself; the null reverse-path is for what its mail program reports (RFC 8098 §3)."""
        if self._account is not None and not self._smtp.directory.is_current(self._account):
            # Removed, or given a new password: whoever this is may log in again.
            self._account, self.session.identity = None, ""
            self.session.refuse(reply.AUTHENTICATION_REQUIRED)
        elif (
            self._account is None
            or reverse_path is None
            or not self._smtp.own_sender_only
            or self._smtp.directory.may_send_as(self._account, reverse_path)
        ):
            self.session.accept()
        else:
            self.session.refuse(reply.NOT_YOUR_ADDRESS)

    def _answer_recipient(self, event: RecipientOffered) -> None:
        self._smtp.hold_directory()
        route = self._smtp.directory.answer(event.recipient.forward_path, event.sender.reverse_path)
        if not route.is_ours and self._account is None:
            self.session.refuse(reply.RELAY_DENIED)
        elif route.refusal is not None and not route.leads_somewhere:
            self.session.refuse(route.refusal)
        elif (refusal := self._smtp.gauge.refusal_of_all(route, event.sender)) is not None:
            self.session.refuse(refusal)
        else:
            self.session.accept()

    def _begin(self, envelope: Envelope) -> None:
        session = self.session
        now, encryption = datetime.now(UTC), str(self.encryption or "")
        arrival = Arrival(now, session.protocol, session.hello.name, self.peer, encryption, session.identity)
        self._entry_id = new_entry_id(now)
        self._draft = self._smtp.spool.draft(self._entry_id, self._smtp.stock)
        self._fault = None
        facts = {"with": arrival.protocol, "peer": self.peer, "helo": arrival.helo, "auth": arrival.identity}
        self._line = functools.partial(_line_of, self._entry_id, envelope, facts)
        session.accept()
        self._write(entry.render(envelope, arrival, self._entry_id))
        self._write(trace.received(arrival, self._smtp.hostname, self._entry_id, envelope))

    def _complete_header(self, header: Header) -> None:
        """RFC 6409 §8: what a user's mail program left out."""
        missing = b""
        if "date" not in header.names:
            missing += trace.date(arrival_of(self._entry_id))
        if "message-id" not in header.names:
            missing += trace.message_id(self._entry_id, self._smtp.hostname)
        if missing:
            self._write(missing if header.is_separated else missing + b"\r\n")

    def _write(self, octets: bytes) -> None:
        if self._draft is not None:
            try:
                self._draft.write(octets)
            except OSError as error:
                logger.warning("%s could not be written: %s", self._entry_id, error.strerror)
                self._fault = error
                self._abandon()

    def _commit(self) -> None:
        draft, self._draft = self._draft, None
        if draft is None:
            self.session.refuse(reply_to(self._fault) if self._fault else reply.LOCAL_ERROR)
            return
        final = self._smtp.spool.path(State.NEW, self._entry_id)
        self._smtp.commits.submit(draft, final, self._line(draft.size), self._committed)

    def _committed(self, outcome: Outcome) -> None:
        if outcome is None:
            self.server.count("accepted")
            if not self.session.is_closed:
                self.session.accept(f"queued as {self._entry_id}")
        else:
            logger.warning("%s could not be committed: %s", self._entry_id, outcome.strerror)
            if not self.session.is_closed:
                self.session.refuse(reply_to(outcome))
        self.pump()

    def _abandon(self) -> None:
        if self._draft is not None:
            draft, self._draft = self._draft, None
            try:
                draft.abort()
            except OSError as error:  # delivery sweeps it later
                logger.warning("a draft could not be removed: %s", error.strerror)


def _line_of(entry_id: EntryId, envelope: Envelope, facts: dict[str, str], octets: int) -> Line:
    """What the books say of a message that was accepted."""
    return arrived(Kind.ACCEPTED, entry_id, envelope, octets, **facts)


def main() -> None:
    """The console script."""
    name = service.process_name("smtp")
    config, heart, sockets = service.start(name, lambda config: listening_sockets(config, name, tuple(SERVICES)))
    directory = Directory(config)
    authenticator = Authenticator(config, directory)
    server = Server(name, config, heart, authenticator.failures)
    smtp = Smtp(config, server, directory, authenticator)
    server.run(sockets, lambda listener: SmtpConnection(smtp, listener), smtp.commits.is_alive)


if __name__ == "__main__":
    main()
