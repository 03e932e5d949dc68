"""mailsrv-smtpd, the supervisor's `smtp`: receives mail for our mailboxes and puts it into the spool.

Reads the network; creates drafts in `spool/tmp`, publishes them to `spool/new`; touches nothing else.
"""

import logging
from datetime import UTC, datetime

from mailsrv.config import Config
from mailsrv.daemon import service
from mailsrv.daemon.server import Connection, Server, listening_sockets
from mailsrv.model import reply, trace
from mailsrv.model.envelope import Arrival, Envelope
from mailsrv.model.failure import reply_to
from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_events import (
    ContentAbandoned,
    ContentOffered,
    ContentReceived,
    Event,
    Limits,
    MessageEnded,
    RecipientOffered,
    SenderOffered,
)
from mailsrv.store import entry
from mailsrv.store.durable import Draft, Outcome
from mailsrv.store.groupcommit import GroupCommit
from mailsrv.store.spool import Spool, State
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)


class Smtp:
    """What all connections share."""

    def __init__(self, config: Config, server: Server, commits: GroupCommit) -> None:
        self.server = server
        self.hostname = config.hostname
        self.limits = Limits(config.smtp.max_message_octets, config.smtp.max_recipients)
        self.directory = Directory(config)
        self.spool = Spool(config.spool)
        self.commits = commits


class SmtpConnection(Connection[Session]):
    """One client: the session asks, the directory and the spool answer."""

    def __init__(self, smtp: Smtp) -> None:
        super().__init__(smtp.server, Session(smtp.hostname, smtp.limits))
        self._smtp = smtp
        self._entry_id = EntryId("")
        self._draft: Draft | None = None
        self._fault: OSError | None = None

    def greet(self) -> None:
        self.session.greet(reply.TOO_MANY_CONNECTIONS if self.server.is_full() else None)

    def answer(self, event: Event) -> None:
        match event:
            case ContentReceived(octets):
                self._write(octets)
            case SenderOffered():
                self.session.accept()
            case RecipientOffered():
                self._answer_recipient(event)
            case ContentOffered(envelope):
                self._begin(envelope)
            case MessageEnded():
                self._commit()
            case ContentAbandoned():
                self._abandon()

    def released(self) -> None:
        self._abandon()

    def _answer_recipient(self, event: RecipientOffered) -> None:
        forward_path = event.recipient.forward_path
        directory = self._smtp.directory
        if not directory.is_local(forward_path):
            self.session.refuse(reply.RELAY_DENIED)
            return
        route = directory.route(forward_path)
        if route.refusal is not None and not route.local and not route.remote:
            self.session.refuse(route.refusal)
        else:
            self.session.accept()

    def _begin(self, envelope: Envelope) -> None:
        hello = self.session.hello
        protocol = "ESMTP" if hello.extended else "SMTP"
        arrival = Arrival(datetime.now(UTC), protocol, hello.name, self.peer)
        self._entry_id = new_entry_id(arrival.moment)
        self._draft = self._smtp.spool.draft(self._entry_id)
        self._fault = None
        self.session.accept()
        self._write(entry.render(envelope, arrival, self._entry_id))
        self._write(trace.received(arrival, self._smtp.hostname, self._entry_id, envelope))

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
        self._smtp.commits.submit(draft, self._smtp.spool.path(State.NEW, self._entry_id), self._committed)

    def _committed(self, outcome: Outcome) -> None:
        if outcome is None:
            self.server.count("accepted")
            logger.info("%s accepted from [%s]", self._entry_id, self.peer)
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


def main() -> None:
    """The console script."""
    config, heart, sockets = service.start("smtp", lambda config: listening_sockets(config, "smtp", ("smtp",)))
    server = Server("smtp", heart, config.smtp)
    commits = GroupCommit(server.call_from_thread)
    smtp = Smtp(config, server, commits)
    server.run(config, sockets, lambda: SmtpConnection(smtp), {}, commits.is_alive)


if __name__ == "__main__":
    main()
