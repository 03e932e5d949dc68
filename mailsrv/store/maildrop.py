"""Maildir, POP3's side: the maildrop (RFC 1939 §3), locked, listed once, and removed from in UPDATE only.

The lock is the kernel's, and goes with the process that holds it. The time of change of its file is that of the last
login (RFC 2449 §6.5), which so outlives restarts.
"""

import contextlib
import errno
import fcntl
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from mailsrv.store import durable
from mailsrv.store.listing import Listing
from mailsrv.store.listings import Listings
from mailsrv.store.measured import octets_on_the_wire
from mailsrv.store.regular import open_regular, read_at_most

LOCK_NAME: Final = "mailsrv.lock"
_TRIES: Final = 4  # to get hold of a message that another program renames all the time
_PIECE: Final = 64 * 1024


class MaildropInUseError(Exception):
    """Another session has this maildrop open."""


class LoginTooSoonError(Exception):
    """The last login was a shorter time ago than is asked for."""


class ChangedError(OSError):
    """A file is not the message that was listed: another program has changed it, or put another in its place."""


class Maildrop:
    """An open maildrop."""

    def __init__(
        self,
        path: Path,
        *,
        is_exclusive: bool = True,
        login_delay: float = 0,
        listings: Listings | None = None,
        may_list: bool = True,
    ) -> None:
        """Lock and list; `login_delay`, in seconds, is to be kept between logins, 0 if none is, or if this is none.

        Raises MaildropInUseError, LoginTooSoonError, OSError. Sessions that are not exclusive share the maildrop.
        From `listings` comes that of an earlier session, if it still holds, and there this one's goes. If it does not,
        and not `may_list`, raises NotListedError.
        """
        self._listings = listings
        self._lock = _lock(path, is_exclusive=is_exclusive)
        try:
            if login_delay:
                _expect_delay(self._lock, login_delay)
            self.listing = listings.take(path, may_list=may_list) if listings else Listing(path)
            if login_delay:  # a login that fails by our fault is none
                with contextlib.suppress(OSError):  # where nothing can be written, mail is read all the same
                    os.utime(self._lock)
        except BaseException:
            os.close(self._lock)
            raise

    def read_where_it_was(self, index: int) -> bytes | None:
        """The octets of a small message, None of a large one; raises OSError, also where it has moved.

        By as few system calls as can be: it is for who receives them to see whether this is the message that is listed.
        """
        listed = self.listing.octets[index]
        return read_at_most(self.listing.name(index), listed + 1) if listed <= _PIECE else None

    def open_where_it_was(self, index: int) -> BinaryIO:
        """As `open`, but FileNotFoundError is raised also where it has moved: not to find it again takes no time."""
        return open_regular(self.listing.name(index), _PIECE)

    def open(self, index: int) -> BinaryIO:
        """The octets of message `index` (from 0), in lines that end in LF or CRLF; raises OSError."""
        for _ in range(_TRIES - 1):
            with contextlib.suppress(FileNotFoundError):
                return open_regular(self.listing.name(index), _PIECE)
            self.listing.find_again()
        return open_regular(self.listing.name(index), _PIECE)

    def octets_of(self, index: int, file: BinaryIO) -> int:
        """Of message `index`, open as `file`, as RETR will send it; leaves `file` at its start.

        A small one is counted, so that none is sent that is not the one that was listed: raises ChangedError, OSError.
        A large one is counted while it is sent. What its name told without the end of its last line is sent with it.
        """
        listed = self.listing.octets[index]
        content = file.getvalue() if isinstance(file, io.BytesIO) else None
        if content is not None and octets_on_the_wire([content]) == listed:
            return listed
        last_line = 2 if self.listing.tells_octets(index) and not _ends_in_line_end(file) else 0
        octets = listed + last_line if content is None else octets_on_the_wire([content])
        if octets != listed:
            self.listing.distrust(index)
            if octets != listed + last_line:
                raise ChangedError(errno.ESTALE, "has changed since it was listed", str(self.listing.path(index)))
        return octets

    def remove(self, indices: frozenset[int], removed: Callable[[Path], None] = lambda _path: None) -> None:
        """Remove messages for good (UPDATE), wherever they have moved; raises OSError after trying all of them.

        `removed` is told of each that is gone then, whoever removed it, also where others could not be removed.
        """
        left, faults = sorted(indices), dict[int, OSError]()
        for _ in range(_TRIES):
            outcomes = durable.remove([self.listing.path(index) for index in left], must_exist=True)
            failed = {index: each for index, each in zip(left, outcomes, strict=True) if each is not None}
            gone = [index for index, each in failed.items() if isinstance(each, FileNotFoundError)]
            faults.update((index, each) for index, each in failed.items() if not isinstance(each, FileNotFoundError))
            if not gone:
                break
            before = [self.listing.path(index) for index in gone]
            self.listing.find_again()
            left = [index for index, path in zip(gone, before, strict=True) if self.listing.path(index) != path]
        for index in sorted(indices - faults.keys()):
            removed(self.listing.path(index))
        durable.raise_first(list(faults.values()))

    def older_than(self, moment: float) -> frozenset[int]:
        """Messages that have lain here, untouched, since before `moment` (seconds since 1970); raises OSError."""
        return frozenset(index for index in range(len(self.listing.octets)) if self._since(index) < moment)

    def close(self) -> None:
        """Unlock."""
        if self._listings is not None:
            self._listings.keep(self.listing)
        os.close(self._lock)

    def _since(self, index: int) -> float:
        """Since when the message has been here, at the earliest; one that is gone does not count."""
        try:
            found = self.listing.path(index).stat()
        except FileNotFoundError:
            return float("inf")
        # The time of change of the inode: files that are brought from elsewhere keep the other one.
        return max(found.st_mtime, found.st_ctime)


def _ends_in_line_end(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    last = file.read()
    file.seek(0)
    return last in (b"", b"\n")


def is_header_ascii(file: BinaryIO) -> bool:
    """Whether the header of a message has no octet above 127; leaves `file` at its start, raises OSError."""
    is_ascii, held, end = True, b"\n", b""
    while is_ascii and not end and (piece := file.read(_PIECE)):
        octets = held + piece
        header, end, _ = octets.replace(b"\r\n", b"\n").partition(b"\n\n")
        is_ascii, held = header.isascii(), octets[-3:]  # the empty line may be parted
    file.seek(0)
    return is_ascii


def _open_lock(path: str) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        try:
            return os.open(path, flags | os.O_RDWR)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return os.open(path, flags | os.O_RDONLY)  # what cannot be written any more can be read
    fd = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
    os.utime(fd, (0, 0))  # to make it is no login
    return fd


def _expect_delay(lock: int, login_delay: float) -> None:
    """Raises LoginTooSoonError; nobody waits for a last login that lies ahead, from before the clock was set back."""
    last_login = os.fstat(lock).st_mtime  # 0 for never
    if 0 <= time.time() - last_login < login_delay:
        raise LoginTooSoonError


def _lock(path: Path, *, is_exclusive: bool) -> int:
    """The lock's descriptor."""
    fd = _open_lock(f"{path}/{LOCK_NAME}")
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        return fd
    except BlockingIOError as error:
        os.close(fd)
        raise MaildropInUseError(str(path)) from error
    except BaseException:
        os.close(fd)
        raise
