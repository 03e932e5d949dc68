"""A connection to another host: TCP, and TLS over it as the client; every wait has an end.

Of the addresses of a host, those of IPv6 and IPv4 alternate; none has to wait long for one before it that is dead
(RFC 8305).
"""

import contextlib
import errno
import ipaddress
import itertools
import os
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mailsrv.host.tls import Encryption, reason_of

MAX_PIECE: Final = 64 * 1024
HEAD_START: Final = 0.25  # seconds before the next address is tried as well, RFC 8305 §8
_DER: Final = 2  # of Python's own module of TLS


class OutgoingTlsError(Exception):
    """The handshake has failed, for the log: why."""


def addresses_of(host: str, port: int, source: str = "") -> list[str]:
    """The addresses of a host as the system knows them, of both families in turn; raises OSError (socket.gaierror)."""
    family = socket.AF_UNSPEC
    if source:
        family = socket.AF_INET6 if _version(source) == 6 else socket.AF_INET
    found = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
    groups: dict[int, list[str]] = {}
    for each_family, _, _, _, place in found:
        groups.setdefault(each_family, []).append(str(place[0]))
    return interleaved(*groups.values())


def interleaved(*groups: Sequence[str]) -> list[str]:
    """One of each group in turn, each once (RFC 8305 §4)."""
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*groups))
    return list(dict.fromkeys(each for each in mixed if each))


def is_of_this_machine(address: str) -> bool:
    """Whether an address is one of our own: nothing else can be bound."""
    with socket.socket(socket.AF_INET6 if _version(address) == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


class Race:
    """Attempts to connect, each begun a moment after the one before, or at once where that failed (RFC 8305 §5)."""

    def __init__(self, addresses: Sequence[str], port: int, source: str) -> None:
        self._waiting = deque(addresses)
        self._port = port
        self._source = source
        self._selector = selectors.DefaultSelector()
        self._failed: OSError = OSError(errno.EHOSTUNREACH, "the host has no address that could be used")

    def __enter__(self) -> "Race":
        return self

    def __exit__(self, *_exception: object) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered
        self._selector.close()

    def run(self, seconds: float) -> tuple[socket.socket, str]:
        """The first that is connected, and its address; raises OSError."""
        end = time.monotonic() + seconds
        begin_next = 0.0
        while self._waiting or self._selector.get_map():
            if (now := time.monotonic()) >= end:
                raise TimeoutError(errno.ETIMEDOUT, "no connection in time")
            if self._waiting and now >= begin_next:
                begin_next = now + HEAD_START if self._begin(self._waiting.popleft()) else now
                continue
            for key, _ in self._selector.select(min(end, begin_next if self._waiting else end) - now):
                if (connected := self._ended(key)) is not None:
                    return connected, key.data
                begin_next = 0.0
        raise self._failed

    def _begin(self, address: str) -> bool:
        attempt = socket.socket(socket.AF_INET6 if _version(address) == 6 else socket.AF_INET, socket.SOCK_STREAM)
        attempt.setblocking(False)
        try:
            if self._source:
                attempt.bind((self._source, 0))
            with contextlib.suppress(BlockingIOError):
                attempt.connect((address, self._port))
        except OSError as error:
            attempt.close()
            self._failed = error
            return False
        self._selector.register(attempt, selectors.EVENT_WRITE, address)
        return True

    def _ended(self, key: selectors.SelectorKey) -> socket.socket | None:
        """The socket of an attempt that has come to something."""
        attempt = key.fileobj
        assert isinstance(attempt, socket.socket)
        self._selector.unregister(attempt)
        if number := attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            attempt.close()
            self._failed = OSError(number, os.strerror(number))
            return None
        return attempt


class Outgoing:
    """One connection; methods raise OSError, TimeoutError where nothing came in time."""

    def __init__(self, connected: socket.socket, address: str) -> None:
        self._socket = connected
        self.address = address
        self.encryption: Encryption | None = None

    @classmethod
    def connect(cls, addresses: Sequence[str], port: int, seconds: float, source: str = "") -> "Outgoing":
        """Connect to the address that answers first; raises the last one's OSError."""
        usable = [each for each in addresses if not source or _version(each) == _version(source)]
        with Race(usable, port, source) as race:
            return cls(*race.run(seconds))

    def encrypt(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """Begin TLS with the host of this name; raises OutgoingTlsError, OSError."""
        self._socket.settimeout(seconds)
        try:
            encrypted = context.wrap_socket(self._socket, server_hostname=name)
        except ssl.SSLError as error:
            raise OutgoingTlsError(reason_of(error)) from error
        self._socket = encrypted
        cipher = encrypted.cipher()
        self.encryption = Encryption(encrypted.version() or "", cipher[0] if cipher else "")

    def certificates(self) -> list[bytes]:
        """What the host has shown within TLS, its own certificate first, in DER; verified or not."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return []
        public = getattr(self._socket, "get_unverified_chain", None)  # from Python 3.13 on
        if public is not None:
            return list(public())
        chain: Any = self._socket._sslobj.get_unverified_chain() or []  # type: ignore[attr-defined]
        return [each.public_bytes(_DER) for each in chain]

    def send(self, octets: bytes, seconds: float) -> None:
        """Send all of it; `seconds` for each piece."""
        view = memoryview(octets)
        self._socket.settimeout(seconds)
        while view:
            view = view[self._socket.send(view[:MAX_PIECE]) :]

    def receive(self, seconds: float) -> bytes:
        """What comes next; nothing where the host has closed."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(MAX_PIECE)
        except ssl.SSLEOFError:
            return b""

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self._socket.close()


def client_context(*, is_trusting: bool, ca_file: Path | None = None) -> ssl.SSLContext:
    """For handshakes with other hosts: TLS 1.2 or newer; `is_trusting` takes any certificate."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if is_trusting:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _version(address: str) -> int:
    return ipaddress.ip_address(address.partition("%")[0]).version
