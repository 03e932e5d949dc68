"""Maildir, POP3's side: the maildrop (RFC 1939 §3), locked, listed once, and removed from in UPDATE only."""

import fcntl
import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from mailsrv.store import durable
from mailsrv.store.maildir import unique_part

logger = logging.getLogger(__name__)

LOCK_NAME: Final = "mailsrv.lock"
_PIECE: Final = 256 * 1024
_WIRE_SIZE = re.compile(r",W=(\d+)")
_UIDL = re.compile(r"[!-~]{1,70}")  # RFC 1939 §7


class MaildropInUseError(Exception):
    """Another session has this maildrop open."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `octets` counts CRLF line ends, as RETR sends them."""

    path: Path
    uidl: str
    octets: int


class Maildrop:
    """An open, locked maildrop. The lock is the kernel's: it goes with the process that holds it."""

    def __init__(self, path: Path) -> None:
        """Lock and list; raises MaildropInUseError, OSError."""
        self._path = path
        self._lock = _lock(path)
        try:
            self.messages = _list(path)
        except BaseException:
            self.close()
            raise

    def open(self, index: int) -> BinaryIO:
        """The octets of message `index` (from 0), in lines that end in LF or CRLF; raises OSError."""
        message = self.messages[index]
        try:
            return message.path.open("rb")
        except FileNotFoundError:
            return self._moved(message).open("rb")

    def remove(self, indices: frozenset[int]) -> None:
        """Remove messages for good (UPDATE); raises OSError after trying all of them."""
        paths = []
        for index in sorted(indices):
            message = self.messages[index]
            paths.append(message.path if message.path.exists() else self._moved(message, missing_ok=True))
        durable.raise_first(durable.remove(paths))

    def close(self) -> None:
        """Unlock."""
        os.close(self._lock)

    def _moved(self, message: Message, *, missing_ok: bool = False) -> Path:
        """Where another program has moved the message to, from new to cur or by setting a flag."""
        unique = unique_part(message.path.name)
        for folder in ("cur", "new"):
            for name in os.listdir(self._path / folder):
                if unique_part(name) == unique:
                    return self._path / folder / name
        if missing_ok:
            return message.path
        raise FileNotFoundError(f"{message.path} was removed by another program")


def _lock(path: Path) -> int:
    fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise MaildropInUseError(str(path)) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _list(path: Path) -> tuple[Message, ...]:
    found = [
        (name, folder) for folder in ("new", "cur") for name in os.listdir(path / folder) if not name.startswith(".")
    ]
    messages = (_message(path / folder / name, name) for name, folder in sorted(found))
    return tuple(message for message in messages if message is not None)


def _message(path: Path, name: str) -> Message | None:
    size = _WIRE_SIZE.search(name)
    try:
        octets = int(size.group(1)) if size else _measure(path)
    except FileNotFoundError:  # moved or removed while we listed; the next session will see it
        return None
    except OSError as error:  # one file that is not ours to read must not keep its owner from all the others
        logger.warning("left out of the maildrop: %s: %s", path, error.strerror)
        return None
    unique = unique_part(name)
    if not _UIDL.fullmatch(unique):
        unique = hashlib.sha256(os.fsencode(unique)).hexdigest()[:40]
    return Message(path, unique, octets)


def _measure(path: Path) -> int:
    """Octets on the wire of a message whose name does not tell."""
    octets, last = 0, b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            bare = piece.count(b"\n") - piece.count(b"\r\n") - (last == b"\r" and piece[:1] == b"\n")
            octets += len(piece) + bare
            last = piece[-1:]
    return octets if last in (b"\n", b"") else octets + 2  # RETR ends an unfinished line
