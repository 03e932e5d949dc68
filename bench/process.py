"""A peer's process, in the foreground; and one that sees some files of its own in place of the system's."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PATIENCE: Final = 30.0  # seconds that it may take to start or to stop
_BIND_AND_GO: Final = """
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"
"""


@contextmanager
def foreground(
    command: Sequence[str | Path], output: Path, ports: Iterable[int], log: Callable[[], str] = lambda: ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it, wait until it listens at the ports of 127.0.0.1, and end it.

    Raises RuntimeError, with what it and its log have said, where it does not come up.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        for port in ports:
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not start: {output.read_text()}{log()}")
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def can_see_its_own() -> bool:
    """Whether `seeing` works here: as root, on Linux."""
    return os.geteuid() == 0 and shutil.which("unshare") is not None


def seeing(own: Mapping[Path, Path], command: Sequence[str | Path]) -> list[str | Path]:
    """A command whose process finds, in place of each of these files and folders, one of ours; nobody else does.

    For programs that know their paths since they were compiled. By a mount namespace, which ends with them.
    """
    binds = [each for place, ours in own.items() for each in (ours, place)]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _BIND_AND_GO, "sh", *binds, "--", *command]


def with_users(folder: Path, users: Mapping[str, tuple[int, Path]]) -> dict[Path, Path]:
    """For `seeing`: the system's users and groups, and these, by name, with number and home."""
    passwd, group = folder / "passwd", folder / "group"
    lines = [f"{name}:x:{number}:{number}::{home}:/bin/sh\n" for name, (number, home) in users.items()]
    passwd.write_text(Path("/etc/passwd").read_text() + "".join(lines))
    lines = [f"{name}:x:{number}:\n" for name, (number, _home) in users.items()]
    group.write_text(Path("/etc/group").read_text() + "".join(lines))
    return {Path("/etc/passwd"): passwd, Path("/etc/group"): group}
