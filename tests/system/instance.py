"""Driving an instance from outside, as its operator and its clients do."""

import contextlib
import json
import os
import poplib
import random
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).parents[2]
CORPUS = REPOSITORY.parent / "shared" / "corpus"
USER = "admin@localhost"
PATIENCE = 20.0  # seconds that a condition may take on a slow machine before it counts as not met

poplib._MAXLINE = 1_000_000  # type: ignore[attr-defined]  # real messages have longer lines than its 2048 octets

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Wait until `condition` gives something true, and give that."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.02)
    return found


def free_port_base() -> int:
    """A port N such that N to N+4 are free now, and that no other worker of this run will choose.

    It is none of those that the kernel gives to clients (from 32768).
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        base = random.randrange(10_000 + 5 * (worker % 16), 32_000, 5 * 16)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(base, base + 5):
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", port))
            return base


@dataclass
class Instance:
    """An instance in `root`; its ports are `base`, and so on as `mailsrv init --port-base` says."""

    root: Path
    base: int
    password: str

    @classmethod
    def create(cls, root: Path, settings: dict[str, object], *options: str) -> "Instance":
        base = free_port_base()
        command = [sys.executable, "-m", "mailsrv.cli.main", "init", str(root), "--port-base", str(base)]
        told = subprocess.run(
            [*command, "--run-as", "nobody", *options], check=True, capture_output=True, text=True
        ).stdout
        password = re.search(r"told only this once: (\S+)", told)
        assert password, told
        instance = cls(root, base, password.group(1))
        instance.configure(**settings)
        return instance

    def configure(self, **settings: object) -> None:
        """Change settings in mailsrv.toml, `table__name=value`."""
        path = self.root / "mailsrv.toml"
        text = path.read_text()
        for key, value in settings.items():
            table, _, name = key.rpartition("__")
            head, tail = text.split(f"[{table}]\n") if table else ("", text)
            tail, number = re.subn(rf"(?m)^{name} = .*$", f"{name} = {json.dumps(value)}", tail, count=1)
            assert number == 1, key
            text = f"{head}[{table}]\n{tail}" if table else tail
        path.write_text(text)

    # --- the operator ------------------------------------------------------------------------------

    def mailsrv(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mailsrv.cli.main", "--root", str(self.root), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    def up(self) -> None:
        done = self.mailsrv("up", "--detach")
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        done = self.mailsrv("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def supervisorctl(self, *words: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.root / "supervisord.conf"), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout

    def pid(self, program: str) -> int:
        """The process of a program; 0 where there is none."""
        told = self.supervisorctl("pid", program).strip()
        return int(told) if told.isdigit() else 0

    def kill(self, program: str) -> None:
        """kill -9, of the one process and no other."""

        def is_killed() -> bool:
            pid = self.pid(program)
            with contextlib.suppress(ProcessLookupError):  # supervisord has not yet seen that it is gone
                if pid > 1:
                    os.kill(pid, signal.SIGKILL)
                    return True
            return False

        wait_until(is_killed, f"{program} has a process")

    def wait_until_running(self, program: str) -> None:
        wait_until(lambda: "RUNNING" in self.supervisorctl("status", program), f"{program} runs")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.mailsrv("status", "--json").stdout)
        return found

    def log(self, program: str) -> str:
        return (self.root / "var" / "log" / f"{program}.log").read_text()

    # --- the clients -------------------------------------------------------------------------------

    @property
    def smtp_port(self) -> int:
        return self.base

    @property
    def submission_port(self) -> int:
        return self.base + 1

    @property
    def submissions_port(self) -> int:
        return self.base + 2

    @property
    def pop3_port(self) -> int:
        return self.base + 3

    @property
    def pop3s_port(self) -> int:
        return self.base + 4

    @property
    def certificate(self) -> Path:
        return self.root / "var" / "tls" / "cert.pem"

    @property
    def spool(self) -> Path:
        return self.root / "var" / "spool"

    @property
    def new_mail(self) -> Path:
        return self.root / "var" / "mail" / "localhost" / "admin" / "new"

    def send(self, content: bytes, sender: str = "alice@example.org", to: str = USER) -> None:
        """Send by SMTP; raises what smtplib raises, until the message is taken: a 421 to QUIT takes nothing back."""
        client = smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=PATIENCE)
        try:
            client.sendmail(sender, [to], content)
        finally:
            with contextlib.suppress(smtplib.SMTPException):
                client.quit()
            client.close()

    def drop(self, name: str, content: bytes) -> Path:
        """Put a file into the drop box, written in place."""
        path = self.spool / name
        path.write_bytes(content)
        return path

    def delivered(self) -> list[bytes]:
        """The messages in the mailbox as they are on disk, in order."""
        return [path.read_bytes() for path in sorted(self.new_mail.iterdir())]

    def wait_delivered(self, number: int) -> list[bytes]:
        wait_until(lambda: len(list(self.new_mail.iterdir())) >= number, f"{number} messages in the mailbox")
        return self.delivered()

    def fetch(self, *, delete: bool = False) -> list[bytes]:
        """All messages by POP3, octet for octet as they came; deleted on request."""
        client = poplib.POP3("127.0.0.1", self.pop3_port, timeout=PATIENCE)
        client.user(USER)
        client.pass_(self.password)
        messages = []
        for number in range(1, len(client.list()[1]) + 1):
            _, lines, octets = client.retr(number)
            message = b"".join(line + b"\r\n" for line in lines)
            assert octets >= len(message)  # poplib counts the doubled dots
            messages.append(message)
            if delete:
                client.dele(number)
        client.quit()
        return messages

    def is_open(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
