"""Files that other programs may have put where we read: only what is a file is read, and none is ever waited for."""

import errno
import io
import os
import stat
from typing import BinaryIO, Final

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(path: str | os.PathLike[str], small: int = 0) -> BinaryIO:
    """`path` for reading; raises OSError, also where it is a link, or what could hold us for ever: a pipe, a device.

    Of at most `small` octets, it is read at once: a BytesIO, by a third of the calls.
    """
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        expect_regular(status, path)
        octets = os.pread(fd, status.st_size + 1, 0) if status.st_size <= small else b""
        if len(octets) != status.st_size:  # large, or it is being written
            return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return io.BytesIO(octets)


def read_at_most(path: str, most: int) -> bytes:
    """The first octets of a file, by three system calls; raises OSError, also where it is a link or a pipe.

    Nothing is ever waited for. Whether it is a file is not asked, for who knows which octets to expect.
    """
    fd = os.open(path, _FLAGS)
    try:
        return os.pread(fd, most, 0)
    finally:
        os.close(fd)


def expect_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Raises OSError where `status`, that of `path`, is not a file's."""
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a link is not followed", os.fspath(path))
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a file", os.fspath(path))
