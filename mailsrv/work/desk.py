"""What delivery and the relay do alike with entries: plan, carry out, schedule anew, hold, and go on where one died.

Each has a desk of its own, with its own drafts, batch and turns at the spool: neither waits for the other.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.store.batch import Plan
from mailsrv.store.entry import FormatError
from mailsrv.store.heartbeat import BEAT_INTERVAL
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.retry import Retry, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.store.turns import Turns
from mailsrv.work.attempt import Written
from mailsrv.work.books import Books
from mailsrv.work.carry import Carried, Carrier
from mailsrv.work.hand import Hand
from mailsrv.work.planning import Planning
from mailsrv.work.schedule import Schedule

logger = logging.getLogger(__name__)

BATCH: Final = 64  # entries made durable together
FAULT_PAUSE: Final = 5.0  # seconds until an entry is tried again that could not even be deferred
SETTLED_NS: Final = 2_500_000_000  # a folder that has not changed for so long tells of its next change: any clock ticks
UNSETTLED: Final = -1  # in place of the time of a folder
SLOW_LISTING: Final = 0.02  # seconds
REST: Final = 20
LONGEST_REST: Final = 5.0  # seconds

Planned = tuple[Plan, list[Written]]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose desk it is: its supervisor name, the state in which its entries wait, the locks by which it has turns."""

    program: str
    waits_in: State
    turns: Path


class Desk:
    """The entries of one program."""

    def __init__(
        self, config: Config, owner: Owner, spool: Spool, planner: Planning, ledger: Ledger, beat: Callable[[str], None]
    ) -> None:
        self._spool = spool
        self._planner = planner
        self._books = Books(ledger, spool)
        self._carrier = Carrier(config.delivery, spool, self._books)
        self._turns = Turns(owner.turns)
        self._waits_in = owner.waits_in
        self.hand = Hand(config, spool, ledger, owner.program)
        self._beat = beat
        self._in_hand = ""
        self._beaten = 0.0  # when that was last told (monotonic)
        self._schedule = Schedule(self._sidecar_of, max(config.delivery.retry_after))
        self._faulty: dict[EntryId, float] = {}  # entries of `new/` to be let be until then (monotonic)
        self._suspects: set[EntryId] = set()  # an earlier attempt may have delivered parts of them
        self._finish_at = 0.0  # when what is unfinished is tried again (monotonic)
        self._waiting_changed = UNSETTLED  # the mtime of the folder of what waits, in ns, when it was last listed
        self._list_again_at = float("-inf")  # not before (monotonic)
        self._is_stopping = False
        self.progress = 0
        self.ticks = 0  # pieces of messages

    def stop(self) -> None:
        """End after the batch in hand."""
        self._is_stopping = True

    def recover(self) -> None:
        """Finish what an earlier process began, and learn what waits; raises OSError."""
        self.hand.recover()
        with self._ours():
            for each in self._carrier.recover():
                self._note(each)
        self.relearn()

    def relearn(self) -> None:
        """Learn what waits, if anything there has changed by whomever; raises OSError.

        A folder that takes long to list, and changes all the time, is listed again only after REST times as long.
        """
        now = time.monotonic()
        changed = self._spool.folder(self._waits_in).stat().st_mtime_ns
        if changed == self._waiting_changed or now < self._list_again_at:
            return
        # What comes in the same tick of the clock as this listing, and after it, does not change the time once more.
        is_settled = abs(time.time_ns() - changed) > SETTLED_NS
        self._schedule.learn(self._spool.entries(self._waits_in))
        self._waiting_changed = changed if is_settled else UNSETTLED
        taken = time.monotonic() - now
        self._list_again_at = now + min(LONGEST_REST, taken * REST) if taken > SLOW_LISTING else now

    def seconds_until_due(self) -> float:
        """Seconds until an entry that waits, or a faulty one, is to be tried again."""
        faulty = min(self._faulty.values(), default=float("inf"))
        unfinished = self._finish_at if self._carrier.unfinished else float("inf")
        return min(self._schedule.seconds_until_due(), min(faulty, unfinished) - time.monotonic())

    def tick(self) -> None:
        """A piece of a message was read, here or in the drop box: a large one must not look like a standstill."""
        self.ticks += 1
        if time.monotonic() - self._beaten > BEAT_INTERVAL:
            self._beaten = time.monotonic()
            self._beat(self._in_hand)

    def _sidecar_of(self, entry_id: EntryId) -> Retry | None:
        """One that cannot be read is no reason to forget the entry: it is due, and the attempt tells what is wrong."""
        with contextlib.suppress(OSError):
            return read_retry(self._spool.retry_path(entry_id, self._waits_in))
        return None

    def _ours(self) -> AbstractContextManager[None]:
        """The spool's entries are ours to move; a command that has them is waited for, and shows in the heartbeat."""
        return self._turns.taken(float("inf"), lambda: self._beat("waiting for a command that has the spool"))

    @contextlib.contextmanager
    def _working_on(self, entry_ids: Sequence[EntryId]) -> Iterator[None]:
        """Within, entries that were due are worked on; where the disk breaks that off, they are due again."""
        try:
            yield
        except OSError:
            self._give_back(entry_ids)
            raise

    def _give_back(self, entry_ids: Sequence[EntryId]) -> None:
        self._schedule.give_back(entry_ids, FAULT_PAUSE)

    def _look_again(self) -> None:
        """Do at once what a command has asked for."""
        if self._spool.is_asked_again():
            with self._ours():
                for entry_id in self._spool.asked_again():
                    self._schedule.look_again(entry_id)
                    self._suspects.add(entry_id)  # who knows what was done of it before it was held

    def _settle(self, batch: Sequence[tuple[State, EntryId]]) -> None:
        """Plan these, carry it out, and tell the senders of what was tried in vain for long."""
        self._in_hand = " ".join(entry_id for _, entry_id in batch)
        self._beat(self._in_hand)
        self._beaten = time.monotonic()
        with self._ours():
            planned = [self._plan(state, entry_id) for state, entry_id in batch]
            self.hand.empty()
            ready = [each for each in planned if each is not None]
            carried = self._carry(ready)
            self._planner.settle(_unserved(ready, carried))
            for each in carried:
                self._note(each)
            self._carry([plan for each in carried if (plan := self._overdue(each)) is not None])

    def _carry(self, ready: list[Planned]) -> list[Carried]:
        try:
            return self._carrier.carry(ready)
        except OSError as error:
            for plan, _ in ready:
                self._let_be(plan.state, plan.entry_id, error)
            return []

    def _note(self, carried: Carried) -> None:
        self.progress += 1
        self.hand.forgive(carried.entry_id)
        if carried.error is not None:
            logger.warning("%s cannot be retired now: %s", carried.entry_id, carried.error.strerror)
            self._finish_at = time.monotonic() + FAULT_PAUSE
            return
        self._suspects.discard(carried.entry_id)
        self._schedule.forget(carried.entry_id)
        if carried.retry is not None:
            self._schedule.defer(carried.entry_id, carried.pause)

    def _overdue(self, carried: Carried) -> Planned | None:
        """A plan for what the sender is to be told of an entry that was tried in vain, if there is anything."""
        if carried.retry is None:
            return None
        try:
            return self._planner.plan_overdue(self._waits_in, carried.entry_id)
        except (OSError, FormatError) as error:  # it waits on, and is asked again after the next attempt
            logger.warning("%s: its sender cannot be told now: %s", carried.entry_id, error)
            return None

    def _finish(self) -> None:
        if self._carrier.unfinished and time.monotonic() >= self._finish_at:
            with self._ours():
                for each in self._carrier.finish():
                    self._note(each)

    def _plan(self, state: State, entry_id: EntryId) -> Planned | None:
        is_suspect = state.has_sidecar or entry_id in self._suspects
        try:
            if poison := self.hand.take(entry_id):
                self._hold(state, entry_id, poison)
                return None
            return self._planner.plan(state, entry_id, is_suspect=is_suspect, pause=self._schedule.waited(entry_id))
        except FileNotFoundError:  # a person took it away
            self._schedule.forget(entry_id)
        except FormatError as error:
            self._hold(state, entry_id, str(error))
        except OSError as error:
            self._let_be(state, entry_id, error)
        except Exception as error:  # a fault of ours with one entry must not stand in the way of the others
            logger.exception("%s cannot be decided", entry_id)
            self._hold(state, entry_id, f"a fault of mailsrv with this message: {error!r}")
        return None

    def _hold(self, state: State, entry_id: EntryId, reason: str) -> None:
        logger.error("%s held: %s", entry_id, reason)
        try:
            self._books.write([line(Kind.HELD, entry_id, why=reason)])
            self._spool.hold(state, entry_id, reason)
            self._schedule.forget(entry_id)
            self.hand.forgive(entry_id)
        except OSError as error:
            self._let_be(state, entry_id, error)

    def _let_be(self, state: State, entry_id: EntryId, error: OSError) -> None:
        """Not even a deferral could be written: it stays where it is, and is tried again."""
        logger.warning("%s cannot be worked on now: %s", entry_id, error.strerror)
        if state is self._waits_in:
            self._schedule.let_be(entry_id, FAULT_PAUSE)
        else:
            self._suspects.add(entry_id)
            self._faulty[entry_id] = time.monotonic() + FAULT_PAUSE


def _unserved(ready: Sequence[Planned], carried: Sequence[Carried]) -> frozenset[str]:
    """The destinations that were not served, or of which that is not known."""
    known = {each.entry_id for each in carried if each.error is None}
    keys = {key for each in carried if each.retry is not None for key in each.retry.waiting()}
    for plan, _ in ready:
        if plan.entry_id not in known:
            keys.update(*(step.destinations for step in plan.steps))
    return frozenset(keys)
