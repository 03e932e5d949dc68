"""What a POP3 client is to these tests, and what is expected of it."""

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.clients.client import Done, Service, Way, write
from tests.system.instance import Instance


def pop3_service(instance: Instance, way: Way, mechanism: str = "", password: str = "") -> Service:
    """The service for a way in; with the right password, unless told another."""
    port = instance.pop3s_port if way is Way.TLS else instance.pop3_port
    return Service(way, port, instance.certificate, password or instance.password, mechanism)


_STORE = """\
#!/bin/sh
exec cat >"$(mktemp mail/XXXXXXXX)"
"""


class Reader(ABC):
    """A POP3 client; how it differs from the others stands in its attributes."""

    name: ClassVar[str]
    program: ClassVar[str]
    package: ClassVar[str]  # of Debian, with the program in it
    line_end: ClassVar[bytes] = b"\n"  # of what it stores
    ways: ClassVar[Sequence[Way]] = tuple(Way)
    cannot: ClassVar[Mapping[str, str]] = {}  # the names of messages that it does not keep as they are, and why
    mechanisms: ClassVar[Sequence[str]] = ()  # of AUTH, and USER, those that it can be told to use

    def is_missing(self) -> bool:
        """Whether it is not on this machine."""
        return shutil.which(self.program) is None

    def lacks(self, mechanism: str) -> str:
        """Why this build of it has not the mechanism; empty where it has."""
        del mechanism
        return ""

    @abstractmethod
    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        """Store below `folder / "mail"` all messages that it has not yet read, and unless `keep` delete them.

        What the client needs on disk, also to know by UIDL what it has read, goes into `folder`.
        """

    def stored(self, folder: Path) -> dict[str, bytes]:
        """The messages that it has stored, by subject."""
        return by_subject(path.read_bytes() for path in (folder / "mail").rglob("*") if path.is_file())


def make_store(folder: Path) -> Path:
    """A program that stores what it is given below `folder / "mail"`; clients call it in `folder`."""
    (folder / "mail").mkdir(exist_ok=True)
    store = write(folder / "store", _STORE.encode())
    store.chmod(0o700)
    return store


def by_subject(contents: Iterable[bytes]) -> dict[str, bytes]:
    """Messages by subject; fails where one was stored twice."""
    found: dict[str, bytes] = {}
    for content in contents:
        subject = re.search(rb"(?m)^Subject: (\S+)", content)
        assert subject, content[:1000]
        name = subject.group(1).decode()
        assert name not in found, f"{name} is stored twice"
        found[name] = content
    return found
