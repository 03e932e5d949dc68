"""systemd: sd_notify(3), the one datagram by which a service says that it is there, and that it is well."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

READY: Final = "READY=1"
WATCHDOG: Final = "WATCHDOG=1"
VARIABLE: Final = "NOTIFY_SOCKET"


def notify(*words: str) -> bool:
    """Tell the service manager; False where there is none, or it does not listen."""
    address = os.environ.get(VARIABLE, "")
    if not address:
        return False
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        client.setblocking(False)
        client.connect(address)
        client.send("\n".join(words).encode())
        return True
    return False


def looks_after(pid: int) -> bool:
    """Whether a service manager has started a process, and so starts it again, as far as we may see."""
    try:
        return f"\0{VARIABLE}=".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
