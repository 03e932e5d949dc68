"""A temporary instance to measure: made, started, removed."""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from bench.mailboxes import put_aside

USER = "admin@localhost"
PASSWORD = "of-the-bench"
FIRST_PORT = 21520  # none of those that the kernel gives to clients
PORTS = 30  # that a bench may need, peers included
_PATIENCE = 60.0  # seconds
MAILSRV = (sys.executable, "-m", "mailsrv.cli.main")


def _free_ports() -> int:
    """The first of PORTS ports that nobody uses: another bench may be running."""
    for base in range(FIRST_PORT, FIRST_PORT + 100 * PORTS, PORTS):
        with ExitStack() as stack, suppress(OSError):
            for port in range(base, base + PORTS):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base
    raise RuntimeError(f"no {PORTS} free ports beside each other, from {FIRST_PORT} on")


PORT_BASE = _free_ports()


@contextmanager
def instance(*, users: int = 0, port_base: int = PORT_BASE, processes: int = 1, **settings: object) -> Iterator[Path]:
    """The root of a running instance; settings as `smtp__max_connections=5000`.

    Beside USER there are so many more (`user`), with the same password. `processes` are of smtp, and of pop3.
    """
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-bench-"))
    folder.chmod(0o755)  # for peers that serve its mailboxes
    root = folder / "instance"
    init = [*MAILSRV, "init", str(root), "--port-base", str(port_base), "--run-as", "nobody"]
    init += ["--processes", str(processes)]
    subprocess.run(init, check=True, capture_output=True)
    given = [*MAILSRV, "--root", str(root), "user", "passwd", USER, "--password-stdin"]
    subprocess.run(given, input=PASSWORD.encode(), check=True, capture_output=True)
    _add_users(root / "var" / "accounts", users)
    path = root / "mailsrv.toml"
    for key, value in settings.items():
        table, _, name = key.partition("__")
        head, rest = path.read_text().split(f"[{table}]\n")
        rest, number = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", rest, count=1)
        assert number == 1, key
        path.write_text(f"{head}[{table}]\n{rest}")
    try:
        _start(root)
        yield root
    finally:
        subprocess.run([*MAILSRV, "--root", str(root), "down"], check=False, capture_output=True)
        shutil.rmtree(folder)


def _start(root: Path) -> None:
    """On a machine that is busy, many programs may take longer than `up` waits for them."""
    command = [*MAILSRV, "--root", str(root)]
    told = subprocess.run([*command, "up", "--detach"], check=False, capture_output=True, text=True)
    deadline = time.monotonic() + _PATIENCE
    while told.returncode and subprocess.run([*command, "status"], check=False, capture_output=True).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(told.stdout + told.stderr)
        time.sleep(0.5)


def user(number: int) -> str:
    """The address of one of the users beside USER, from 0."""
    return f"user{number:05}@localhost"


def _add_users(accounts: Path, number: int) -> None:
    """By hand, as an editor would: to hash a password takes 50 ms."""
    line = next(each for each in accounts.read_text().splitlines() if each.startswith(f"{USER} "))
    with accounts.open("a") as file:
        file.writelines(f"{user(each)}{line.removeprefix(USER)}\n" for each in range(number))


def mailbox_of(root: Path) -> Path:
    """Where new mail of USER comes in."""
    return root / "var" / "mail" / "localhost" / "admin" / "new"


def emptied(mailbox: Path) -> Path:
    """The mailbox of an instance, with nothing in it."""
    put_aside(mailbox, mailbox.parents[5] / "spent")
    return mailbox


def memory_of(root: Path, program: str) -> int:
    """Octets of resident memory of a program of the instance."""
    return int(process_of(root, program).memory_info().rss)


def process_of(root: Path, program: str) -> psutil.Process:
    """The process of a program of the instance."""
    asked = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(root / "supervisord.conf"), "pid", program]
    return psutil.Process(int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout))
