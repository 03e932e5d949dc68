"""Listening sockets outlive their process: who has them lends duplicates over a unix socket (SCM_RIGHTS).

While a process is restarted, or after it was killed, the kernel queues connections at the duplicate that `health`
keeps; a starting process borrows before it binds. So no client gets a refused connection.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
MOST_SOCKETS: Final = 64
TIMEOUT: Final = 1.0  # seconds; both sides are on this machine and answer at once or not at all

Sockets = Mapping[str, socket.socket]  # by label, such as "smtp [127.0.0.1]:2525"


def label(name: str, address: str, port: int) -> str:
    """What a listening socket is known by: the listener's name, and where it listens."""
    return f"{name} [{address}]:{port}"


def unix_label(name: str, path: Path) -> str:
    """As `label`, for a listener at a unix socket."""
    return f"{name} unix:{path}"


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


def bind_unix(path: Path) -> socket.socket:
    """A new socket listening at `path`, for everybody whom its folder lets in; raises OSError.

    A socket that nobody listens at any more is taken away first; EADDRINUSE where somebody does, EEXIST where
    something else is in the way. Two processes must not begin at the same path at once.
    """
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _with_path(listener.bind, path)
        path.chmod(0o666)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within, no other process is, that comes by the same path; raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_reachable(listener: socket.socket) -> bool:
    """Whether clients find this listening socket: that of a path is lost when somebody removes the path."""
    if listener.family != socket.AF_UNIX:
        return True
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(Path(listener.getsockname()).lstat().st_mode)
    return False


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _os_error(errno.EEXIST, path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT)
            _with_path(probe.connect, path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except (BlockingIOError, TimeoutError):  # who listens is busy
        pass
    raise _os_error(errno.EADDRINUSE, path)


def _with_path(call: Callable[[str], object], path: Path) -> None:
    """`call` with `path`; a path too long for a socket's name is told as the system tells other errors."""
    try:
        call(os.fspath(path))
    except OSError as error:
        if error.errno is None:
            raise _os_error(errno.ENAMETOOLONG, path) from error
        raise


def _os_error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), os.fspath(path))


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
