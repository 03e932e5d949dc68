"""What the filesystem of an open file promises: that its syncfs can be believed, that it keeps the order of names.

What is not known counts as promised by nobody: then each file is synced by itself.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Final, NamedTuple

# f_type of statfs(2). The syncfs of these waits for the data, the journal and the disk's cache.
_EXT: Final = 0xEF53  # ext2, ext3 and ext4 alike
_XFS: Final = 0x58465342
_HONEST_SYNCFS: Final = frozenset({_EXT, _XFS, 0x9123683E, 0xF2F52010})  # and btrfs, f2fs

_DEVICES: Final = Path("/sys/dev/block")
_JOURNALS: Final = Path("/proc/fs/jbd2")  # one folder for each journal of ext3 and ext4, DEVICE-INODE
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Promises(NamedTuple):
    """See the functions of the same names."""

    is_ordered: bool
    has_honest_syncfs: bool


def promises_of(folder: Path) -> Promises:
    """Of the filesystem that a folder is on; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Promises(is_ordered(fd), has_honest_syncfs(fd))
    finally:
        os.close(fd)


def has_honest_syncfs(fd: int) -> bool:
    """Whether syncfs is known to wait for the disk."""
    return _type_of(fd) in _HONEST_SYNCFS


def is_ordered(fd: int) -> bool:
    """Whether after a power loss nothing is missing that was done before a rename, link or removal that is there.

    So it is with a journal, for names and sizes, and for octets that were written out before: the journal has the disk
    write its cache before it counts as written.
    """
    kind = _type_of(fd)
    return kind == _XFS or (kind == _EXT and _has_journal(os.fstat(fd).st_dev))


def _type_of(fd: int) -> int:
    statfs = ctypes.create_string_buffer(256)  # struct statfs is smaller everywhere; f_type comes first
    return ctypes.c_long.from_buffer(statfs).value if _libc.fstatfs(fd, statfs) == 0 else 0


@functools.lru_cache(maxsize=64)
def _has_journal(device: int) -> bool:
    """Whether ext4 on this device has a journal; False where that cannot be seen, in a container say."""
    try:
        name = (_DEVICES / f"{os.major(device)}:{os.minor(device)}").readlink().name
        return any(each.rpartition("-")[0] == name for each in os.listdir(_JOURNALS))
    except OSError:
        return False
