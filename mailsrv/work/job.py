"""An entry on its way to other hosts: its message, shared by its transactions, and what has been heard of them."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from mailsrv.model.envelope import Arrival, Recipient, Sender
from mailsrv.model.identity import EntryId
from mailsrv.protocol.smtp_transaction import Content
from mailsrv.store.journal import Told
from mailsrv.work.attempt import MAX_HEADER

PIECE: Final = 256 * 1024  # octets of a chunk, and of what is in memory of a message


@dataclass(slots=True)
class Job:
    """One entry; the message begins `start` octets into the file. `left` transactions are still to be heard of."""

    entry_id: EntryId
    file: BinaryIO
    start: int
    sender: Sender
    arrival: Arrival | None = None
    left: int = 0
    told: dict[str, Told] = field(default_factory=dict)
    _front: bytes | None = None  # what goes before the message, once that is known
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sign(self, front: Callable[["Job"], bytes]) -> None:
        """Learn what goes before the message, if nobody has yet; raises what `front` raises."""
        with self._lock:
            if self._front is None:
                self._front = front(self)

    def pieces(self) -> Iterator[bytes]:
        """The message as it leaves; for any number of threads, each with its own place in the file."""
        if self._front:
            yield self._front
        yield from self.stored()

    def stored(self) -> Iterator[bytes]:
        """The message as it lies in the spool."""
        at = self.start
        while octets := os.pread(self.file.fileno(), PIECE, at):
            at += len(octets)
            yield octets

    def content(self) -> Content:
        """What a host must know of it beforehand."""
        header = os.pread(self.file.fileno(), MAX_HEADER, self.start).partition(b"\r\n\r\n")[0]
        octets, is_ascii = 0, True
        for piece in self.pieces():
            octets += len(piece)
            is_ascii = is_ascii and piece.isascii()
        return Content(octets, is_ascii, header.isascii())


@dataclass(frozen=True, slots=True)
class Errand:
    """What one destination is to take of a job: the recipients, by their destination in the books."""

    job: Job
    recipients: dict[str, Recipient]
