"""The messages that every client reads, and the mailbox that they lie in."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.clients import messages
from tests.clients.messages import Message, header
from tests.system.instance import Instance, wait_until

_LINES = {"long": (1_000, 2_000, 4_000, 8_000), "longest": (30_000, 60_000, 100_000)}  # octets; RFC 5321 knows 1,000


def make_mail() -> dict[str, Message]:
    """All messages, by name: those that clients send, and others that only a file or another server brings."""
    made = messages.make_messages()
    made["unfinished"] = Message("unfinished", header("unfinished") + b"Finished.\r\nThe last line has no end.")
    for name, lengths in _LINES.items():
        lines = (letter * (length // len(letter) - 2) + b"\r\n" for length in lengths for letter in (b"a", b".b"))
        made[name] = Message(name, header(name) + b"".join(lines))
    return made


def on_the_wire(message: Message) -> bytes:
    """The octets that RETR has to send: an unfinished line gets its end."""
    return message.content if message.content.endswith(b"\r\n") else message.content + b"\r\n"


@dataclass(frozen=True)
class Mailbox:
    """The Maildir of an instance's user; messages come in by other hands than ours, so that any octets can."""

    instance: Instance

    @property
    def path(self) -> Path:
        return self.instance.new_mail.parent

    def empty(self) -> None:
        """Leave nothing, of ours and of other programs, as after the first login."""
        owner = self.path.parent.stat()
        wait_until(self._is_removed, "nobody writes into the mailbox any more")
        for folder in (self.path, *(self.path / name for name in ("tmp", "new", "cur"))):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, owner.st_uid, owner.st_gid)

    def _is_removed(self) -> bool:
        shutil.rmtree(self.path, ignore_errors=True)  # Dovecot may still be writing its files
        return not self.path.exists()

    def put(self, mail: Iterable[Message]) -> None:
        """Bring messages, in this order; every second one without the sizes in its name that we would give it."""
        owner = self.path.stat()
        for number, message in enumerate(mail):
            size = f",S={len(message.lines)},W={len(message.content)}" if number % 2 else ""
            name = f"1700000000.M{number:06}_{message.name}.elsewhere{size}"
            draft = self.path / "tmp" / name
            draft.write_bytes(message.lines)
            os.chown(draft, owner.st_uid, owner.st_gid)
            draft.rename(self.path / "new" / name)

    def names(self) -> list[str]:
        """What is in it, by the file names."""
        return sorted(path.name for folder in ("new", "cur") for path in (self.path / folder).iterdir())
