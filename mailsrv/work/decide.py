"""Deciding the spool: what lies in `new/`, and what in `deferred/` is due, in batches, in order of arrival."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.store.batch import Plan
from mailsrv.store.entry import FormatError
from mailsrv.store.heartbeat import BEAT_INTERVAL, Fact
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.store.turns import Turns
from mailsrv.work.attempt import Written
from mailsrv.work.books import Books
from mailsrv.work.carry import Carried, Carrier
from mailsrv.work.hand import Hand
from mailsrv.work.plan import Planner
from mailsrv.work.routing import Directory
from mailsrv.work.schedule import Schedule
from mailsrv.work.waits import Waits

logger = logging.getLogger(__name__)

BATCH: Final = 64  # entries made durable together
FAULT_PAUSE: Final = 5.0  # seconds until an entry is tried again that could not even be deferred


class Decider:
    """Decides entries until none is left that can be decided now."""

    def __init__(
        self, config: Config, spool: Spool, directory: Directory, ledger: Ledger, beat: Callable[[str], None]
    ) -> None:
        self._spool = spool
        self._planner = Planner(config, spool, directory, self.tick)
        self._books = Books(ledger, spool)
        self._carrier = Carrier(config.delivery, spool, self._books)
        self._turns = Turns(config.turns)
        self.hand = Hand(config, spool, ledger)
        self._beat = beat
        self._in_hand = ""
        self._beaten = 0.0  # when that was last told (monotonic)
        self._schedule = Schedule(
            lambda entry_id: read_retry(spool.retry_path(entry_id)), max(config.delivery.retry_after)
        )
        self._waits = Waits(config.worst_wait)
        self._faulty: dict[EntryId, float] = {}  # entries of `new/` to be let be until then (monotonic)
        self._suspects: set[EntryId] = set()  # an earlier attempt may have delivered parts of them
        self._finish_at = 0.0  # when what is unfinished is tried again (monotonic)
        self._deferred_changed = 0  # the folder's mtime, in ns, when it was last listed
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
        self._suspects = set(self._spool.entries(State.NEW))
        self.relearn()

    def relearn(self) -> None:
        """Learn what waits in `deferred/`, if anything there has changed by whomever; raises OSError."""
        changed = self._spool.folder(State.DEFERRED).stat().st_mtime_ns
        if changed != self._deferred_changed:
            self._schedule.learn(self._spool.entries(State.DEFERRED))
            self._deferred_changed = changed

    def decide(self) -> None:
        """Decide everything new, and some of what is due; raises OSError where the spool itself is out of reach."""
        if self._spool.is_asked_again():
            with self._ours():
                for entry_id in self._spool.asked_again():
                    self._schedule.look_again(entry_id)
        self._schedule.read_some()
        new = self._spool.entries(State.NEW)
        self._waits.look(new)
        self._finish()
        now = time.monotonic()
        self._faulty = {entry_id: until for entry_id, until in self._faulty.items() if until > now}
        todo = [(State.NEW, each) for each in new if each not in self._faulty and each not in self._carrier.unfinished]
        for start in range(0, len(todo), BATCH):
            if self._is_stopping:
                return
            self._decide_batch(todo[start : start + BATCH])
        # One batch of these, then what is new again: however many are due, new mail does not wait for them.
        due = [each for each in self._schedule.take(BATCH) if each not in self._carrier.unfinished]
        if due and not self._is_stopping:
            self._decide_batch([(State.DEFERRED, entry_id) for entry_id in due])

    def seconds_until_due(self) -> float:
        """Seconds until a deferred or faulty entry is to be tried again."""
        faulty = min(self._faulty.values(), default=float("inf"))
        unfinished = self._finish_at if self._carrier.unfinished else float("inf")
        return min(self._schedule.seconds_until_due(), min(faulty, unfinished) - time.monotonic())

    def facts(self) -> dict[str, Fact]:
        """For the heartbeat; `oldest` and `worst_wait` in seconds: how long entries lie in `new/`, now and ever."""
        return {
            "decided": self.progress,
            "deferred": len(self._schedule),
            "oldest": round(self._waits.oldest(), 3),
            "worst_wait": round(self._waits.worst, 3),
        }

    def _ours(self) -> AbstractContextManager[None]:
        """The spool's entries are ours to move; a command that has them is waited for, and shows in the heartbeat."""
        return self._turns.taken(float("inf"), lambda: self._beat("waiting for a command that has the spool"))

    def _decide_batch(self, batch: Sequence[tuple[State, EntryId]]) -> None:
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
        self._waits.decided(entry_id for state, entry_id in batch if state is State.NEW)

    def tick(self) -> None:
        """A piece of a message was read, here or in the drop box: a large one must not look like a standstill."""
        self.ticks += 1
        if time.monotonic() - self._beaten > BEAT_INTERVAL:
            self._beaten = time.monotonic()
            self._beat(self._in_hand)

    def _carry(self, ready: list[tuple[Plan, list[Written]]]) -> list[Carried]:
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

    def _overdue(self, carried: Carried) -> tuple[Plan, list[Written]] | None:
        """A plan for what the sender is to be told of an entry that was tried in vain, if there is anything."""
        if carried.retry is None:
            return None
        try:
            return self._planner.plan_overdue(carried.entry_id)
        except (OSError, FormatError) as error:  # it waits on, and is asked again after the next attempt
            logger.warning("%s: its sender cannot be told now: %s", carried.entry_id, error)
            return None

    def _finish(self) -> None:
        if self._carrier.unfinished and time.monotonic() >= self._finish_at:
            with self._ours():
                for each in self._carrier.finish():
                    self._note(each)

    def _plan(self, state: State, entry_id: EntryId) -> tuple[Plan, list[Written]] | None:
        is_suspect = state is State.DEFERRED or entry_id in self._suspects
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
        if state is State.DEFERRED:
            self._schedule.let_be(entry_id, FAULT_PAUSE)
        else:
            self._suspects.add(entry_id)
            self._faulty[entry_id] = time.monotonic() + FAULT_PAUSE


def _unserved(ready: Sequence[tuple[Plan, list[Written]]], carried: Sequence[Carried]) -> frozenset[str]:
    """The destinations that were not served, or of which that is not known."""
    known = {each.entry_id for each in carried if each.error is None}
    keys = {key for each in carried if each.retry is not None for key in each.retry.waiting()}
    for plan, _ in ready:
        if plan.entry_id not in known:
            keys.update(*(step.destinations for step in plan.steps))
    return frozenset(keys)
