"""The relay at work in the test's own process, and servers for it to send to: ours, over real sockets."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from mailsrv.config import Config
from mailsrv.model.reply import Reply
from mailsrv.protocol import smtp_events
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_events import Limits, Security
from mailsrv.settings_relay import Dns, Relay
from mailsrv.store.ledger import Ledger
from mailsrv.store.retry import read_retry, write_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.routes import ways_of
from mailsrv.work.sending import PROGRAM, Sender
from tests.system.instance import wait_until
from tests.work.instance import deliver

LIMITS = Limits(max_message_octets=1_000_000, max_recipients=100, max_messages=1000, max_line_octets=1_000_000)


@dataclass
class Server:
    """Our own session behind a socket. What it has taken, and what it is to do instead."""

    refusals: dict[str, Reply] = field(default_factory=dict)  # by local part
    ending: Reply | None = None  # in place of 250 behind the final dot
    hangs_up_at: str = ""  # the verb at which it closes without a word; "END" is behind the final dot, taken or not
    hidden: tuple[bytes, ...] = ()
    address: str = "127.0.0.1"
    at_port: int = 0  # of nobody's, where it is none
    name: str = "mx.example.net"
    taken: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    limits: Limits = LIMITS
    tls: ssl.SSLContext | None = None  # for STARTTLS
    connections: int = 0
    peers: set[str] = field(default_factory=set)  # addresses

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.address, self.at_port), backlog=100)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def place(self) -> str:
        return f"{self.address}:{self.port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread in `accept` keeps it open
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, peer = self._listener.accept()
                self.connections += 1
                self.peers.add(peer[0])
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        session = Session(self.name, self.limits)
        session.greet(Security(can_encrypt=self.tls is not None))
        content: list[bytes] = []
        envelope: list[smtp_events.ContentOffered] = []
        with client, contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            while True:
                while (event := session.next_event()) is not None:
                    if isinstance(event, smtp_events.EncryptionOffered) and self.tls is not None:
                        session.accept()
                        client.sendall(session.replies())
                        client = stack.enter_context(self.tls.wrap_socket(client, server_side=True))
                        session.secured(Security(is_encrypted=True))
                    elif self._answer(session, event, envelope, content):
                        return
                said = session.replies()
                for keyword in self.hidden:
                    said = said.replace(b"250-" + keyword + b"\r\n", b"")
                client.sendall(said)
                if session.is_closed:
                    return
                octets = client.recv(65536)
                if not octets or (self.hangs_up_at and f"\r\n{self.hangs_up_at}".encode() in b"\r\n" + octets):
                    return
                session.receive(octets)

    def _answer(
        self,
        session: Session,
        event: smtp_events.Event,
        envelope: list[smtp_events.ContentOffered],
        content: list[bytes],
    ) -> bool:
        """Answer; true where the connection is to be closed instead."""
        match event:
            case smtp_events.RecipientOffered(recipient) if recipient.forward_path.local_part in self.refusals:
                session.refuse(self.refusals[recipient.forward_path.local_part])
            case smtp_events.ContentOffered():
                envelope[:], content[:] = [event], []
                session.accept()
            case smtp_events.ContentReceived(octets):
                content.append(octets)
            case smtp_events.MessageEnded():
                if self.hangs_up_at == "END":
                    return True
                if self.ending is not None:
                    session.refuse(self.ending)
                    return False
                offered = envelope[0].envelope
                to = [each.forward_path.local_part for each in offered.recipients]
                self.taken.append((str(offered.sender.reverse_path or ""), to, b"".join(content)))
                session.accept()
            case _ if session.is_waiting:
                session.accept()
        return False


def relaying(config: Config, *servers: Server, **settings: object) -> Config:
    """The configuration with these servers as smarthosts; what waits stays so until `make_due`."""
    places = tuple(each.place for each in servers)
    relay = replace(Relay(smarthosts=places, connect_timeout=5), **settings)  # type: ignore[arg-type]
    return replace(config, relay=relay, delivery=replace(config.delivery, retry_after=(3600.0,)))


def by_mx(config: Config, nameserver: str, port: int, **settings: object) -> Config:
    """The configuration with MX asked of this nameserver, for hosts that listen at this port."""
    relay = replace(Relay(mx=True, port=port, connect_timeout=5), **settings)  # type: ignore[arg-type]
    dns = Dns((nameserver,), timeout=5, lifetime=10)
    return replace(config, relay=relay, dns=dns, delivery=replace(config.delivery, retry_after=(3600.0,)))


def make_due(config: Config) -> None:
    """Have everything that waits for the relay be due now."""
    spool = Spool(config.spool)
    for entry_id in spool.entries(State.REMOTE):
        path = spool.retry_path(entry_id, State.REMOTE)
        if retry := read_retry(path):
            write_retry(path, replace(retry, due=time.time()))


def sender_of(config: Config, ring: Callable[[], None] = lambda: None) -> Sender:
    """The relay's desk, recovered."""
    made = Sender(config, ways_of(config), Ledger(config.books, PROGRAM, 30), lambda _in_hand: None, ring)
    made.spool.create_folders()
    made.recover()
    made.spool.sweep_drafts()
    return made


def send_on(config: Config) -> None:
    """What `relay` does from its start until everything was tried once; then delivery takes in its reports."""
    make_due(config)
    sender = sender_of(config)
    settle(sender)
    sender.stop()
    wait_until(lambda: sender.lanes.lines == 0, "all connections are closed")
    sender.close()
    deliver(config)


def settle(sender: Sender) -> None:
    """Until nothing is due, and nothing in hand."""

    def is_empty() -> bool:
        sender.turn()
        return not sender.in_hand and (not sender.has_route or sender.seconds_until_due() > 0)

    wait_until(is_empty, "everything has been heard of")


@contextlib.contextmanager
def serving(**what: object) -> Iterator[Server]:
    """A server, for the time of the context."""
    server = Server(**what)  # type: ignore[arg-type]
    yield server
    server.close()
