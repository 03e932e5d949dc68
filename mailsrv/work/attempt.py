"""An entry while it is being decided: what is known of it, what has been written for it, what becomes of whom."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from mailsrv.model.envelope import Arrival, Recipient, Sender
from mailsrv.model.failure import reply_to
from mailsrv.model.identity import EntryId, arrival_of, derived_id
from mailsrv.model.reply import Reply
from mailsrv.store import durable
from mailsrv.store.batch import Step
from mailsrv.store.durable import Draft
from mailsrv.store.entry import Block
from mailsrv.store.retry import DONE, WAITING, Fate, Retry, waiting_after
from mailsrv.store.spool import State
from mailsrv.work.octets import no_tick, pieces_of

MAX_HEADER: Final = 64 * 1024  # octets of a header that are looked at, and returned in a report


@dataclass(slots=True)
class Written:
    """The drafts of a plan that still have to be settled, each with the steps that hang on it."""

    draft: Draft
    steps: list[Step]


@dataclass(slots=True)
class Attempt:
    """One attempt at an entry; the fates are keyed by destination."""

    entry_id: EntryId
    state: State
    file: BinaryIO
    block: Block
    retry: Retry
    is_suspect: bool  # an earlier attempt may have delivered parts of it
    tick: Callable[[], None] = no_tick  # called for each piece that is read
    written: list[Written] = field(default_factory=list)
    fates: dict[str, Fate] = field(default_factory=dict)
    waiting: dict[str, Reply] = field(default_factory=dict)  # destinations that wait, and why
    about: dict[str, Any] = field(default_factory=dict)  # for the books
    _header: bytes | None = None

    def __post_init__(self) -> None:
        # What is done stays done, also while a broken file hides that anything leads there.
        self.fates |= {key: fate for key, fate in self.retry.destinations.items() if self.retry.is_done(key)}

    @property
    def sender(self) -> Sender:
        return self.block.envelope.sender

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        return self.block.envelope.recipients

    @property
    def arrival(self) -> Arrival:
        return self.block.arrival or Arrival(arrival_of(self.entry_id), "drop")

    @property
    def octets(self) -> int:
        """Of the message, on the wire."""
        return self.file.seek(0, os.SEEK_END) - self.block.length

    @property
    def header(self) -> bytes:
        """The octets before the empty line, as far as they are looked at, without their last line end."""
        if self._header is None:
            self.file.seek(self.block.length)
            self._header = self.file.read(MAX_HEADER).partition(b"\r\n\r\n")[0]
        return self._header

    @property
    def has_whole_header(self) -> bool:
        """Whether `header` is all of it."""
        return len(self.header) < MAX_HEADER

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The message, from its beginning or from an octet of it on."""
        self.file.seek(self.block.length + start)
        return pieces_of(self.file, self.tick)

    def derived_id(self, word: str) -> EntryId:
        """The id of what this attempt leads to: a later one may lead to more, while this is still on its way."""
        return derived_id(self.entry_id, word, self.retry.attempts)

    def has_yet_to_serve(self, destination: str) -> bool:
        return destination not in self.fates

    def serve(self, destinations: Iterable[str], kind: str = "", how: str = "") -> None:
        """Nothing more is to be done for these; `kind` and `how` are what the books say of it."""
        self.fates |= dict.fromkeys(destinations, Fate(DONE, how, kind))

    def served(self) -> set[str]:
        """The destinations that are served, or will be once the plan is carried out."""
        done = {key for key, fate in self.fates.items() if fate.state == DONE}
        return done.union(*(step.destinations for written in self.written for step in written.steps))

    def give_up(self, destination: str) -> None:
        """It waits no more."""
        self.fates.pop(destination, None)
        self.waiting.pop(destination, None)

    def restate(self) -> None:
        """What waits is what the last attempt has left, and why."""
        for destination, fate in self.retry.waiting().items():
            self.wait_because(destination, fate.reply())
            self.fates[destination] = fate

    def wait_for(self, destinations: Iterable[str], error: OSError) -> None:
        """A fault of ours: these wait for the next attempt."""
        for destination in destinations:
            self.fates[destination] = waiting_after(error)
            self.waiting[destination] = reply_to(error)

    def wait_because(self, destination: str, reason: Reply, where: str = "") -> None:
        """It cannot be served now, and may be later; `where` is for ourselves."""
        self.fates[destination] = Fate(WAITING, f"{reason} ({where})" if where else str(reason))
        self.waiting[destination] = reason

    def plan_draft(self, draft: Draft, write: Callable[[Draft], None], step: Step) -> None:
        """Write the draft of a step; where that fails, its destinations wait."""
        try:
            write(draft)
            draft.flush()
        except BaseException as error:
            draft.abort()
            if not isinstance(error, OSError):
                raise
            self.wait_for(step.destinations, error)
            return
        self.written.append(Written(draft, [step]))

    def discard(self) -> None:
        """Leave nothing in the Maildirs of a plan that broke off."""
        for each in self.written:
            each.draft.close()
            durable.forget([step.move.draft for step in each.steps])


def letters(key: str) -> str:
    """What tells apart the entries that one attempt makes: the same for the same key, and letters only."""
    digest = hashlib.sha256(key.encode()).digest()[:8] if key else b""
    return "".join(chr(ord("a") + octet % 26) for octet in digest)
