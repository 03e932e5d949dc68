"""Real mail that flows while something else is tried: by SMTP, a connection a message, and by files dropped; counted.

A message counts as sent once it was acknowledged, or its file was whole in the drop box. One whose fate the client
never learned (the connection broke after its end) may come or not, but only once. Where there is a sink, every other
file is for elsewhere, and goes there through `relay`.
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

from mailsrv.store.ledger import Reader
from mailsrv.work.sink import Sink

PAUSE: Final = 0.05  # seconds between two messages of a sender
SENDERS: Final = 3
PATIENCE: Final = 30.0  # seconds that a client waits for an answer
HEAD_OCTETS: Final = 4096
POLL: Final = 0.05
ELSEWHERE: Final = "elsewhere.invalid"  # a name that is nobody's, for ever
_SUBJECT: Final = re.compile(rb"^Subject: drill (\S+)", re.M)


@dataclass(frozen=True, slots=True)
class Tally:
    """What has become of the messages so far; all but `refused` (connections) and `delayed` (4xx) are messages.

    `in_doubt` have come twice at the next host, as the books say that they may.
    """

    sent: int
    lost: int
    doubled: int
    in_doubt: int
    refused: int
    delayed: int


@dataclass(frozen=True, slots=True)
class Onward:
    """Where mail for elsewhere comes to, and the folder of the books, which say what may have gone there twice."""

    sink: Sink
    books: Path


class Flow:
    """`recipient` has its mailbox at `maildir`, and is the sender as well; `spool` is the drop box."""

    def __init__(
        self, address: str, port: int, spool: Path, maildir: Path, recipient: str, onward: Onward | None = None
    ) -> None:
        self._address, self._port = address, port
        self._spool = spool
        self._maildir = maildir
        self._recipient = recipient
        self._onward = onward
        self._numbers = itertools.count(1)
        self._run = f"{time.time_ns():x}"
        self._lock = threading.Lock()
        self._sent: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._delivered: dict[str, str] = {}  # which message a file of the mailbox is, by the file's unique name
        self._flowing = threading.Event()
        self._ended = threading.Event()
        self._active = 0  # messages that are being sent
        self._is_remote_next = False
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

    def stop(self, seconds: float = PATIENCE) -> None:
        """End; what is being sent is waited for, at most so long."""
        self._ended.set()
        self._flowing.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

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
        """Whether a message that is sent now comes through within so long; a client tries until it is taken.

        Where there is a sink, one for elsewhere has to as well.
        """
        deadline = time.monotonic() + seconds
        names: set[str] = set()
        if self._onward is not None and (dropped := self._drop(is_remote=True)):
            names.add(dropped)
        while time.monotonic() < deadline:
            name = self._name()
            if self._send(name):
                return self._have_come(names | {name}, deadline)
            time.sleep(POLL)
        return False

    def _have_come(self, names: set[str], deadline: float) -> bool:
        while time.monotonic() < deadline:
            if names <= set(self._names()):
                return True
            time.sleep(POLL)
        return False

    def tally(self) -> Tally:
        """As things are; what has not come yet counts as lost, so `settle` first."""
        twice = {name for name, number in Counter(self._delivered_here()).items() if number > 1}
        sent_on = {name for name, number in Counter(self._sent_on()).items() if number > 1}
        in_doubt = sent_on & self._in_doubt() if sent_on else set()
        doubled = len(twice | (sent_on - in_doubt))
        with self._lock:
            lost = len(self._sent - set(self._names()))
            counts = self._counts
            return Tally(len(self._sent), lost, doubled, len(in_doubt), counts["refused"], counts["delayed"])

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
        self._is_remote_next = self._onward is not None and not self._is_remote_next
        self._drop(is_remote=self._is_remote_next)

    def _drop(self, *, is_remote: bool) -> str:
        """A file for the drop box; gives its name, or nothing where it could not be made."""
        name = self._name()
        draft = self._spool / f".drill-{name}.tmp"
        recipient = f"{name}@{ELSEWHERE}" if is_remote else self._recipient
        with contextlib.suppress(OSError):  # the disk is full, or the folder gone: nothing was promised
            draft.write_bytes(self._content(name, recipient))
            draft.replace(self._spool / f"drill-{name}.eml")
            self._note_sent(name)
            return name
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        return ""

    def _send(self, name: str) -> bool:
        try:
            with contextlib.closing(smtplib.SMTP(self._address, self._port, timeout=PATIENCE)) as client:
                client.sendmail(self._recipient, [self._recipient], self._content(name, self._recipient))
                self._note_sent(name)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    client.quit()
                return True
        except ConnectionRefusedError:
            self._count("refused")
        except (smtplib.SMTPException, OSError, socket.gaierror):
            self._count("delayed")
        return False

    def _content(self, name: str, recipient: str) -> bytes:
        head = f"From: {self._recipient}\r\nTo: {recipient}\r\nSubject: drill {name}\r\n"
        return f"{head}\r\nbody\r\n".encode()

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
        """All that have come."""
        return self._delivered_here() + self._sent_on()

    def _sent_on(self) -> list[str]:
        """The messages at the sink."""
        taken = self._onward.sink.taken() if self._onward is not None else []
        return [name for name in taken if name.startswith(self._run)]

    def _in_doubt(self) -> set[str]:
        """The messages of which `relay` did not learn what became of them at the next host."""
        lines = Reader(self._onward.books).read() if self._onward is not None else ()
        return {each.partition("@")[0] for line in lines if line.get("in_doubt") for each in line["to"]}

    def _delivered_here(self) -> list[str]:
        """The messages in the mailbox, each file of it read once."""
        found = []
        for path in (*(self._maildir / "new").glob("*"), *(self._maildir / "cur").glob("*")):
            unique = path.name.partition(":")[0]
            if unique not in self._delivered:
                try:
                    with path.open("rb") as file:
                        match = _SUBJECT.search(file.read(HEAD_OCTETS).partition(b"\n\n")[0])  # a report quotes it
                except OSError:  # moved meanwhile
                    continue
                self._delivered[unique] = match[1].decode("ascii", "replace") if match else ""
            found.append(self._delivered[unique])
        return [name for name in found if name.startswith(self._run)]
