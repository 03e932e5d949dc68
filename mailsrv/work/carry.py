"""Carrying plans out: drafts on disk, batch file, renames, entries retired or deferred; and the same after a crash.

The order is what keeps the promises: nothing becomes visible before everything it stands for is on disk, and no
entry is retired before all that came of it is visible.
"""

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mailsrv.model.identity import EntryId
from mailsrv.settings import Delivery
from mailsrv.store import durable
from mailsrv.store.batch import Plan, Step, read_batch, write_batch
from mailsrv.store.durable import Outcome
from mailsrv.store.retry import DONE, SERVED, Fate, Retry, waiting_after, write_retry
from mailsrv.store.spool import Spool
from mailsrv.work.attempt import Written
from mailsrv.work.books import Books
from mailsrv.work.schedule import JITTER

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Carried:
    """What came of a plan: retired, or deferred for `pause` seconds, or not even that could be written."""

    entry_id: EntryId
    pause: float = 0.0
    retry: Retry | None = None
    error: OSError | None = None


class Carrier:
    """Carries plans out, in batches."""

    def __init__(self, settings: Delivery, spool: Spool, books: Books) -> None:
        self._settings = settings
        self._spool = spool
        self._books = books
        # Entries that were served, in part or whole, and could be neither removed nor deferred. The batch file keeps
        # what they were served; decided anew, they would be doubled where a client has deleted its copy meanwhile.
        self.unfinished: dict[EntryId, Plan] = {}

    def carry(self, plans: Sequence[tuple[Plan, list[Written]]]) -> list[Carried]:
        """Carry new plans out; raises OSError, nothing having happened, where the batch file cannot be written."""
        if not plans:
            return []
        failed = _settle([written for _, all_written in plans for written in all_written])
        ready = [_without(plan, failed) if failed else plan for plan, _ in plans]
        try:
            write_batch(self._spool.batch, [*self.unfinished.values(), *ready])
        except OSError:
            durable.forget([step.move.draft for plan in ready for step in plan.steps])
            raise
        return self._carry_out(ready)

    def recover(self) -> list[Carried]:
        """Carry the batch of an earlier process through; raises OSError."""
        plans = read_batch(self._spool.batch)
        if plans is None:
            durable.forget([self._spool.batch])
            return []
        logger.info("carrying through a batch of %d entries that was interrupted", len(plans))
        begun = [plan for plan in plans if self._spool.path(plan.state, plan.entry_id).exists()]
        for plan in plans:
            if plan.state.has_sidecar and plan not in begun:
                self._remove(plan)  # the entry was retired, its sidecar perhaps not yet
        return self._carry_out([self._without_finished(plan) for plan in begun])

    def _without_finished(self, plan: Plan) -> Plan:
        """Of an interrupted plan, what is left to do: a draft that is gone was renamed."""
        finished = [step for step in plan.steps if not step.move.draft.exists()]
        self._books.carried(
            [replace(plan, steps=tuple(finished), fates={})], dict.fromkeys(map(id, finished)), again=True
        )
        fates = {**plan.fates, **{key: SERVED for step in finished for key in step.destinations}}
        return replace(plan, steps=tuple(step for step in plan.steps if step not in finished), fates=fates)

    def _carry_out(self, plans: Sequence[Plan]) -> list[Carried]:
        """Make it visible, note it in the books, and only then retire the entries."""
        outcomes = self._reveal([_with_steps(plan, [step for step in plan.steps if not step.needs]) for plan in plans])
        # What needs others to be served, a report of success say, comes when they are, and else not at all.
        needy = [plan for plan in plans if any(step.needs for step in plan.steps)]
        following = [_with_steps(plan, _steps_that_may_follow(plan, outcomes)) for plan in needy]
        if following:
            outcomes |= self._reveal([replace(plan, fates={}) for plan in following if plan.steps])
        done = [_with_steps(plan, [step for step in plan.steps if id(step) in outcomes]) for plan in plans]
        skipped = [step for plan in plans for step in plan.steps if id(step) not in outcomes]
        durable.forget([step.move.draft for step in skipped])
        return self._retire_all([_served(plan, outcomes) for plan in done])

    def _reveal(self, plans: Sequence[Plan]) -> dict[int, Outcome]:
        """Rename the drafts of all steps, and note it; the outcomes, by the identity of the step."""
        steps = [step for plan in plans for step in plan.steps]

        def note(renamed: list[Outcome]) -> int:
            return self._books.carried(plans, dict(zip(map(id, steps), renamed, strict=True)))

        return dict(zip(map(id, steps), durable.reveal([step.move for step in steps], note), strict=True))

    def finish(self) -> list[Carried]:
        """Try again to remove or defer what is unfinished."""
        plans = list(self.unfinished.values())
        self.unfinished = {}
        gone = [plan for plan in plans if not self._spool.path(plan.state, plan.entry_id).exists()]
        left = [plan for plan in plans if plan not in gone]
        return [*(Carried(plan.entry_id) for plan in gone), *self._retire_all(left)]

    def _retire_all(self, plans: Sequence[Plan]) -> list[Carried]:
        """Remove or defer entries whose plans have come to their end: no steps are left, and the fates tell all."""
        self._spool.spares.count()
        carried = [self._retire(plan) for plan in plans]
        for plan, each in zip(plans, carried, strict=True):
            if each.error is not None:
                self.unfinished[plan.entry_id] = plan
        if not self.unfinished:
            durable.put_away(self._spool.batch)
        return carried

    def _retire(self, plan: Plan) -> Carried:
        try:
            if all(fate.state == DONE for fate in plan.fates.values()):
                self._remove(plan)
                return Carried(plan.entry_id)
            return self._defer(plan)
        except OSError as error:
            return Carried(plan.entry_id, error=error)

    def _remove(self, plan: Plan) -> None:
        path = self._spool.path(plan.state, plan.entry_id)
        if plan.state.has_sidecar:
            durable.raise_first(durable.forget([path, self._spool.retry_path(plan.entry_id, plan.state)]))
        elif not self._spool.spares.give(path):
            durable.raise_first(durable.forget([path]))

    def _defer(self, plan: Plan) -> Carried:
        now = time.time()
        if plan.due:
            retry = Retry(plan.attempts, plan.due, plan.fates, plan.waited, now)
        else:
            pauses = self._settings.retry_after
            pause = pauses[min(plan.attempts, len(pauses) - 1)] * random.uniform(1, 1 + JITTER)
            retry = Retry(plan.attempts + 1, now + pause, plan.fates, plan.waited, now)
        write_retry(self._spool.retry_path(plan.entry_id, plan.state), retry)
        if plan.state is not plan.state.waits_in:
            final = self._spool.path(plan.state.waits_in, plan.entry_id)
            durable.move(self._spool.path(plan.state, plan.entry_id), final)
        if not plan.due:
            self._books.deferred(plan, retry)
            errors = "; ".join(f"{key}: {fate.error}" for key, fate in retry.waiting().items())
            logger.warning("%s deferred for %.0f s after attempt %d: %s", plan.entry_id, pause, retry.attempts, errors)
        return Carried(plan.entry_id, retry.due - now, retry)


def _with_steps(plan: Plan, steps: Sequence[Step]) -> Plan:
    return replace(plan, steps=tuple(steps)) if len(steps) < len(plan.steps) else plan


def _steps_that_may_follow(plan: Plan, outcomes: Mapping[int, Outcome]) -> list[Step]:
    served = {key for key, fate in plan.fates.items() if fate.state == DONE}
    for step in plan.steps:
        if not step.needs and outcomes[id(step)] is None:
            served.update(step.destinations)
    return [step for step in plan.steps if step.needs and served.issuperset(step.needs)]


def _settle(written: Sequence[Written]) -> dict[int, OSError]:
    """Put drafts on disk; the steps whose drafts failed, by identity, with the error."""
    outcomes = durable.settle([each.draft for each in written])
    failed: dict[int, OSError] = {}
    for each, outcome in zip(written, outcomes, strict=True):
        if outcome is not None:
            failed |= {id(step): outcome for step in each.steps}
            durable.forget([step.move.draft for step in each.steps])
    return failed


def _without(plan: Plan, failed: dict[int, OSError]) -> Plan:
    fates = dict(plan.fates)
    for step in plan.steps:
        if id(step) in failed:
            fates |= {destination: _fate_of(failed[id(step)]) for destination in step.destinations}
    return replace(plan, steps=tuple(step for step in plan.steps if id(step) not in failed), fates=fates)


def _served(plan: Plan, outcomes: dict[int, Outcome]) -> Plan:
    """The plan with what has come of its steps, by their identity, in its fates."""
    fates = dict(plan.fates)
    for step in plan.steps:
        fates |= {destination: _fate_of(outcomes[id(step)]) for destination in step.destinations}
    return replace(plan, steps=(), fates=fates)


def _fate_of(outcome: Outcome) -> Fate:
    return SERVED if outcome is None else waiting_after(outcome)
