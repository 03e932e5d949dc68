"""The instance that is drilled: a temporary one, or this one. Whatever happens, nothing of it is left behind.

A temporary one has a folder of its own with a lock in it, which dies with the drill that holds it: what a killed drill
has left is known by that, and removed by the next one.
"""

import contextlib
import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from mailsrv import config as configuration
from mailsrv.cli.context import Failed, enter
from mailsrv.config import PORT_OFFSETS, Config
from mailsrv.host.interruption import Interruption
from mailsrv.host.supervisor import Supervisor
from mailsrv.model.address import Mailbox
from mailsrv.settings import Drill as Hooks
from mailsrv.store.durable import write_file
from mailsrv.store.maildir import mailbox_path
from mailsrv.work import instance
from mailsrv.work.drills import Place
from mailsrv.work.flow import Flow, Onward
from mailsrv.work.sink import ADDRESS, Sink

LOCAL_PART: Final = "mailsrv-drill"
PREFIX: Final = "mailsrv-drill-"
LOCK: Final = "lock"
DISK: Final = "disk"  # within the folder, and the instance on it
INSTANCE: Final = "i"  # a short name: unix sockets
RUN_AS: Final = "nobody"
DISK_SIZE: Final = "512m"
PATIENCE: Final = 60.0  # seconds, on an instance whose windows are short
JOIN: Final = 5.0  # seconds that a sender of mail may take to see that there is nobody any more
# Windows that are short enough to watch: what takes minutes or days takes seconds.
QUICK: Final[dict[str, Any]] = {
    "interval": 0.25,
    "beat_limit": 3.0,
    "memory_limit": 300.0,
    "descriptor_limit": 200,
    "thread_limit": 60,
    "trend_hour": 1.5,
    "slow_clock": 2.0,
    "probe_interval": 5.0,
    "message_interval": 10.0,
}
RETRY_AFTER: Final = (2.0,)
PORTS: Final = range(12_000, 32_000, 10)


@contextlib.contextmanager
def temporary(interruption: Interruption) -> Iterator[Place]:
    """A new instance that is removed afterwards; for root, on a small disk of its own."""
    _remove_leftovers()
    with contextlib.ExitStack() as stack:
        with interruption.undisturbed():
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            stack.callback(os.close, _lock(folder / LOCK))  # once all is gone
            stack.callback(_remove, folder)
            folder.chmod(0o755)
            disk = folder / DISK
            disk.mkdir()
            has_own_disk = _has_mounted(disk)
        root, sink = disk / INSTANCE, Sink()
        stack.callback(sink.close)
        sink.start()
        _must(_run("init", str(root), "--port-base", str(_free_ports()), "--run-as", RUN_AS))
        config = _quickened(configuration.load(root), sink)
        write_file(config.path, configuration.render(config).encode())
        config.path.chmod(0o644)
        flow = _flow(config, Mailbox(instance.FIRST_USER, config.domains[0]), Onward(sink, config.books))
        stack.callback(flow.stop, JOIN)
        with interruption.undisturbed():
            _up(root)
        yield Place(config, flow, lambda: _up(root), interruption.undisturbed, PATIENCE, True, has_own_disk)


def _quickened(config: Config, sink: Sink) -> Config:
    settings: dict[str, Any] = {
        "health": replace(config.health, **QUICK),
        "delivery": replace(config.delivery, retry_after=RETRY_AFTER),
        "relay": replace(config.relay, smarthosts=(f"{ADDRESS}:{sink.port}",)),
        "drill": Hooks(hooks=True),
    }
    return replace(config, **settings)


@contextlib.contextmanager
def here(ctx: click.Context, interruption: Interruption, *, yes: bool) -> Iterator[Place]:
    """This instance, with its own windows, and an account of its own for the mail, removed with its mail afterwards."""
    near = enter(ctx)  # its paths are relative: the programs' user may not be let in by the folders above
    root = Path.cwd()
    os.kill(Supervisor(near.supervisor_socket).pid(), 0)  # whoever may not end it cannot make it ill either
    if not yes:
        click.confirm("This makes programs of this instance ill, while it works. Go on?", abort=True, err=True)
    config = configuration.load(root)
    mailbox = Mailbox(LOCAL_PART, config.domains[0])
    maildir = mailbox_path(config.mail, mailbox)
    flow = _flow(config, mailbox)
    health = config.health
    patience = PATIENCE + 12 * health.interval + 3 * health.beat_limit
    with contextlib.ExitStack() as stack:
        with interruption.undisturbed():
            stack.callback(shutil.rmtree, maildir, ignore_errors=True)
            stack.callback(instance.edit, near, near.accounts, mailbox, None)
            instance.add_account(near, mailbox, secrets.token_urlsafe())  # or takes over what a killed drill left
        stack.callback(_drain, flow, patience)
        yield Place(config, flow, lambda: _up(root), interruption.undisturbed, patience, False, has_own_disk=False)


def _drain(flow: Flow, patience: float) -> None:
    """Mail that comes later than its mailbox is gone would be returned."""
    flow.stop(JOIN)
    if not flow.settle(patience):
        click.echo("mail of the drill has not come: see `mailsrv queue list`", err=True)


def _flow(config: Config, mailbox: Mailbox, onward: Onward | None = None) -> Flow:
    port = config.ports().get("smtp")
    if port is None:
        raise Failed("the port smtp is switched off: no mail can be sent to it")
    address = ADDRESS if config.listen.address == "0.0.0.0" else config.listen.address
    return Flow(address, port, config.spool, mailbox_path(config.mail, mailbox), str(mailbox), onward)


# --- what a temporary instance takes of the machine ---------------------------------------------------


def _lock(path: Path) -> int:
    """The lock of a folder, held; raises BlockingIOError where another drill holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _has_mounted(disk: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=755", "tmpfs", str(disk)]
    return shutil.which("mount") is not None and _quietly(command)


def _remove(folder: Path) -> None:
    """End the instance, give back its disk, remove it."""
    disk = folder / DISK
    root = disk / INSTANCE
    if (root / configuration.FILE_NAME).exists() and _command(root, "down").returncode:
        _kill_supervisord(root)
    if os.path.ismount(disk):
        _quietly(["umount", "--lazy", str(disk)])
    shutil.rmtree(folder, ignore_errors=True)


def _kill_supervisord(root: Path) -> None:
    """One that does not end when it is asked to; its programs end with it."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(Config(root).supervisor_pid.read_text("ascii"))
        if pid > 1 and os.fsencode(root) in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def _remove_leftovers() -> None:
    """Of drills that were killed. What belongs to somebody else is not ours to touch."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another drill is at work there, or has just removed it
            status = folder.lstat()
            if status.st_uid != os.geteuid() or folder.is_symlink() or not (folder / LOCK).exists():
                continue
            fd = _lock(folder / LOCK)
            try:
                _remove(folder)
            finally:
                os.close(fd)
            click.echo(f"removed {folder}, which a drill that was killed had left", err=True)


def _free_ports() -> int:
    """A base such that the ports of an instance are free now."""
    for base in random.sample(PORTS, len(PORTS)):  # another drill may look for some now
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for offset in PORT_OFFSETS.values():
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", base + offset))
            return base
    raise Failed("no five ports are free")


# --- other commands -------------------------------------------------------------------------------------


def audit(config: Config) -> str:
    """What `mailsrv audit` complains about; empty where the books balance."""
    done = _command(config.root, "audit")
    return done.stdout.decode("utf-8", "replace") if done.returncode else ""


def _up(root: Path) -> None:
    _must(_command(root, "up", "--detach"))


def _command(root: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return _run("--root", str(root), *words)


def _run(*words: str) -> "subprocess.CompletedProcess[bytes]":
    """In a session of its own, where the terminal's Ctrl-C does not reach it."""
    command = [sys.executable, "-P", "-m", "mailsrv.cli.main", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, start_new_session=True)


def _must(done: "subprocess.CompletedProcess[bytes]") -> None:
    if done.returncode:
        raise Failed((done.stderr or done.stdout).decode("utf-8", "replace").strip())


def _quietly(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True, start_new_session=True).returncode == 0
