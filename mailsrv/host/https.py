"""Fetching a small document by HTTPS, from addresses that are known: the certificate is verified, nothing is followed.

Within a time that holds for all of it, however slowly the other side speaks.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from mailsrv.host.tls import reason_of

PORT: Final = 443
PIECE: Final = 8192
LEAST_SECONDS: Final = 1.0
MOST_TOLD: Final = 200  # characters of a stranger's words


class FetchError(Exception):
    """It could not be had: why."""


def fetch(host: str, addresses: Sequence[str], path: str, *, most: int, seconds: float) -> bytes:
    """The document at https://HOST/PATH, text of at most `most` octets; raises FetchError."""
    end = time.monotonic() + seconds
    failed = FetchError(f"{host} has no address")
    for address in addresses:
        left = end - time.monotonic()
        if left <= 0:
            break
        try:
            plain = socket.create_connection((address, PORT), max(LEAST_SECONDS, left / len(addresses)))
        except OSError as error:
            failed = FetchError(f"{host}[{address}]: {error.strerror or error}")
            continue
        # TLS takes the descriptor over; a duplicate is still the same connection.
        with plain, plain.dup() as same, _ended_after(same, end - time.monotonic()):
            return _fetch(plain, host, path, most)
    raise failed


def _fetch(plain: socket.socket, host: str, path: str, most: int) -> bytes:
    connection = http.client.HTTPSConnection(host)
    try:
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:  # RFC 8461 §3.3: a redirection is not followed
            raise FetchError(f"{host}: expected 200, not {response.status}")
        if response.headers.get_content_type() != "text/plain":
            raise FetchError(f"{host}: expected text/plain, not {_plain(response.headers.get_content_type())}")
        octets = b""
        while piece := response.read(PIECE):
            octets += piece
            if len(octets) > most:
                raise FetchError(f"{host}: expected at most {most} octets")
        return octets
    except ssl.SSLError as error:
        raise FetchError(f"{host}: TLS: {reason_of(error)}") from error
    except TimeoutError as error:
        raise FetchError(f"{host}: no answer in time") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{host}: {_plain(str(error)) or type(error).__name__}") from error
    finally:
        connection.close()


def _plain(text: str) -> str:
    """Words of a stranger, for a log."""
    return "".join(each if each.isprintable() else "?" for each in text[:MOST_TOLD])


@contextlib.contextmanager
def _ended_after(connected: socket.socket, seconds: float) -> Iterator[None]:
    """Have the connection end after so many seconds, whatever is going on."""

    def end() -> None:
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, seconds), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
