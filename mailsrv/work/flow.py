"""Real mail that flows while something else is tried: by SMTP, a connection a message, and by files dropped; counted.

A message counts as sent once it was acknowledged, or its file was whole in the drop box. One whose fate the client
never learned (the connection broke after its end) may come or not, but only once.
"""

import contextlib
import itertools
import re
import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAUSE: Final = 0.05  # seconds between two messages of a sender
SENDERS: Final = 3
PATIENCE: Final = 30.0  # seconds that a client waits for an answer
HEAD_OCTETS: Final = 4096
POLL: Final = 0.05
_SUBJECT: Final = re.compile(rb"^Subject: drill (\S+)", re.M)


@dataclass(frozen=True, slots=True)
class Tally:
    """What has become of the messages so far; all but `refused` (connections) and `delayed` (4xx) are messages."""

    sent: int
    lost: int
    doubled: int
    refused: int
    delayed: int


class Flow:
    """`recipient` has its mailbox at `maildir`; `spool` is the drop box."""

    def __init__(self, address: str, port: int, spool: Path, maildir: Path, recipient: str) -> None:
        self._address, self._port = address, port
        self._spool = spool
        self._maildir = maildir
        self._recipient = recipient
        self._numbers = itertools.count(1)
        self._run = f"{time.time_ns():x}"
        self._lock = threading.Lock()
        self._sent: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._delivered: dict[str, str] = {}  # which message a file of the mailbox is, by the file's unique name
        self._flowing = threading.Event()
        self._ended = threading.Event()
        self._active = 0  # messages that are being sent
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to flow."""
        self._flowing.set()
        works = [self._send_one] * SENDERS + [self._drop_one]
        self._threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Begin no more messages for now."""
        self._flowing.clear()

    def resume(self) -> None:
        """Go on."""
        self._flowing.set()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        self._flowing.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def settle(self, seconds: float) -> bool:
        """Pause, and wait until everything that was sent has come, at most so long; says whether it has."""
        self.pause()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self._active and not self._missing():
                return True
            time.sleep(POLL)
        return False

    def comes_through(self, seconds: float) -> bool:
        """Whether a message that is sent now comes through within so long; a client tries until it is taken."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            name = self._name()
            if self._send(name):
                while time.monotonic() < deadline:
                    if name in self._names():
                        return True
                    time.sleep(POLL)
            time.sleep(POLL)
        return False

    def tally(self) -> Tally:
        """As things are; what has not come yet counts as lost, so `settle` first."""
        names = Counter(self._names())
        doubled = sum(number > 1 for number in names.values())
        with self._lock:
            counts = self._counts
            lost = len(self._sent - set(names))
            return Tally(len(self._sent), lost, doubled, counts["refused"], counts["delayed"])

    def _repeat(self, work: Callable[[], object]) -> None:
        while not self._ended.is_set():
            self._flowing.wait()
            with self._lock:
                self._active += 1
            if self._flowing.is_set() and not self._ended.is_set():
                work()
            with self._lock:
                self._active -= 1
            time.sleep(PAUSE)

    def _send_one(self) -> None:
        self._send(self._name())

    def _drop_one(self) -> None:
        name = self._name()
        draft = self._spool / f".drill-{name}.tmp"
        with contextlib.suppress(OSError):  # the disk is full, or the folder gone: nothing was promised
            draft.write_bytes(self._content(name))
            draft.replace(self._spool / f"drill-{name}.eml")
            self._note_sent(name)
            return
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)

    def _send(self, name: str) -> bool:
        try:
            with contextlib.closing(smtplib.SMTP(self._address, self._port, timeout=PATIENCE)) as client:
                client.sendmail("drill@example.org", [self._recipient], self._content(name))
                self._note_sent(name)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    client.quit()
                return True
        except ConnectionRefusedError:
            self._count("refused")
        except (smtplib.SMTPException, OSError, socket.gaierror):
            self._count("delayed")
        return False

    def _content(self, name: str) -> bytes:
        return f"From: drill@example.org\r\nTo: {self._recipient}\r\nSubject: drill {name}\r\n\r\nbody\r\n".encode()

    def _name(self) -> str:
        return f"{self._run}-{next(self._numbers)}"

    def _note_sent(self, name: str) -> None:
        with self._lock:
            self._sent.add(name)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _missing(self) -> set[str]:
        names = set(self._names())
        with self._lock:
            return self._sent - names

    def _names(self) -> list[str]:
        """The messages in the mailbox, each file of it read once."""
        found = []
        for path in (*(self._maildir / "new").glob("*"), *(self._maildir / "cur").glob("*")):
            unique = path.name.partition(":")[0]
            if unique not in self._delivered:
                try:
                    with path.open("rb") as file:
                        match = _SUBJECT.search(file.read(HEAD_OCTETS))
                except OSError:  # moved meanwhile
                    continue
                self._delivered[unique] = match[1].decode("ascii", "replace") if match else ""
            found.append(self._delivered[unique])
        return [name for name in found if name.startswith(self._run)]
