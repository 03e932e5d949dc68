"""Root is for binding ports; whoever reads mail or the network is somebody else (`run_as`)."""

import ctypes
import grp
import os
import pwd
import signal
import struct
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_CAPABILITY_VERSION_3: Final = 0x20080522
_libc: Final = ctypes.CDLL(None, use_errno=True)


class NoSuchUserError(Exception):
    """The user to become is not known to this system."""


def end_with_parent() -> None:
    """Have the kernel end this process, as by `kill`, when supervisord is gone; to be called after a change of user."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0))


class Capability(IntEnum):
    """The few things that root may do and that a program of ours may keep (capabilities(7))."""

    LEASE = 28  # take a lease on a file of somebody else


def drop_privileges(user: str, keep: tuple[Capability, ...] = ()) -> None:
    """Become `user` for good, if we are root, but for what is kept; raises NoSuchUserError, OSError."""
    if os.geteuid() != 0:
        return
    entry = _entry_of(user)
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    if keep:
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setuid(entry.pw_uid)
    if keep:
        _set_capabilities(sum(1 << capability for capability in keep))


def _set_capabilities(mask: int) -> None:
    """Have these capabilities and no others; of this thread and those that it starts."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("6I", mask, mask, 0, 0, 0, 0)  # effective, permitted, inheritable; then for numbers from 32
    _check(_libc.capset(header, data))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def owner(user: str) -> tuple[int, int] | None:
    """uid and gid that the instance's files belong to, or None where we are not root and own them ourselves."""
    if os.geteuid() != 0:
        return None
    entry = _entry_of(user)
    return entry.pw_uid, entry.pw_gid


def account_of(user: str) -> tuple[str, str]:
    """The names of the user and the group that the programs run as: of `user` where we are root, else our own."""
    entry = _entry_of(user) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name


def group_of(user: str) -> int | None:
    """The gid of `user`, or None where we are not root."""
    ids = owner(user)
    return ids[1] if ids else None


def give(path: Path, ids: tuple[int, int]) -> None:
    """Have `path` itself belong to these ids; raises OSError."""
    os.chown(path, *ids, follow_symlinks=False)


def user_exists(user: str) -> bool:
    """Whether this system knows `user`."""
    try:
        _entry_of(user)
    except NoSuchUserError:
        return False
    return True


def create_system_user(user: str) -> None:
    """Make a user without login or home, as a system's packages do for their services; raises NoSuchUserError."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    try:
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", user], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoSuchUserError(f"the user {user} could not be created: {error}") from error


def _entry_of(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise NoSuchUserError(f"there is no user {user!r} on this system") from error
