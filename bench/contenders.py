"""Who is measured: a server that receives by SMTP into a Maildir, or hands one out by POP3, on loopback."""

import importlib.util
import os
import sys
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench import dovecot, exim, opensmtpd, postfix
from bench.contender import Contender
from bench.process import foreground
from bench.result import OURS
from bench.temporary import PASSWORD, PORT_BASE, USER, instance, mailbox_of, user

POSTFIX_PORT: Final = PORT_BASE + 20
AIOSMTPD_PORT: Final = PORT_BASE + 21
DOVECOT_PORTS: Final = (PORT_BASE + 22, PORT_BASE + 23)
OPENSMTPD_PORT: Final = PORT_BASE + 24
EXIM_PORT: Final = PORT_BASE + 25
PEERS: Final = Path(os.environ.get("MAILSRV_BENCH_PEERS", "/nowhere")).resolve()

ALL: Final = frozenset({"Postfix", "OpenSMTPD", "Exim", "aiosmtpd", "Dovecot"})


@contextmanager
def receiving(only: Container[str] = ALL) -> Iterator[list[Contender]]:
    """mailsrv, and of `only` what is installed that receives mail, or unpacked in the folder that PEERS names."""
    with ExitStack() as stack:
        root = stack.enter_context(instance())
        folder = root.parent
        found = [ours(root, PORT_BASE)]
        spent = found[0].spent
        if "Postfix" in only and postfix.is_here():
            started = stack.enter_context(postfix.running(folder / "postfix", POSTFIX_PORT))
            found.append(Contender("Postfix", POSTFIX_PORT, started.mailbox, (started.pid,), spent))
        if "OpenSMTPD" in only and opensmtpd.is_here(PEERS):
            found.append(stack.enter_context(opensmtpd.running(PEERS, folder / "opensmtpd", OPENSMTPD_PORT, spent)))
        if "Exim" in only and exim.is_here(PEERS):
            found.append(stack.enter_context(exim.running(PEERS, folder / "exim", EXIM_PORT, spent)))
        if "aiosmtpd" in only and importlib.util.find_spec("aiosmtpd"):
            found.append(stack.enter_context(_aiosmtpd(folder / "aiosmtpd", spent)))
        yield found


@contextmanager
def handing_out(users: int, only: Container[str] = ALL) -> Iterator[list[Contender]]:
    """mailsrv with so many more users, and if it is of `only` and installed, a Dovecot on the same mailboxes."""
    with ExitStack() as stack:
        root = stack.enter_context(instance(users=users))
        found = [ours(root, PORT_BASE + 3)]
        mailbox, spent = found[0].mailbox, found[0].spent
        if "Dovecot" in only and dovecot.is_here():
            passwords = dict.fromkeys([USER, *map(user, range(users))], PASSWORD)
            peer = dovecot.running(root.parent / "dovecot", root / "var" / "mail", passwords, DOVECOT_PORTS)
            started = stack.enter_context(peer)
            found.append(Contender("Dovecot", started.pop3_port, mailbox, (started.pid,), spent))
        yield found


def ours(root: Path, port: int) -> Contender:
    """An instance, at one of its ports."""
    pid = int((root / "var" / "supervisor" / "supervisord.pid").read_text())
    return Contender(OURS, port, mailbox_of(root), (pid,), root.parent / "spent")


@contextmanager
def _aiosmtpd(folder: Path, spent: Path) -> Iterator[Contender]:
    """aiosmtpd with its handler for Maildirs, which syncs nothing: not what the others promise."""
    listen = f"127.0.0.1:{AIOSMTPD_PORT}"
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-s", "60000000", "-l", listen]
    command += ["-c", "aiosmtpd.handlers.Mailbox", str(folder / "mail")]
    folder.mkdir()
    with foreground(command, folder / "output", [AIOSMTPD_PORT]) as process:
        yield Contender("aiosmtpd", AIOSMTPD_PORT, folder / "mail" / "new", (process.pid,), spent)
