"""Deciding the spool: what lies in `new/`, and what in `deferred/` is due, in batches, in order of arrival."""

import time
from collections.abc import Callable, Sequence

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.store.heartbeat import Fact
from mailsrv.store.ledger import Ledger
from mailsrv.store.spool import Spool, State
from mailsrv.work.desk import BATCH, Desk, Owner
from mailsrv.work.plan import Planner
from mailsrv.work.routing import Directory
from mailsrv.work.waits import Waits


class Decider(Desk):
    """Decides entries until none is left that can be decided now."""

    def __init__(
        self, config: Config, spool: Spool, directory: Directory, ledger: Ledger, beat: Callable[[str], None]
    ) -> None:
        planner = Planner(config, spool, directory, self.tick)
        super().__init__(config, Owner("delivery", State.DEFERRED, config.turns), spool, planner, ledger, beat)
        self._waits = Waits(config.worst_wait)

    def recover(self) -> None:
        """Finish what an earlier process began, and learn what waits; raises OSError."""
        super().recover()
        self._suspects = set(self._spool.entries(State.NEW))

    def decide(self) -> None:
        """Decide everything new, and some of what is due; raises OSError where the spool itself is out of reach."""
        self._look_again()
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
            with self._working_on(due):
                self._decide_batch([(State.DEFERRED, entry_id) for entry_id in due])

    def facts(self) -> dict[str, Fact]:
        """For the heartbeat; `oldest` and `worst_wait` in seconds: how long entries lie in `new/`, now and ever."""
        return {
            "decided": self.progress,
            "deferred": len(self._schedule),
            "oldest": round(self._waits.oldest(), 3),
            "worst_wait": round(self._waits.worst, 3),
        }

    def _decide_batch(self, batch: Sequence[tuple[State, EntryId]]) -> None:
        self._settle(batch)
        self._waits.decided(entry_id for state, entry_id in batch if state is State.NEW)
