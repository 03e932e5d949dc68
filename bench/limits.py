"""What the machine can do at the best: files made durable one by one and in groups, octets through loopback, memory."""

import ctypes
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from mailsrv.store.filesystems import promises_of

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CONTENT: Final = b"x" * 4096
_PIECE: Final = 1 << 18


def machine(folder: Path) -> dict[str, Any]:
    """What it is, as the tables tell it; `folder` is on the filesystem that is measured."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.machine(),
        "filesystem": filesystem(folder),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "calibration": calibration(),
        "limits": {
            "files of 4 KB made durable one by one, a second": durable_files(folder, 1),
            "the same, in groups of 16": durable_files(folder, 16),
            "in groups of 64": durable_files(folder, 64),
            "MB a second through loopback, one connection": loopback() / 1e6,
            "MB a second copied in memory": memory() / 1e6,
        },
    }


def filesystem(folder: Path) -> str:
    """What a folder is on; of ext4 whether it has its journal, which makes the difference."""
    asked = ["df", "--output=fstype", str(folder)]
    kind = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()[-1]
    if kind != "ext4":
        return kind
    return f"{kind} {'with its' if promises_of(folder).is_ordered else 'without a'} journal"


def durable_files(folder: Path, group: int, seconds: float = 1.5) -> float:
    """Files a second that are created, written, synced and renamed, and their folder synced once a group."""
    place = folder / f"durable{group}"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    number, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        drafts = [place / f"{number + each}.tmp" for each in range(group)]
        for draft in drafts:
            draft.write_bytes(_CONTENT)
            if group == 1:
                _sync(draft)
        if group > 1 and _LIBC.syncfs(fd):
            raise OSError(ctypes.get_errno(), "syncfs")
        for draft in drafts:
            draft.rename(draft.with_suffix(""))
        os.fsync(fd)
        number += group
    taken = time.monotonic() - start
    os.close(fd)
    return number / taken


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def loopback(octets: int = 1 << 29) -> float:
    """Octets a second through one TCP connection on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        other, _ = server.accept()

        def drain() -> None:
            buffer = bytearray(_PIECE)
            while other.recv_into(buffer):
                pass

        thread = threading.Thread(target=drain)
        thread.start()
        piece, start = bytes(_PIECE), time.monotonic()
        for _ in range(octets // _PIECE):
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        thread.join()
        seconds = time.monotonic() - start
        other.close()
    return octets / seconds


def memory(octets: int = 1 << 27) -> float:
    """Octets a second that are copied."""
    source, target = bytearray(octets), bytearray(octets)
    start = time.monotonic()
    for _ in range(4):
        target[:] = source
    return 4 * octets / (time.monotonic() - start)


def calibration() -> float:
    """Seconds of CPU that a fixed piece of Python takes: results of different machines are told apart by it."""
    words = [b"%d" % each for each in range(1000)]
    best = sys.float_info.max
    for _ in range(5):
        start = time.process_time()
        for _ in range(100):
            b" ".join(words).split()
        best = min(best, time.process_time() - start)
    return best
