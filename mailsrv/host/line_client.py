"""A client of a protocol of lines, over TCP or TLS, that takes no longer than it may, however slow the server is."""

import socket
import ssl
import time
from typing import Final, Self

MOST_OCTETS: Final = 1_000_000  # of a line


class LineClient:
    """A connection; without a port, `address` is the path of a unix socket.

    `seconds` are for everything together. Raises OSError; TimeoutError when the time is over.
    """

    def __init__(self, address: str, port: int, seconds: float, *, is_tls: bool = False, preface: bytes = b"") -> None:
        self._deadline = time.monotonic() + seconds
        self._held = b""
        self._socket = _connected(address, port, seconds)
        try:
            self.send(preface)
            if is_tls:
                self._socket = _unverified().wrap_socket(self._socket)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """Send octets."""
        self._set_timeout()
        self._socket.sendall(octets)

    def line(self) -> str:
        """The next line without its end; raises ConnectionError where the server closes."""
        while b"\n" not in self._held:
            self._set_timeout()
            octets = self._socket.recv(65536)
            if not octets or len(self._held) > MOST_OCTETS:
                raise ConnectionError("the connection was closed in the middle of a dialogue")
            self._held += octets
        line, _, self._held = self._held.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    def _set_timeout(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)


def _unverified() -> ssl.SSLContext:
    """We talk to ourselves: the pair is our own, and perhaps self-signed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _connected(address: str, port: int, seconds: float) -> socket.socket:
    if port:
        return socket.create_connection((address, port), timeout=seconds)
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(seconds)
        client.connect(address)
    except BaseException:
        client.close()
        raise
    return client
