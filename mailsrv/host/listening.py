"""Listening sockets outlive their process: who has them lends duplicates over a unix socket (SCM_RIGHTS).

While a process is restarted, or after it was killed, the kernel queues connections at the duplicate that `health`
keeps; a starting process borrows before it binds. So no client gets a refused connection.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
MOST_SOCKETS: Final = 64
TIMEOUT: Final = 1.0  # seconds; both sides are on this machine and answer at once or not at all

Sockets = Mapping[str, socket.socket]  # by label, such as "smtp 127.0.0.1:2525"


def label(name: str, address: str, port: int) -> str:
    """What a listening socket is known by: the listener's name, and where it listens."""
    return f"{name} [{address}]:{port}"


def bind(address: str, port: int) -> socket.socket:
    """A new listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def borrow(path: Path) -> dict[str, socket.socket]:
    """Duplicates of what is lent at `path`; empty where nobody lends."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(os.fspath(path))
            octets, fds, _flags, _address = socket.recv_fds(client, 65536, MOST_SOCKETS)
        labels = json.loads(octets)
    except (OSError, ValueError):
        return {}
    return {name: socket.socket(fileno=fd) for name, fd in zip(labels, fds, strict=True)}


class Lender:
    """A thread that hands duplicates to whoever connects to the unix socket at `path`."""

    def __init__(self, path: Path, sockets: Callable[[], Sockets]) -> None:
        self._path = path
        self._sockets = sockets
        self._is_stopped = False
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.settimeout(None)
        self._server.bind(os.fspath(path))
        path.chmod(0o600)
        self._server.listen()
        threading.Thread(target=self._run, name="lender", daemon=True).start()

    def stop(self) -> None:
        """Lend no more. The path stays: a successor may have taken it already."""
        self._is_stopped = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                if self._is_stopped:
                    return
                time.sleep(TIMEOUT)  # out of descriptors, perhaps: let others finish
                continue
            with client:
                try:
                    client.settimeout(TIMEOUT)
                    self._lend(client)
                except OSError as error:
                    logger.warning("sockets could not be lent: %s", error)

    def _lend(self, client: socket.socket) -> None:
        sockets = dict(self._sockets())
        socket.send_fds(client, [json.dumps(list(sockets)).encode()], [each.fileno() for each in sockets.values()])


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close our duplicates; a port is closed when the last one is."""
    for each in sockets:
        each.close()
