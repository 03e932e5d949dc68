"""Deciding the spool: what lies in `new/`, and what in `deferred/` is due, in batches, in order of arrival."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.store.batch import Plan
from mailsrv.store.entry import FormatError
from mailsrv.store.heartbeat import Fact
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.attempt import Written
from mailsrv.work.books import Books
from mailsrv.work.carry import Carried, Carrier
from mailsrv.work.plan import Planner
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

BATCH: Final = 64  # entries made durable together
FAULT_PAUSE: Final = 5.0  # seconds until an entry is tried again that could not even be deferred


class Decider:
    """Decides entries until none is left that can be decided now."""

    def __init__(
        self, config: Config, spool: Spool, directory: Directory, ledger: Ledger, beat: Callable[[str], None]
    ) -> None:
        self._spool = spool
        self._planner = Planner(config, spool, directory)
        self._books = Books(ledger, spool)
        self._carrier = Carrier(config.delivery, spool, self._books)
        self._beat = beat
        self._due: dict[EntryId, float] = {}  # deferred entries, by the time (since 1970) of the next attempt
        self._faulty: dict[EntryId, float] = {}  # entries to be let be until then (monotonic)
        self._suspects: set[EntryId] = set()  # an earlier attempt may have delivered parts of them
        self._deferred_changed = 0  # the folder's mtime, in ns, when it was last listed
        self._is_stopping = False
        self._worst_wait = 0.0
        self.progress = 0

    def stop(self) -> None:
        """End after the batch in hand."""
        self._is_stopping = True

    def recover(self) -> None:
        """Finish what an earlier process began, and learn what waits; raises OSError."""
        self._carrier.recover()
        self._suspects = set(self._spool.entries(State.NEW))
        self.relearn()

    def relearn(self) -> None:
        """Learn what waits in `deferred/`, if anything there has changed by whomever; raises OSError."""
        changed = self._spool.folder(State.DEFERRED).stat().st_mtime_ns
        if changed == self._deferred_changed:
            return
        waiting = self._spool.entries(State.DEFERRED)
        for entry_id in waiting:
            if entry_id not in self._due:
                retry = read_retry(self._spool.retry_path(entry_id))
                self._due[entry_id] = retry.due if retry else 0.0
        for entry_id in self._due.keys() - set(waiting):
            del self._due[entry_id]
        self._deferred_changed = changed

    def decide(self) -> None:
        """Decide everything that can be decided now; raises OSError where the spool itself is out of reach."""
        new = [(State.NEW, entry_id) for entry_id in self._spool.entries(State.NEW)]
        due = [(State.DEFERRED, entry_id) for entry_id, when in self._due.items() if when <= time.time()]
        now = time.monotonic()
        self._faulty = {entry_id: until for entry_id, until in self._faulty.items() if until > now}
        todo = [(state, entry_id) for state, entry_id in (*new, *due) if entry_id not in self._faulty]
        for start in range(0, len(todo), BATCH):
            if self._is_stopping:
                return
            self._decide_batch(todo[start : start + BATCH])

    def seconds_until_due(self) -> float:
        """Seconds until a deferred or faulty entry is to be tried again."""
        # What is let be is not due before its pause has ended, or we would turn in circles until then.
        due = (when for entry_id, when in self._due.items() if entry_id not in self._faulty)
        deferred = min(due, default=float("inf")) - time.time()
        return min(deferred, min(self._faulty.values(), default=float("inf")) - time.monotonic())

    def facts(self) -> dict[str, Fact]:
        """For the heartbeat; `worst_wait` is the longest that an entry lay in `new/` before it was decided, in s."""
        return {"decided": self.progress, "deferred": len(self._due), "worst_wait": round(self._worst_wait, 3)}

    def _decide_batch(self, batch: Sequence[tuple[State, EntryId]]) -> None:
        self._beat(" ".join(entry_id for _, entry_id in batch))
        planned = [self._plan(state, entry_id) for state, entry_id in batch]
        ready = [each for each in planned if each is not None]
        try:
            carried = self._carrier.carry(ready)
        except OSError as error:
            for plan, _ in ready:
                self._let_be(plan.entry_id, error)
            return
        for each in carried:
            self._note(each)
        self._measure_wait(batch)

    def _note(self, carried: Carried) -> None:
        self.progress += 1
        if carried.error is not None:
            self._let_be(carried.entry_id, carried.error)
            return
        self._suspects.discard(carried.entry_id)
        self._due.pop(carried.entry_id, None)
        if carried.due is not None:
            self._due[carried.entry_id] = carried.due

    def _plan(self, state: State, entry_id: EntryId) -> tuple[Plan, list[Written]] | None:
        is_suspect = state is State.DEFERRED or entry_id in self._suspects
        try:
            return self._planner.plan(state, entry_id, is_suspect=is_suspect)
        except FileNotFoundError:  # a person took it away
            self._due.pop(entry_id, None)
        except FormatError as error:
            self._hold(state, entry_id, str(error))
        except OSError as error:
            self._let_be(entry_id, error)
        except Exception as error:  # a fault of ours with one entry must not stand in the way of the others
            logger.exception("%s cannot be decided", entry_id)
            self._hold(state, entry_id, f"a fault of mailsrv with this message: {error!r}")
        return None

    def _hold(self, state: State, entry_id: EntryId, reason: str) -> None:
        logger.error("%s held: %s", entry_id, reason)
        try:
            self._books.write([line(Kind.HELD, entry_id, why=reason)])
            self._spool.hold(state, entry_id, reason)
            self._due.pop(entry_id, None)
        except OSError as error:
            self._let_be(entry_id, error)

    def _let_be(self, entry_id: EntryId, error: OSError) -> None:
        """Not even a deferral could be written: it stays where it is, and is tried again."""
        logger.warning("%s cannot be worked on now: %s", entry_id, error.strerror)
        self._suspects.add(entry_id)
        self._faulty[entry_id] = time.monotonic() + FAULT_PAUSE

    def _measure_wait(self, batch: Sequence[tuple[State, EntryId]]) -> None:
        waits = [time.time() - arrival_of(entry_id).timestamp() for state, entry_id in batch if state is State.NEW]
        self._worst_wait = max([self._worst_wait, *waits])
