"""A connection to another host: TCP, and TLS over it as the client; every wait has an end.

Names are looked up by the system, and each address is tried in its turn, those of IPv6 and IPv4 alternating, as the
system sorts them.
"""

import contextlib
import errno
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailsrv.host.tls import Encryption, reason_of

MAX_PIECE: Final = 64 * 1024
LEAST_SECONDS: Final = 1.0


class OutgoingTlsError(Exception):
    """The handshake has failed, for the log: why."""


def addresses_of(host: str, port: int, source: str = "") -> list[str]:
    """The addresses of a host, of both families in turn; raises OSError (socket.gaierror)."""
    family = socket.AF_UNSPEC
    if source:
        family = socket.AF_INET6 if ipaddress.ip_address(source).version == 6 else socket.AF_INET
    found = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
    groups: dict[int, list[str]] = {}
    for each_family, _, _, _, place in found:
        groups.setdefault(each_family, []).append(str(place[0]))
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    return list(dict.fromkeys(each for each in mixed if each))


class Outgoing:
    """One connection; methods raise OSError, TimeoutError where nothing came in time."""

    def __init__(self, connected: socket.socket, address: str) -> None:
        self._socket = connected
        self.address = address
        self.encryption: Encryption | None = None

    @classmethod
    def connect(cls, addresses: Sequence[str], port: int, seconds: float, source: str = "") -> "Outgoing":
        """Connect to the first address that answers; raises the last one's OSError."""
        failed: OSError = OSError(errno.EHOSTUNREACH, "the host has no address")
        share = max(LEAST_SECONDS, seconds / max(1, len(addresses)))
        for address in addresses:
            try:
                origin = (source, 0) if source else None
                return cls(socket.create_connection((address, port), share, origin), address)
            except OSError as error:
                failed = error
        raise failed

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
