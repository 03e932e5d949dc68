"""Deciding an entry: who gets it, by which files, written but not yet visible.

Nothing here can be seen from outside: a plan is drafts in `tmp/` folders and a list of renames. `work.carry` makes
them durable and carries them out. A fault of ours with one destination makes that destination wait; the others go on.
"""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from mailsrv.config import Config
from mailsrv.model import reply, trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Envelope
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.protocol.report import Action
from mailsrv.store.batch import Plan, Step
from mailsrv.store.durable import Move
from mailsrv.store.lists import DistributionList
from mailsrv.store.retry import Retry, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import books, loops
from mailsrv.work.attempt import Attempt, Written, letters
from mailsrv.work.boxes import Boxes
from mailsrv.work.goals import Goal, Goals, list_id, sender_of
from mailsrv.work.octets import no_tick
from mailsrv.work.outbound import outside_header, outside_sender
from mailsrv.work.reports import News, Reporter, write_copy
from mailsrv.work.route import Route
from mailsrv.work.routing import Directory

DELAY: Final = "delay"  # the destination that a report of delay serves, one for the message


class Planner:
    """Decides entries by the configuration and the directory as they stand."""

    def __init__(self, config: Config, spool: Spool, directory: Directory, tick: Callable[[], None] = no_tick) -> None:
        self._tick = tick
        self._config = config
        self._spool = spool
        self._directory = directory
        self._reporter = Reporter(config, spool)
        self._boxes = Boxes(config, spool, directory)

    def plan(
        self, state: State, entry_id: EntryId, *, is_suspect: bool, pause: float | None = None
    ) -> tuple[Plan, list[Written]]:
        """A plan for an entry, its drafts written; raises OSError, or FormatError where the file is no entry.

        `pause` is how long it was deferred, in seconds, where this process knows.
        """
        self._directory.hold()  # until the batch is settled
        retry = (read_retry(self._spool.retry_path(entry_id)) if state is State.DEFERRED else None) or Retry(0, 0)
        plan, written = self._planned(state, entry_id, retry, self._decide, is_suspect=is_suspect)
        return replace(plan, waited=retry.waited_until(time.time(), pause)), written

    def settle(self, unserved: Container[str]) -> None:
        """A batch of plans is carried out, but for these destinations."""
        self._boxes.settle(unserved)
        self._directory.release()

    def plan_overdue(self, entry_id: EntryId) -> tuple[Plan, list[Written]] | None:
        """What to tell the sender of a deferred entry that was just tried in vain, if anything; raises as `plan`."""
        retry = read_retry(self._spool.retry_path(entry_id))
        if retry is None or not self._is_overdue(retry):
            return None
        plan, written = self._planned(State.DEFERRED, entry_id, retry, self._decide_overdue, is_suspect=False)
        return replace(plan, waited=retry.waited, due=retry.due), written

    def _planned(
        self, state: State, entry_id: EntryId, retry: Retry, decide: Callable[[Attempt], None], *, is_suspect: bool
    ) -> tuple[Plan, list[Written]]:
        file, block = self._spool.open(state, entry_id)
        with file:
            attempt = Attempt(entry_id, state, file, block, retry, is_suspect, self._tick)
            attempt.about = {"from": str(attempt.sender.reverse_path or ""), **books.about(attempt.header)}
            try:
                decide(attempt)
            except BaseException:
                attempt.discard()
                self._boxes.spoil()
                raise
        steps = tuple(step for written in attempt.written for step in written.steps)
        return Plan(entry_id, state, retry.attempts, steps, attempt.fates, attempt.about), attempt.written

    def _decide(self, attempt: Attempt) -> None:
        goals = self._goals(attempt)
        _break_loops(attempt, goals)
        self._boxes.plan(attempt, goals)
        self._plan_remote(attempt, goals)
        self._plan_news(attempt, goals)

    def _goals(self, attempt: Attempt) -> Goals:
        goals = Goals()
        for recipient in attempt.recipients:
            route = self._directory.route(recipient.forward_path, attempt.sender.reverse_path)
            _note_route(attempt, recipient.forward_path, route)
            goals.add(attempt, recipient, route)
        return goals

    # --- copies ------------------------------------------------------------------------------------

    def _plan_remote(self, attempt: Attempt, goals: Goals) -> None:
        """An entry for those that the message is for, and one for each alias and list that sends it on."""
        groups: dict[str, dict[str, Goal]] = {}
        for key, goal in goals.remote.items():
            if attempt.has_yet_to_serve(key):
                by = f"{goal.way.by.key} {goal.way.list.mailbox.key if goal.way.list else ''}" if goal.way.by else ""
                groups.setdefault(by, {})[key] = goal
        transforms = self._directory.tables().transforms.outbound if groups else ()
        for by, group in groups.items():
            way = next(iter(group.values())).way
            # RFC 9228 §4: who is behind an alias does not see by which other one somebody else got it.
            head = trace.delivered_to(way.by) if way.by else b""
            head += list_id(attempt, way.list)
            head += outside_header(attempt.header, transforms) if attempt.has_whole_header else attempt.header
            recipients = tuple(goal.recipient_elsewhere() for goal in group.values())
            envelope = Envelope(outside_sender(sender_of(attempt, way.list), transforms), recipients)
            self._plan_copy(attempt, "remote" + letters(by), tuple(group), envelope, head)

    def _plan_copy(self, attempt: Attempt, word: str, keys: tuple[str, ...], envelope: Envelope, header: bytes) -> None:
        entry_id = attempt.derived_id(word)
        draft = self._spool.draft(entry_id)
        step = Step(Move(draft.path, self._spool.path(State.REMOTE, entry_id)), keys)
        attempt.plan_draft(draft, lambda draft: write_copy(draft, attempt, envelope, header), step)

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


def _break_loops(attempt: Attempt, goals: Goals) -> None:
    """Refuse what goes in circles."""
    if loops.has_too_many_hops(attempt.header):
        for key, goal in [*goals.local.items(), *goals.remote.items()]:
            goals.fail(key, goal, reply.TOO_MANY_HOPS)
    elif seen := loops.delivered_to(attempt.header):
        for key, goal in [*goals.local.items(), *goals.remote.items()]:
            own = {goal.mailbox.key} if goal.account else set()
            if seen & (own | ({goal.way.by.key} if goal.way.by else set())):
                goals.fail(key, goal, reply.DELIVERED_BEFORE)


def _note_route(attempt: Attempt, forward_path: Mailbox, route: Route) -> None:
    """For the books: to which destinations a recipient leads, unless it is the only one itself."""
    keys = [*route.local, *route.remote]
    if route.refusal is not None:
        keys.append(f"report {forward_path.key}")
    keys += [f"report {lost.list.mailbox.key} {lost.mailbox.key}" for lost in route.lost]
    if keys != [str(forward_path)] or attempt.retry.attempts:  # another attempt may have come to something else
        attempt.about.setdefault("routes", {})[str(forward_path)] = keys
