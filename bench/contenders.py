"""Who is measured: a server that receives by SMTP into a Maildir, or hands one out by POP3, on loopback."""

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench import dovecot, postfix
from bench.temporary import PASSWORD, PORT_BASE, USER, instance, mailbox_of, user

POSTFIX_PORT: Final = PORT_BASE + 20
AIOSMTPD_PORT: Final = PORT_BASE + 21
DOVECOT_PORTS: Final = (PORT_BASE + 22, PORT_BASE + 23)
_PATIENCE: Final = 20.0  # seconds


@dataclass(frozen=True)
class Contender:
    """A running server: `port` of its protocol, `mailbox` where new mail comes in, `pids` of its first processes.

    What has come in goes to `spent` afterwards.
    """

    name: str
    port: int
    mailbox: Path
    pids: tuple[int, ...]
    spent: Path

    def cpu(self) -> float:
        """Seconds of CPU that all its processes have taken, those that have ended included."""
        return sum(_cpu_of(psutil.Process(pid)) for pid in self.pids)

    def memory(self) -> float:
        """MB that its processes hold, what they share counted once."""
        return sum(_memory_of(each) for each in self._processes()) / 1e6

    def _processes(self) -> Iterator[psutil.Process]:
        for pid in self.pids:
            root = psutil.Process(pid)
            yield from (root, *root.children(recursive=True))


@contextmanager
def receiving() -> Iterator[list[Contender]]:
    """mailsrv, and what else is installed that receives mail."""
    with ExitStack() as stack:
        root = stack.enter_context(instance())
        folder = root.parent
        spent = folder / "spent"
        found = [Contender("mailsrv", PORT_BASE, mailbox_of(root), (_supervisord(root),), spent)]
        if postfix.is_here():
            started = stack.enter_context(postfix.running(folder / "postfix", POSTFIX_PORT))
            found.append(Contender("Postfix", POSTFIX_PORT, started.mailbox, (started.pid,), spent))
        if importlib.util.find_spec("aiosmtpd"):
            found.append(stack.enter_context(_aiosmtpd(folder / "aiosmtpd", spent)))
        yield found


@contextmanager
def handing_out(users: int) -> Iterator[list[Contender]]:
    """mailsrv, and a Dovecot on the same mailboxes where it is installed; with so many users beside USER."""
    with ExitStack() as stack:
        root = stack.enter_context(instance(users=users))
        mailbox, spent = mailbox_of(root), root.parent / "spent"
        found = [Contender("mailsrv", PORT_BASE + 3, mailbox, (_supervisord(root),), spent)]
        if dovecot.is_here():
            passwords = dict.fromkeys([USER, *map(user, range(users))], PASSWORD)
            peer = dovecot.running(root.parent / "dovecot", root / "var" / "mail", passwords, DOVECOT_PORTS)
            started = stack.enter_context(peer)
            found.append(Contender("Dovecot", started.pop3_port, mailbox, (_master_of(started),), spent))
        yield found


def _supervisord(root: Path) -> int:
    return int((root / "var" / "supervisor" / "supervisord.pid").read_text())


def _master_of(started: dovecot.Dovecot) -> int:
    return int((started.folder / "run" / "master.pid").read_text())


@contextmanager
def _aiosmtpd(folder: Path, spent: Path) -> Iterator[Contender]:
    """aiosmtpd with its handler for Maildirs, which syncs nothing: not what the others promise."""
    listen = f"127.0.0.1:{AIOSMTPD_PORT}"
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-s", "60000000", "-l", listen]
    folder.mkdir()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*command, "-c", "aiosmtpd.handlers.Mailbox", folder / "mail"], stdout=output, stderr=output
        )
        try:
            mailbox = folder / "mail" / "new"
            deadline = time.monotonic() + _PATIENCE
            while not mailbox.exists():
                assert time.monotonic() < deadline, "aiosmtpd does not start"
                time.sleep(0.05)
            yield Contender("aiosmtpd", AIOSMTPD_PORT, mailbox, (process.pid,), spent)
        finally:
            process.terminate()
            process.wait(_PATIENCE)


def _cpu_of(process: psutil.Process) -> float:
    """A process with all its children, also those that it has waited for."""
    try:
        children = process.children()
        return sum(process.cpu_times()[:4]) + sum(_cpu_of(each) for each in children)
    except psutil.NoSuchProcess:
        return 0.0


def _memory_of(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0
