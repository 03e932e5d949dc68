"""What smtp and pop3 have in common: connections around a session without I/O, back-pressure, idling, draining.

A connection pumps: octets into the session, events out of it to `answer`, replies to the client. It decides nothing
about the protocol. A client that does not read its replies is not read from; one that sends faster than we can
answer is not read from either: memory per connection stays bounded.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, cast

import uvloop

from mailsrv.config import Config, Pop3, Smtp
from mailsrv.host import listening
from mailsrv.host.listening import Lender, Sockets
from mailsrv.model.mistake import Mistake
from mailsrv.protocol.dialogue import Dialogue
from mailsrv.store.heartbeat import BEAT_INTERVAL, Heart

logger = logging.getLogger(__name__)

MAX_BUFFERED: Final = 256 * 1024  # octets received and not yet looked at
IDLE_SWEEP: Final = 2.0  # seconds between looks at who has been silent


S = TypeVar("S", bound=Dialogue[Any])


class Connection(asyncio.Protocol, ABC, Generic[S]):
    """One client. A subclass makes the session and answers its events."""

    def __init__(self, server: "Server", session: S) -> None:
        self.server = server
        self.session = session
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # asyncio sets it before anything else
        self._is_clogged = False  # the client does not read
        self._has_ended = False  # the client sends no more
        self._active = 0.0

    @abstractmethod
    def greet(self) -> None:
        """Have the session greet the client, or turn it away where the server is full."""

    @abstractmethod
    def answer(self, event: Any) -> None:
        """Answer an event of the session; what cannot be answered now is answered later, followed by `pump`."""

    def go_on(self) -> None:
        """Go on with what was begun when the client could not take more."""

    def released(self) -> None:
        """The connection is gone: let go of what it held."""

    @property
    def peer(self) -> str:
        """The client's address, as trace lines and logs have it."""
        name = self.transport.get_extra_info("peername")
        return str(name[0]) if name else "local"

    @property
    def is_encrypted(self) -> bool:
        return self.transport.get_extra_info("sslcontext") is not None

    # --- asyncio's side ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._active = self.server.now()
        self.server.add(self)
        self.greet()
        self.pump()

    def data_received(self, data: bytes) -> None:
        self._active = self.server.now()
        self.session.receive(data)
        self.pump()

    def eof_received(self) -> bool:
        """A client that has closed its half still gets the answers to what it has sent."""
        self._has_ended = True
        self._flush()
        return not self.transport.is_closing() and not self.is_encrypted  # TLS knows no half-closed connection

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.server.remove(self)
        self.session.break_off()
        self.released()

    def pause_writing(self) -> None:
        self._is_clogged = True

    def resume_writing(self) -> None:
        self._is_clogged = False
        self._active = self.server.now()
        self.pump()

    # --- ours --------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Go on as far as octets and answers reach."""
        try:
            self.go_on()
            while not self._is_clogged:
                if (event := self.session.next_event()) is not None:
                    self.server.progress += 1
                    self.answer(event)
                elif self.session.is_overfull:
                    self.transport.write(self.session.replies())  # and perhaps learn that the client does not read
                else:
                    break
        except Exception:  # a fault of ours must not take the other sessions down
            logger.exception("a session broke off")
            self.session.break_off()
        self._flush()

    def drain(self) -> None:
        """We are stopping: finish a transaction under way, else say goodbye."""
        if not self.session.is_in_transaction and not self.session.is_waiting:
            self.session.shut_down()
            self._flush()

    def hang_up_if_idle(self, limit: float) -> None:
        """Hang up after `limit` seconds of silence."""
        if self.server.now() - self._active <= limit:
            return
        if self._is_clogged or self.transport.is_closing():  # there is no use in telling a client that does not read
            self.transport.abort()
        elif not self.session.is_waiting:
            self.session.time_out()
            self._flush()

    def _flush(self) -> None:
        if self.transport.is_closing():
            return
        if replies := self.session.replies():
            self.transport.write(replies)
        if self.session.is_closed or (self._has_ended and not self.session.is_waiting and not self._is_clogged):
            self.transport.close()
        elif self.server.is_draining and not self.session.is_in_transaction and not self.session.is_waiting:
            self.session.shut_down()
            self.transport.write(self.session.replies())
            self.transport.close()
        elif self._is_clogged or self.session.buffered > MAX_BUFFERED:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class Server:
    """The listening side and the life of one program."""

    def __init__(self, name: str, heart: Heart, settings: Smtp | Pop3) -> None:
        self.name = name
        self.is_draining = False
        self.progress = 0
        self.counts: dict[str, int] = {}
        self._heart = heart
        self._settings = settings
        self._connections: set[Connection[Any]] = set()
        self.loop = cast(asyncio.AbstractEventLoop, None)  # set by `run`
        self._stopping: asyncio.Event

    def now(self) -> float:
        """Seconds of the loop's clock."""
        return self.loop.time()

    def call_from_thread(self, work: Callable[[], None]) -> None:
        """Have the loop call `work` soon; for other threads."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all sessions
            self.loop.call_soon_threadsafe(work)

    def count(self, what: str) -> None:
        """Count a fact for the heartbeat."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def is_full(self) -> bool:
        """Whether one more connection would be too many."""
        return len(self._connections) > self._settings.max_connections

    def add(self, connection: Connection[Any]) -> None:
        self._connections.add(connection)
        self.progress += 1

    def remove(self, connection: Connection[Any]) -> None:
        self._connections.discard(connection)

    def run(
        self,
        config: Config,
        sockets: Sockets,
        factory: Callable[[], Connection[Any]],
        tls: Mapping[str, ssl.SSLContext],
        is_well: Callable[[], bool],
    ) -> None:
        """Serve on `sockets` until SIGTERM or until `is_well` denies; `tls` is by the listener's name."""

        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                self.loop.add_signal_handler(number, self._stopping.set)
            lender = Lender(config.sockets_path(self.name), lambda: sockets)
            servers = [
                await self.loop.create_server(
                    factory, sock=listener, backlog=listening.BACKLOG, ssl=tls.get(label.partition(" ")[0])
                )
                for label, listener in sockets.items()
            ]
            await self._serve(is_well)
            lender.stop()
            for server in servers:
                server.close()
            await self._drain()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    def _beat(self) -> None:
        self._heart.beat(self.progress, {"connections": len(self._connections), **self.counts})

    async def _serve(self, is_well: Callable[[], bool]) -> None:
        swept = self.now()
        while not self._stopping.is_set() and is_well():
            self._beat()
            if self.now() - swept > IDLE_SWEEP:
                swept = self.now()
                for connection in list(self._connections):
                    connection.hang_up_if_idle(self._settings.idle_timeout)
            try:
                await asyncio.wait_for(self._stopping.wait(), BEAT_INTERVAL)
            except TimeoutError:
                continue

    async def _drain(self) -> None:
        self.is_draining = True
        deadline = self.now() + self._settings.drain_seconds
        for connection in list(self._connections):
            connection.drain()
        while self._connections and self.now() < deadline:
            self._beat()
            await asyncio.sleep(0.02)
        for connection in list(self._connections):
            connection.transport.abort()


def listening_sockets(config: Config, name: str, listeners: tuple[str, ...]) -> dict[str, socket.socket]:
    """The sockets for the listeners of this program: borrowed from whoever holds them, else bound; raises Mistake."""
    wanted = {
        listening.label(each, config.listen.address, port): port
        for each, port in config.ports().items()
        if each in listeners
    }
    borrowed: dict[str, socket.socket] = {}
    for lender in ("health", name):
        for label, listener in listening.borrow(config.sockets_path(lender)).items():
            if label in wanted and label not in borrowed:
                borrowed[label] = listener
            else:
                listener.close()
    for label in borrowed:
        logger.info("borrowed %s", label)
    missing = {label: port for label, port in wanted.items() if label not in borrowed}
    for label, port in missing.items():
        try:
            borrowed[label] = listening.bind(config.listen.address, port)
        except OSError as error:
            raise Mistake(config.path, 0, f"{label}: {error.strerror}") from error
    return borrowed
