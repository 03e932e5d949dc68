"""What a mail client is to these tests, and where it may send to."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest

from tests.clients.messages import Message
from tests.system.instance import USER, Instance

HOST = "localhost"  # the name in the certificate
PATIENCE = 60  # seconds that a client may take for a message

Done = subprocess.CompletedProcess[bytes]


class Way(StrEnum):
    """How a client comes in."""

    PLAIN = "plain"  # without TLS; by SMTP as another server does, without a login
    STARTTLS = "starttls"  # POP3's STLS
    TLS = "tls"  # from the first octet


@dataclass(frozen=True)
class Service:
    """A port of an instance, and what a client needs to know to use it; `mechanism` is its own choice where empty."""

    way: Way
    port: int
    certificate: Path
    password: str
    mechanism: str = ""
    user: str = USER

    @property
    def sender(self) -> str:
        """The reverse-path: who logs in sends from the own address."""
        return self.user if self.with_login else "alice@example.org"

    @property
    def with_login(self) -> bool:
        """Whether the client logs in."""
        return self.way is not Way.PLAIN


def service_of(instance: Instance, way: Way, mechanism: str = "", password: str = "") -> Service:
    """The service for a way in; with the right password, unless told another."""
    ports = {Way.PLAIN: instance.smtp_port, Way.STARTTLS: instance.submission_port, Way.TLS: instance.submissions_port}
    return Service(way, ports[way], instance.certificate, password or instance.password, mechanism)


class Client(ABC):
    """A mail client; how it differs from the others stands in its attributes."""

    name: ClassVar[str]
    program: ClassVar[str]
    package: ClassVar[str]  # of Debian, with the program in it
    composes: ClassVar[bool] = False  # makes the message itself, from a text and attachments
    cannot: ClassVar[Mapping[str, str]] = {}  # the names of messages that it cannot send, and why
    mechanisms: ClassVar[Sequence[str]] = ()  # of AUTH, those that it can be told to use

    def is_missing(self) -> bool:
        """Whether it is not on this machine."""
        return shutil.which(self.program) is None

    def lacks(self, mechanism: str) -> str:
        """Why this build of it has not the mechanism; empty where it has."""
        del mechanism
        return ""

    @abstractmethod
    def send(self, service: Service, message: Message, folder: Path) -> Done:
        """Send the message; what the client needs on disk goes into `folder`, which is its home as well."""


def run(command: Sequence[str], folder: Path, stdin: bytes = b"", environment: Mapping[str, str] = {}) -> Done:
    """Run a client that knows no settings but those it is given."""
    known = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder), **environment}
    return subprocess.run(
        command, input=stdin, cwd=folder, env=known, capture_output=True, check=False, timeout=PATIENCE
    )


@cache
def said_by(*command: str) -> str:
    """What a client says of itself."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout + done.stderr


def has_perl_modules(*names: str) -> bool:
    """Whether perl finds these modules."""
    return "all here" in said_by("perl", *(f"-M{name}" for name in names), "-e", "print 'all here'")


def write(path: Path, content: bytes) -> Path:
    """Write a file that only we can read, as clients want it of files with passwords."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def skip_missing(name: str, package: str) -> NoReturn:
    """Skip a test for want of a client, or fail it where MAILSRV_ALL_CLIENTS=1 says that all are there."""
    reason = f"no {name} on this machine; Debian: {package}"
    if os.environ.get("MAILSRV_ALL_CLIENTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
