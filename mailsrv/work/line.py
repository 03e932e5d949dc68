"""A connection to another host, and the transactions on it, one after another: the client session with its I/O."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mailsrv.config import Config
from mailsrv.host.certificates import dane_match
from mailsrv.host.outgoing import Outgoing, OutgoingTlsError, client_context
from mailsrv.model import outcome
from mailsrv.model.reply import Reply
from mailsrv.protocol import sasl
from mailsrv.protocol.smtp_client import (
    Client,
    Closed,
    ContentWanted,
    Encrypt,
    EncryptionAgreed,
    Ended,
    Event,
    Ready,
    Stage,
)
from mailsrv.protocol.smtp_transaction import Transaction
from mailsrv.work.policies import NOTHING, Demand
from mailsrv.work.routes import Route, is_this_machine

logger = logging.getLogger(__name__)

HASTE: Final = 20.0  # seconds
LAST_WORDS_SECONDS: Final = 1.0  # for what a host has said before it closed


@dataclass
class Unreachable(Exception):
    """No host of a route could be used: what the last one said, or what came of it; `verdict` is on its policy."""

    reason: Reply
    where: str
    verdict: str = ""


class Watch(Protocol):
    """Who watches over a connection, or an attempt at one."""

    def tick(self) -> None:
        """Something moves."""

    def is_pressed(self) -> bool:
        """Whether others wait for the place that it takes."""


class Line:
    """One connection."""

    def __init__(
        self,
        config: Config,
        route: Route,
        host: str,
        wire: Outgoing,
        watch: Watch,
        demand: Demand = NOTHING,
    ) -> None:
        self._config = config
        self._demand = demand
        self._is_trusted = False
        self.verdict = ""  # on what the domain's policy asks for, for the books
        self._route = route
        self._host = host
        self._wire = wire
        self._watch = watch
        self._failed: Reply | None = None
        encrypt = Encrypt.ALWAYS if demand.name else route.encrypt
        self._client = Client(config.hostname, encrypt, self._login if route.credentials else None)
        self.messages = 0

    @property
    def is_open(self) -> bool:
        return self._client.stage is not Stage.CLOSED

    @property
    def where(self) -> str:
        """For the books: the host, version and cipher of TLS, and what came of the domain's policy."""
        encryption = f", {self._wire.encryption}" if self._wire.encryption else ""
        verdict = f", {self.verdict}" if self.verdict else ""
        return f"{self._host}[{self._wire.address}]{encryption}{verdict}"

    @property
    def name(self) -> str:
        """What the host calls itself."""
        return self._client.offered.name

    @property
    def reports(self) -> bool:
        """Whether the host reports on delivery as it is asked to (RFC 3461)."""
        return "DSN" in self._client.offered

    @property
    def max_recipients(self) -> int:
        """Of one transaction: what the host says, or the hundred that every host takes (RFC 5321 §4.5.3.1.8)."""
        return self._client.offered.max_recipients or 100

    def open(self) -> Reply | None:
        """Up to where a transaction may begin; the reason where it does not come to that."""
        if self._route.is_tls:
            if (fault := self._encrypt()) is not None:
                return fault
            self._client.encrypted(is_trusted=self._is_trusted)
        while True:
            match self._next():
                case Ready():
                    return None
                case EncryptionAgreed():
                    if (fault := self._encrypt()) is not None:
                        self._client.lost(fault)
                    else:
                        self._client.secured(is_trusted=self._is_trusted)
                case Closed(reason):
                    if self._demand.name and reason == outcome.TLS_NOT_OFFERED:
                        self.verdict = f"{self._demand.name} not met: no STARTTLS"
                    return reason or outcome.CONNECTION_LOST

    def send(
        self, transaction: Transaction, pieces: Iterator[bytes], before_end: Callable[[tuple[int, ...]], None]
    ) -> tuple[Reply, ...]:
        """What becomes of each recipient; `before_end` is told who is to be served by the final dot."""
        self.messages += 1
        self._client.begin(transaction)
        piece = b""
        has_begun = False
        while True:
            match self._next():
                case ContentWanted():
                    if not has_begun:
                        piece, has_begun = next(pieces, b""), True
                    following = next(pieces, None)
                    if following is None:
                        before_end(self._client.accepted)
                    self._client.content(piece, is_last=following is None)
                    piece = following or b""
                case Ended(outcomes):
                    return outcomes

    def close(self) -> None:
        """Say goodbye, if it can be said, and close."""
        if self._client.stage is Stage.READY:
            self._client.leave()
            while not isinstance(self._next(), Closed):
                pass
        self._wire.close()

    def abandon(self) -> None:
        """Close without a word."""
        self._wire.close()

    def _next(self) -> Event:
        """The next event; what is to be said before it, is said."""
        while True:
            event = self._client.next_event()
            if event is None or isinstance(event, ContentWanted | EncryptionAgreed):
                self._say()
            if event is not None:
                return event
            self._hear()

    def _say(self) -> None:
        if (octets := self._client.outgoing()) and self._failed is None:
            try:
                self._wire.send(octets, self._client.patience)
                self._watch.tick()
            except OSError as error:
                self._failed = _reason_of(error)

    def _hear(self) -> None:
        octets = b""
        reason = self._failed or outcome.CONNECTION_LOST
        try:
            octets = self._receive()
            self._watch.tick()
        except OSError as error:
            reason = self._failed or _reason_of(error)
        if octets:
            self._client.receive(octets)
        else:
            self._client.lost(reason)

    def _receive(self) -> bytes:
        """Wait as long as RFC 5321 §4.5.3.2 asks for, or HASTE while others wait for our place; raises OSError.

        Not behind the content: there nothing is gained, and the message could come twice.
        """
        if self._failed is not None:
            return self._wire.receive(LAST_WORDS_SECONDS)
        patience = self._client.patience
        if self._client.stage in (Stage.IN_CONTENT, Stage.ENDED_CONTENT):
            return self._wire.receive(patience)
        began = time.monotonic()
        while (waited := time.monotonic() - began) < patience and not (waited >= HASTE and self._watch.is_pressed()):
            with contextlib.suppress(TimeoutError):
                return self._wire.receive(min(HASTE, patience - waited))
        raise TimeoutError

    def _encrypt(self) -> Reply | None:
        demand = self._demand
        by_dane = bool(demand.associations) or demand.is_encrypting
        is_verified = (self._route.is_verified or bool(demand.name)) and not by_dane
        ca_file = self._config.relay.ca_file if is_verified else ""
        try:
            context = client_context(is_trusting=not is_verified, ca_file=Path(ca_file) if ca_file else None)
            name = demand.names[0] if demand.names else self._host
            self._wire.encrypt(context, name, self._client.patience)
            self._is_trusted = self._meets_dane() if by_dane else is_verified
        except (OutgoingTlsError, OSError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
            logger.warning("TLS with %s: %s", self.where, why)
            self.verdict = f"{demand.name} not met: {why}" if demand.name else ""
            return outcome.TLS_FAILED
        if demand.name and not self.verdict:
            self.verdict = f"{demand.name} met"
        return None

    def _meets_dane(self) -> bool:
        """Whether the host is who it should be; raises OutgoingTlsError where it is somebody else."""
        demand = self._demand
        if not demand.associations:
            self.verdict = f"{demand.name} without a record that can be used: encrypted"
            return False
        found = dane_match(self._wire.certificates(), demand.associations, demand.names)
        if found is None:
            raise OutgoingTlsError("its certificate is none that the TLSA records name")
        self.verdict = f"{demand.name} {found.usage} {found.selector} {found.matching} met"
        return True

    def _login(self, offered: frozenset[str], is_encrypted: bool) -> sasl.Exchange | None:
        credentials = self._route.credentials
        is_private = is_encrypted or is_this_machine(self._wire.address)
        return credentials.exchange(offered, is_private=is_private) if credentials else None


def _reason_of(error: OSError) -> Reply:
    return outcome.NO_ANSWER if isinstance(error, TimeoutError) else outcome.CONNECTION_LOST
