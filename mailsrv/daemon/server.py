"""The listening side of smtp and pop3, and the life of the program: who is let in, beating, draining."""

import asyncio
import contextlib
import functools
import ipaddress
import logging
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, cast

import uvloop

from mailsrv.config import Config
from mailsrv.daemon.connection import Connection, Unwelcome
from mailsrv.host import listening
from mailsrv.host.listening import Lender, Sockets
from mailsrv.host.tls import Certificates
from mailsrv.model.peer import client_of, parse_peer
from mailsrv.model.program import program_of
from mailsrv.settings import Pop3, Smtp
from mailsrv.store.failed_logins import FailedLogins
from mailsrv.store.heartbeat import BEAT_INTERVAL, Fact, Heart

logger = logging.getLogger(__name__)

IDLE_SWEEP: Final = 2.0  # seconds between looks at who has been silent
TLS_LISTENERS: Final = frozenset({"submissions", "pop3s"})


class Server:
    """Who is connected, who is let in, and the program's loop."""

    def __init__(self, name: str, config: Config, heart: Heart, failed_logins: FailedLogins) -> None:
        self.name = name
        self.is_draining = False
        self.progress = 0
        self.counts: Counter[str] = Counter()
        self.certificates = Certificates(config.tls)
        self.problems: list[Callable[[], str]] = []  # each asked with every heartbeat; empty is well
        self.steps = heart.steps
        self._heart = heart
        self._config = config
        self._settings: Smtp | Pop3 = config.smtp if program_of(name) == "smtp" else config.pop3
        self._failed_logins = failed_logins
        self._proxies = [ipaddress.ip_network(each) for each in config.listen.proxies]
        self._connections: set[Connection[Any]] = set()
        self._by_client: Counter[str] = Counter()
        self.loop = cast(asyncio.AbstractEventLoop, None)  # set by `run`
        self._stopping: asyncio.Event

    def now(self) -> float:
        """Seconds of the loop's clock."""
        return self.loop.time()

    def call_soon(self, work: Callable[[], None]) -> None:
        """Have the loop call `work` once it has done what is to be done in this turn."""
        self.loop.call_soon(work)

    def call_later(self, seconds: float, work: Callable[[], None]) -> None:
        """The same after so many seconds."""
        self.loop.call_later(seconds, work)

    def call_from_thread(self, work: Callable[[], None]) -> None:
        """Have the loop call `work` soon; for other threads."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all sessions
            self.loop.call_soon_threadsafe(work)

    def count(self, what: str, number: int = 1) -> None:
        """Count a fact for the heartbeat."""
        self.counts[what] += number

    # --- who is let in -----------------------------------------------------------------------------

    def is_tls(self, listener: str) -> bool:
        """Whether a connection to this listener begins with a TLS handshake (RFC 8314 §3)."""
        return listener in TLS_LISTENERS

    def is_proxy(self, peer: str) -> bool:
        """Whether connections from here begin with a PROXY header."""
        address = parse_peer(peer) if self._proxies else None
        return address is not None and any(address in network for network in self._proxies)

    def add(self, connection: Connection[Any]) -> None:
        self._connections.add(connection)
        self.progress += 1

    def has_one_client(self) -> bool:
        """Whether there is nobody whom one client could keep waiting."""
        return len(self._connections) <= 1

    def arrived(self, connection: Connection[Any]) -> Unwelcome | None:
        """Count a connection by its client; says why the client is turned away, if it is."""
        if len(self._connections) > self._settings.max_connections:
            return Unwelcome.FULL
        if (address := parse_peer(connection.peer)) is None:
            return None
        connection.client = client_of(address)
        self._by_client[connection.client] += 1
        if self._by_client[connection.client] > self._settings.max_connections_per_address:
            return Unwelcome.TOO_MANY_FROM_ADDRESS
        return Unwelcome.BANNED if self.is_banned(connection) else None

    def is_banned(self, connection: Connection[Any]) -> bool:
        """Whether the client may not log in, for too many failed logins from its address."""
        return self._failed_logins.banned_until(connection.peer, time.time()) is not None

    def remove(self, connection: Connection[Any]) -> None:
        self._connections.discard(connection)
        if connection.client:
            self._by_client[connection.client] -= 1
            if not self._by_client[connection.client]:
                del self._by_client[connection.client]

    # --- the life of the program -------------------------------------------------------------------

    def run(
        self, sockets: Sockets, factory: Callable[[str], Connection[Any]], is_well: Callable[[], bool] = lambda: True
    ) -> None:
        """Serve on `sockets` until SIGTERM or until `is_well` denies; `factory` is given the listener's name."""

        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                self.loop.add_signal_handler(number, self._stopping.set)
            lender = Lender(self._config.sockets_path(self.name), lambda: sockets)
            servers = [await self._listen(label, listener, factory) for label, listener in sockets.items()]
            await self._serve(is_well)
            lender.stop()
            for server in servers:
                server.close()
            await self._drain()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    async def _listen(
        self, label: str, listener: socket.socket, factory: Callable[[str], Connection[Any]]
    ) -> asyncio.AbstractServer:
        make = functools.partial(factory, label.partition(" ")[0])
        if listener.family == socket.AF_UNIX:
            return await self.loop.create_unix_server(make, sock=listener, backlog=listening.BACKLOG)
        return await self.loop.create_server(make, sock=listener, backlog=listening.BACKLOG)

    def _beat(self) -> None:
        facts: dict[str, Fact] = {"connections": len(self._connections), **self.counts}
        if problems := [*map(str, self.certificates.mistakes()), *(told for ask in self.problems if (told := ask()))]:
            facts["problems"] = problems
        self._heart.beat(self.progress, facts)

    async def _serve(self, is_well: Callable[[], bool]) -> None:
        swept = self.now()
        while not self._stopping.is_set() and is_well():
            self._beat()
            if self.now() - swept > IDLE_SWEEP:
                swept = self.now()
                self._sweep()
            try:
                await asyncio.wait_for(self._stopping.wait(), BEAT_INTERVAL)
            except TimeoutError:
                continue

    def _sweep(self) -> None:
        min_rate = self._settings.min_content_rate if isinstance(self._settings, Smtp) else 0.0
        self._have_each(lambda connection: connection.hang_up_if_idle(self._settings.idle_timeout, min_rate))

    def _have_each(self, do: Callable[[Connection[Any]], None]) -> None:
        """Do something with each connection; a fault of ours in one must not end the program, and with it all."""
        for connection in list(self._connections):
            try:
                do(connection)
            except Exception:
                logger.exception("a connection broke off")
                connection.transport.abort()

    async def _drain(self) -> None:
        self.is_draining = True
        deadline = self.now() + self._settings.drain_seconds
        self._have_each(lambda connection: connection.drain())
        while self._connections and self.now() < deadline:
            self._beat()
            await asyncio.sleep(0.02)
        for connection in list(self._connections):
            connection.transport.abort()
