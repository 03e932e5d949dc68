"""One client's connection, around a session without I/O: a PROXY header, TLS, back-pressure, idling, draining.

A connection pumps: octets into the session, events out of it to `answer`, replies to the client. It decides nothing
about the protocol. A client that does not read its replies is not read from; one that sends faster than we can
answer is not read from either: memory per connection stays bounded.
"""

import asyncio
import functools
import itertools
import logging
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from mailsrv.host.tls import Channel, Encryption, TlsError
from mailsrv.model.peer import LOCAL, parse_peer
from mailsrv.protocol.dialogue import Dialogue
from mailsrv.protocol.proxy import PrefaceError, PrefaceReader

if TYPE_CHECKING:
    from mailsrv.daemon.server import Server

logger = logging.getLogger(__name__)

MAX_BUFFERED: Final = 256 * 1024  # octets received and not yet looked at
TURN_SECONDS: Final = 0.02  # that one client may keep the others waiting by what it has sent at once
OPENING_SECONDS: Final = 30.0  # for a PROXY header and a TLS handshake

_numbers: Final = itertools.count(1)

S = TypeVar("S", bound=Dialogue[Any])


class Unwelcome(Enum):
    """Why a client is turned away before it has said anything."""

    FULL = auto()
    TOO_MANY_FROM_ADDRESS = auto()
    BANNED = auto()


@dataclass(slots=True)
class Pace:
    """How a transaction under way comes in: since when it is measured (seconds of the loop), and octets since then."""

    since: float
    octets: int = 0

    def is_too_slow(self, now: float, grace: float, min_rate: float) -> bool:
        """Whether it has been `grace` seconds behind `min_rate` octets a second.

        What came faster than it had to is forgotten: it earns no time for later.
        """
        if self.octets >= (now - self.since) * min_rate:
            self.since, self.octets = now, 0
        return now - self.since - grace > 0 and self.octets < (now - self.since - grace) * min_rate


class Connection(asyncio.Protocol, ABC, Generic[S]):
    """One client. A subclass makes the session and answers its events; `listener` is where the client came in."""

    def __init__(self, server: "Server", session: S, listener: str) -> None:
        self.server = server
        self.session = session
        self.listener = listener
        self.peer = ""  # the client's address, as trace lines and logs have it
        self.client = ""  # by what it is counted among others
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # asyncio sets it before anything else
        self._name = f"{listener} #{next(_numbers)}"  # among the steps
        self._preface: PrefaceReader | None = None
        self._is_proxied = False  # `peer` is what a proxy told
        self._channel: Channel | None = None
        self._has_greeted = False
        self._is_clogged = False  # the client does not read
        self._has_ended = False  # the client sends no more
        self._is_due = False  # its turn is over, and the next one comes
        self._active = 0.0
        self._pace: Pace | None = None

    @abstractmethod
    def greet(self, unwelcome: Unwelcome | None) -> None:
        """Have the session greet the client, or turn it away."""

    @abstractmethod
    def secured(self) -> None:
        """Tell the session that the handshake after `begin_tls` is done."""

    @abstractmethod
    def answer(self, event: Any) -> None:
        """Answer an event of the session; what cannot be answered now is answered later, followed by `pump`."""

    def go_on(self) -> None:
        """Go on with what was begun when the client could not take more."""

    def released(self) -> None:
        """The connection is gone: let go of what it held."""

    @property
    def is_encrypted(self) -> bool:
        return self._channel is not None and self._channel.is_established

    @property
    def encryption(self) -> Encryption | None:
        """Version and cipher of TLS, once there is any."""
        return self._channel.description if self._channel is not None and self.is_encrypted else None

    @property
    def bindings(self) -> Mapping[str, bytes]:
        """What a login can be bound to, by the name of the channel binding (RFC 5929)."""
        return self._channel.bindings() if self._channel is not None and self.is_encrypted else {}

    @property
    def takes_passwords(self) -> bool:
        """Whether nobody can listen in: TLS, or a client on this machine, on the word of nobody else."""
        return self.is_encrypted or (not self._is_proxied and _is_this_machine(self.peer))

    def begin_tls(self) -> None:
        """Say what is to be said in the clear; everything after it is TLS."""
        self.transport.write(self.session.replies())
        self._open_channel()

    # --- asyncio's side ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._active = self.server.now()
        self.server.add(self)
        self.server.steps.note(self._name, "connected")
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else LOCAL
        if self.peer is LOCAL and transport.get_extra_info("socket").family != socket.AF_UNIX:
            # Reset before we came to it: what it sent can still be read, but not who sent it.
            self.transport.abort()
        elif self.server.is_proxy(self.peer):
            self._preface = PrefaceReader()
        else:
            self._arrive()

    def data_received(self, data: bytes) -> None:
        self.server.progress += 1  # whoever is kept busy by clients is at work, also where nothing comes of it
        try:
            octets = self._octets_of(data)
        except PrefaceError as error:
            logger.warning("no PROXY header from [%s]: %s", self.peer, error)
            self.transport.abort()
            return
        except TlsError as error:
            logger.info("TLS with [%s]: %s", self.peer, error)
            self._send_channel()
            self.transport.close()
            return
        if octets or self._has_ended:
            self._note_pace(len(octets))
            self.session.receive(octets)
            self.pump()
        elif self._is_clogged:  # by alerts: TLS answers some records by itself
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """A client that has closed its half still gets the answers to what it has sent."""
        self._has_ended = True
        self._flush()
        return not self.transport.is_closing() and self._channel is None  # TLS knows no half-closed connection

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

    # --- opening -----------------------------------------------------------------------------------

    def _arrive(self) -> None:
        """The client's address is known: greet it, or begin with TLS where the listener asks for it."""
        unwelcome = self.server.arrived(self)
        if not self.server.is_tls(self.listener):
            self._greet(unwelcome)
        elif unwelcome is None:
            self._open_channel()
        else:  # it could only be told after a handshake, which costs more than it is worth
            self.transport.close()

    def _open_channel(self) -> None:
        """What follows is TLS; without a certificate, nothing does."""
        context = self.server.certificates.context()
        if context is None:
            self.transport.close()
        else:
            self._channel = Channel(context)

    def _greet(self, unwelcome: Unwelcome | None) -> None:
        self._has_greeted = True
        self.greet(unwelcome)
        self.pump()

    def _octets_of(self, data: bytes) -> bytes:
        """What of `data` is for the session; raises PrefaceError, TlsError."""
        if self._preface is not None:
            self._preface.feed(data)
            if (preface := self._preface.preface) is None:
                return b""
            self._preface = None
            self._is_proxied = True
            self.peer, data = preface.address or self.peer, preface.rest
            self._arrive()
        if self.transport.is_closing():  # turned away
            return b""
        if self._channel is None or not data:
            return data
        was_established = self._channel.is_established
        octets = self._channel.receive(data)
        self._send_channel()
        if self._channel.is_established and not was_established:
            self._established()
        self._has_ended = self._has_ended or self._channel.has_ended
        return octets

    def _established(self) -> None:
        self._active = self.server.now()
        if self._has_greeted:
            self.secured()
        else:
            self._greet(None)

    # --- ours --------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Go on as far as octets and answers reach, for one turn."""
        end = time.monotonic() + TURN_SECONDS  # the loop's own clock stands still meanwhile
        before = self.server.progress
        try:
            self.go_on()
            self._answer_until(end)
        except Exception:  # a fault of ours must not take the other sessions down
            logger.exception("a session broke off")
            self.session.break_off()
        if self.server.progress != before:
            self._active = self.server.now()
        self._flush()

    def _answer_until(self, end: float) -> None:
        session, server = self.session, self.server
        while not self._is_clogged:
            if time.monotonic() > end:
                self._wait_for_turn()
                break
            if (event := session.next_event()) is not None:
                server.progress += 1
                server.steps.note(self._name, event.__class__.__name__)
                self.answer(event)
            elif session.is_overfull:
                self.write(session.replies())  # and perhaps learn that the client does not read
            else:
                break

    def _wait_for_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.server.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_due = False
        self.pump()

    def write(self, octets: bytes) -> None:
        """Send to the client, encrypted where TLS has begun; nothing once the connection is being closed."""
        if self.transport.is_closing():
            return
        if self._channel is None:
            self.transport.write(octets)
        elif self._channel.is_established:
            try:
                self._channel.send(octets)
            except TlsError as error:  # nothing more can be said
                logger.info("TLS with [%s]: %s", self.peer, error)
                self.transport.abort()
            else:
                self._send_channel()

    def drain(self) -> None:
        """We are stopping: finish a transaction under way, else say goodbye."""
        if not self.session.is_in_transaction and not self.session.is_waiting:
            self.session.shut_down()
            self._flush()

    def hang_up_if_idle(self, limit: float, min_rate: float) -> None:
        """Hang up after `limit` seconds of silence, or when a transaction is so far behind `min_rate` octets a second.

        To be called every few seconds.
        """
        silence = self.server.now() - self._active
        if not self._has_greeted or (self._channel is not None and not self.is_encrypted):
            if silence > OPENING_SECONDS:
                self.transport.abort()
        elif silence <= limit and not self._is_too_slow(limit, min_rate):
            return
        elif self._is_clogged or self.transport.is_closing():  # there is no use in telling one that does not read
            self.transport.abort()
        elif not self.session.is_waiting:
            self.session.time_out()
            self._flush()

    def _is_too_slow(self, grace: float, min_rate: float) -> bool:
        if self._pace is None or not self.session.is_in_transaction:
            return False
        return self._pace.is_too_slow(self.server.now(), grace, min_rate)

    def _note_pace(self, octets: int) -> None:
        """What trickles in keeps no session alive, unless it is content: that has to come in at a rate."""
        if not self.session.is_in_transaction:
            self._pace = None
            return
        self._pace = self._pace or Pace(self.server.now())
        self._pace.octets += octets
        self._active = self.server.now()

    def _flush(self) -> None:
        if self.transport.is_closing():
            return
        if replies := self.session.replies():
            self._active = self.server.now()
            self.write(replies)
        is_done = not (self.session.is_waiting or self._is_clogged or self._is_due)
        if self.session.is_closed or (self._has_ended and is_done):
            self._close()
        elif self.server.is_draining and not self.session.is_in_transaction and not self.session.is_waiting:
            self.session.shut_down()
            self.write(self.session.replies())
            self._close()
        elif self._is_clogged or self.session.buffered > MAX_BUFFERED:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._send_channel()
        self.transport.close()

    def _send_channel(self) -> None:
        if self._channel is not None and (octets := self._channel.outgoing()):
            self.transport.write(octets)


@functools.lru_cache(maxsize=4096)
def _is_this_machine(peer: str) -> bool:
    address = parse_peer(peer)
    return address is None or address.is_loopback
