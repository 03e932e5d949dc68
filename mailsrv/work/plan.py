"""Deciding an entry: who gets it, by which files, written but not yet visible.

Nothing here can be seen from outside: a plan is drafts in `tmp/` folders and a list of renames. `work.carry` makes
them durable and carries them out. A fault of ours with one destination makes that destination wait; the others go on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Envelope, Recipient
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply
from mailsrv.model.xtext import original_recipient
from mailsrv.protocol.report import Action, Reported
from mailsrv.store.accounts import Account
from mailsrv.store.batch import Plan, Step
from mailsrv.store.durable import Move
from mailsrv.store.retry import Retry, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import books
from mailsrv.work.attempt import Attempt, Written
from mailsrv.work.mailboxes import plan_letters
from mailsrv.work.octets import no_tick
from mailsrv.work.reports import News, Reporter, wants, write_copy
from mailsrv.work.routing import Directory, Route

DELAY: Final = "delay"  # the destination that a report of delay serves, one for the message


@dataclass(slots=True)
class _Goals:
    """What the recipients of an entry come to, each destination once."""

    local: dict[str, tuple[Account, Recipient]] = field(default_factory=dict)
    remote: dict[str, Recipient] = field(default_factory=dict)
    waiting: dict[str, tuple[Mailbox, Recipient]] = field(default_factory=dict)  # also of those above
    news: dict[str, News] = field(default_factory=dict)

    def tell(self, news: News) -> None:
        self.news.setdefault(news.destination, news)


class Planner:
    """Decides entries by the configuration and the directory as they stand."""

    def __init__(self, config: Config, spool: Spool, directory: Directory, tick: Callable[[], None] = no_tick) -> None:
        self._tick = tick
        self._config = config
        self._spool = spool
        self._directory = directory
        self._reporter = Reporter(config, spool)

    def plan(
        self, state: State, entry_id: EntryId, *, is_suspect: bool, pause: float | None = None
    ) -> tuple[Plan, list[Written]]:
        """A plan for an entry, its drafts written; raises OSError, or FormatError where the file is no entry.

        `pause` is how long it was deferred, in seconds, where this process knows.
        """
        retry = (read_retry(self._spool.retry_path(entry_id)) if state is State.DEFERRED else None) or Retry(0, 0)
        plan, written = self._planned(state, entry_id, retry, self._decide, is_suspect=is_suspect)
        return replace(plan, waited=retry.waited_until(time.time(), pause)), written

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
                raise
        steps = tuple(step for written in attempt.written for step in written.steps)
        return Plan(entry_id, state, retry.attempts, steps, attempt.fates, attempt.about), attempt.written

    def _decide(self, attempt: Attempt) -> None:
        goals = self._goals(attempt)
        goals.waiting |= {key: (account.mailbox, recipient) for key, (account, recipient) in goals.local.items()}
        accounts = [account for key, (account, _) in goals.local.items() if attempt.has_yet_to_serve(key)]
        plan_letters(attempt, self._config.mail, accounts, attempt.sender.reverse_path)
        self._plan_remote(attempt, [each for key, each in goals.remote.items() if attempt.has_yet_to_serve(key)])
        self._plan_reports(attempt, goals)

    def _goals(self, attempt: Attempt) -> _Goals:
        goals = _Goals()
        for recipient in attempt.recipients:
            route = self._directory.route(recipient.forward_path)
            _note_route(attempt, recipient.forward_path, route)
            for key, account in route.local.items():
                goals.local.setdefault(key, (account, recipient))
            for key, mailbox in route.remote.items():
                goals.remote.setdefault(key, _recipient_elsewhere(recipient, mailbox, is_shared=route.is_shared))
            self._note_refusal(attempt, goals, recipient, route)
            self._note_success(goals, recipient, route)
        return goals

    def _note_refusal(self, attempt: Attempt, goals: _Goals, recipient: Recipient, route: Route) -> None:
        if route.refusal is None:
            return
        destination = f"report {recipient.forward_path.key}"
        if route.refusal.is_permanent:
            goals.tell(_failure(destination, recipient, recipient.forward_path, route.refusal))
        elif attempt.has_yet_to_serve(destination):
            attempt.wait_because(destination, route.refusal)
            goals.waiting[destination] = (recipient.forward_path, recipient)

    def _note_success(self, goals: _Goals, recipient: Recipient, route: Route) -> None:
        """RFC 3461 §5.2.7: of an alias of several addresses the sender is told once, that it was expanded."""
        if not wants(recipient, "SUCCESS") or not (route.local or route.remote):
            return
        path = recipient.forward_path
        original = value_of(recipient.parameters, "ORCPT")
        if route.is_shared:
            told = Reported(path, original, Action.EXPANDED)
            goals.tell(News(f"expansion {path.key}", recipient, told))
        elif route.local:
            told = Reported(path, original, Action.DELIVERED)
            goals.tell(News(f"success {path.key}", recipient, told, tuple(route.local)))

    # --- elsewhere ---------------------------------------------------------------------------------

    def _plan_remote(self, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        if recipients:
            keys = tuple(each.forward_path.exact_key for each in recipients)
            envelope = Envelope(attempt.sender, tuple(recipients))
            entry_id = attempt.derived_id("remote")
            draft = self._spool.draft(entry_id)
            step = Step(Move(draft.path, self._spool.path(State.REMOTE, entry_id)), keys)
            attempt.plan_draft(draft, lambda draft: write_copy(draft, attempt, envelope), step)

    # --- reports -----------------------------------------------------------------------------------

    def _plan_reports(self, attempt: Attempt, goals: _Goals) -> None:
        """What failed is told at once; what was delivered, once it is; a delay, where one is to be told of."""
        news = [each for each in goals.news.values() if attempt.has_yet_to_serve(each.destination)]
        self._reporter.plan(attempt, "report", attempt.sender, [each for each in news if not each.needs])
        served = attempt.served()
        certain = [each for each in news if each.needs and served.issuperset(each.needs)]
        if attempt.sender.reverse_path is not None:
            self._reporter.plan(attempt, "success", attempt.sender, certain)

    # --- what has waited for long ------------------------------------------------------------------

    def _is_overdue(self, retry: Retry) -> bool:
        settings = self._config.delivery
        is_late = retry.waited >= settings.report_delay_after and not retry.is_done(DELAY)
        return is_late or retry.waited >= settings.give_up_after

    def _decide_overdue(self, attempt: Attempt) -> None:
        """Give up what still waits, or tell its sender that it does; it was tried just before."""
        attempt.restate()
        goals = self._goals(attempt)
        goals.waiting |= {key: (account.mailbox, recipient) for key, (account, recipient) in goals.local.items()}
        goals.waiting |= {key: (recipient.forward_path, recipient) for key, recipient in goals.remote.items()}
        waiting = {key: found for key, found in goals.waiting.items() if key in attempt.waiting}
        if attempt.retry.waited < self._config.delivery.give_up_after:
            self._plan_delay(attempt, waiting)
            return
        for key in waiting:
            attempt.give_up(key)
        failed = [_failure(key, recipient, mailbox, reply.EXPIRED) for key, (mailbox, recipient) in waiting.items()]
        self._reporter.plan(attempt, "expired", attempt.sender, failed)

    def _plan_delay(self, attempt: Attempt, waiting: Mapping[str, tuple[Mailbox, Recipient]]) -> None:
        if attempt.sender.reverse_path is None:
            attempt.serve([DELAY])  # there is nobody to tell
            return
        until = arrival_of(attempt.entry_id) + timedelta(seconds=self._config.delivery.give_up_after)
        news = []
        for key, (mailbox, recipient) in waiting.items():
            original = value_of(recipient.parameters, "ORCPT")
            told = Reported(mailbox, original, Action.DELAYED, attempt.waiting[key], until)
            news.append(News(DELAY, recipient, told))
        self._reporter.plan(attempt, "delay", attempt.sender, news)


def _note_route(attempt: Attempt, forward_path: Mailbox, route: Route) -> None:
    """For the books: to which destinations a recipient leads, unless it is the only one itself."""
    keys = [*route.local, *route.remote]
    if route.refusal is not None:
        keys.append(f"report {forward_path.key}")
    if keys != [str(forward_path)]:
        attempt.about.setdefault("routes", {})[str(forward_path)] = keys


def _failure(destination: str, recipient: Recipient, final: Mailbox, reason: Reply) -> News:
    original = value_of(recipient.parameters, "ORCPT")
    return News(destination, recipient, Reported(final, original, Action.FAILED, reason))


def _recipient_elsewhere(recipient: Recipient, mailbox: Mailbox, *, is_shared: bool) -> Recipient:
    """The parameters follow an alias (RFC 3461 §5.2.7.2, §5.2.7.3), SUCCESS only where it leads to one address."""
    if mailbox == recipient.forward_path:
        return recipient
    parameters = dict(recipient.parameters)
    if is_shared and (notify := parameters.get("NOTIFY")):
        kept = [word for word in notify.upper().split(",") if word != "SUCCESS"]
        parameters["NOTIFY"] = ",".join(kept) or "NEVER"
    parameters.setdefault("ORCPT", original_recipient(str(recipient.forward_path)))  # RFC 3461 §5.2.1
    return Recipient(mailbox, tuple(parameters.items()))
