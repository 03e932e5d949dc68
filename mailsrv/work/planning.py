"""Plans, whoever carries them out: how an entry is opened for an attempt, and what is told of what has waited for long.

Nothing here can be seen from outside: a plan is drafts in `tmp/` folders and a list of renames. `work.carry` makes
them durable and carries them out. `work.plan` decides for delivery, `work.onward` for the relay.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.protocol.report import Action
from mailsrv.store.batch import Plan
from mailsrv.store.lists import DistributionList
from mailsrv.store.retry import Retry, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import books
from mailsrv.work.attempt import Attempt, Written, letters
from mailsrv.work.goals import Goal, Goals, sender_of
from mailsrv.work.octets import no_tick
from mailsrv.work.reports import News, Reporter

DELAY: Final = "delay"  # the destination that a report of delay serves, one for the message


class Planning(ABC):
    """Plans for entries, by the configuration as it stands."""

    def __init__(self, config: Config, spool: Spool, tick: Callable[[], None] = no_tick) -> None:
        self._tick = tick
        self._config = config
        self._spool = spool
        self._reporter = Reporter(config, spool)

    @abstractmethod
    def _decide(self, attempt: Attempt) -> None:
        """Plan what is to become of an entry."""

    @abstractmethod
    def _goals(self, attempt: Attempt) -> Goals:
        """Where its recipients lead."""

    def _begin(self) -> None:  # noqa: B027  # who has nothing to do leaves it so
        """An entry is about to be planned for."""

    def _spoil(self) -> None:  # noqa: B027  # who has nothing to do leaves it so
        """The plan for an entry broke off."""

    def settle(self, unserved: Container[str]) -> None:  # noqa: B027  # who has nothing to do leaves it so
        """A batch of plans is carried out, but for these destinations."""

    def plan(
        self, state: State, entry_id: EntryId, *, is_suspect: bool, pause: float | None = None
    ) -> tuple[Plan, list[Written]]:
        """A plan for an entry, its drafts written; raises OSError, or FormatError where the file is no entry.

        `pause` is how long it was deferred, in seconds, where this process knows.
        """
        self._begin()
        sidecar = read_retry(self._spool.retry_path(entry_id, state)) if state.has_sidecar else None
        if sidecar is None:
            return self._planned(state, entry_id, Retry(0, 0), self._decide, is_suspect=is_suspect)
        plan, written = self._planned(state, entry_id, sidecar, self._decide, is_suspect=is_suspect)
        return replace(plan, waited=sidecar.waited_until(time.time(), pause)), written

    def plan_overdue(self, state: State, entry_id: EntryId) -> tuple[Plan, list[Written]] | None:
        """What to tell the sender of an entry that was just tried in vain, if anything; raises as `plan`.

        `state` is where it waits.
        """
        retry = read_retry(self._spool.retry_path(entry_id, state))
        if retry is None or not self._is_overdue(retry):
            return None
        plan, written = self._planned(state, entry_id, retry, self._decide_overdue, is_suspect=False)
        return replace(plan, waited=retry.waited, due=retry.due), written

    def _planned(
        self, state: State, entry_id: EntryId, retry: Retry, decide: Callable[[Attempt], None], *, is_suspect: bool
    ) -> tuple[Plan, list[Written]]:
        file, block = self._spool.open(state, entry_id, in_memory=True)
        with file:
            attempt = Attempt(entry_id, state, file, block, retry, is_suspect, self._tick)
            attempt.about = {"from": str(attempt.sender.reverse_path or ""), **books.about(attempt.header)}
            try:
                decide(attempt)
            except BaseException:
                attempt.discard()
                self._spoil()
                raise
        steps = tuple(step for written in attempt.written for step in written.steps)
        return Plan(entry_id, state, retry.attempts, steps, attempt.fates, attempt.about), attempt.written

    # --- reports -----------------------------------------------------------------------------------

    def _plan_news(self, attempt: Attempt, goals: Goals) -> None:
        """What failed is told at once; what was delivered, once it is."""
        news = [(found, each) for found, each in goals.news.values() if attempt.has_yet_to_serve(each.destination)]
        self._plan_reports(attempt, "report", [(found, each) for found, each in news if not each.needs])
        served = attempt.served()
        certain = [each for _, each in news if each.needs and served.issuperset(each.needs)]
        if attempt.sender.reverse_path is not None:
            self._reporter.plan(attempt, "success", attempt.sender, certain)

    def _plan_reports(self, attempt: Attempt, word: str, news: Sequence[tuple[DistributionList | None, News]]) -> None:
        """One report to the sender, and one to the owner of each list."""
        groups: dict[str, tuple[DistributionList | None, list[News]]] = {}
        for found, each in news:
            groups.setdefault(found.mailbox.key if found else "", (found, []))[1].append(each)
        for key, (found, group) in groups.items():
            self._reporter.plan(attempt, word + letters(key), sender_of(attempt, found), group)

    # --- what has waited for long ------------------------------------------------------------------

    def _is_overdue(self, retry: Retry) -> bool:
        settings = self._config.delivery
        is_late = retry.waited >= settings.report_delay_after and not retry.is_done(DELAY)
        return is_late or retry.waited >= settings.give_up_after

    def _decide_overdue(self, attempt: Attempt) -> None:
        """Give up what still waits, or tell its sender that it does; it was tried just before."""
        attempt.restate()
        goals = self._goals(attempt)
        known = goals.waiting | goals.local | goals.remote
        waiting = {key: goal for key, goal in known.items() if key in attempt.waiting}
        if attempt.retry.waited < self._config.delivery.give_up_after:
            self._plan_delay(attempt, waiting)
            return
        for key in waiting:
            attempt.give_up(key)
        failed = [(goal.way.list, goal.tell(key, Action.FAILED, reply.EXPIRED)) for key, goal in waiting.items()]
        self._plan_reports(attempt, "expired", failed)

    def _plan_delay(self, attempt: Attempt, waiting: Mapping[str, Goal]) -> None:
        """What waits behind a list is no business of the sender's."""
        until = arrival_of(attempt.entry_id) + timedelta(seconds=self._config.delivery.give_up_after)
        news = [
            goal.tell(DELAY, Action.DELAYED, attempt.waiting[key], until)
            for key, goal in waiting.items()
            if goal.way.list is None
        ]
        if attempt.sender.reverse_path is None or not news:
            attempt.serve([DELAY])  # there is nobody to tell
            return
        self._reporter.plan(attempt, "delay", attempt.sender, news)
