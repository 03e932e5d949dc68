"""Deciding an entry for the relay: what other hosts have said of its recipients, and what is to be told of it."""

from collections.abc import Callable, Mapping

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.model.identity import EntryId
from mailsrv.model.parameters import value_of
from mailsrv.protocol.report import Action, Reported
from mailsrv.store.journal import Told
from mailsrv.store.ledger import Kind
from mailsrv.store.spool import Spool
from mailsrv.work.attempt import Attempt
from mailsrv.work.goals import Goal, Goals
from mailsrv.work.planning import Planning
from mailsrv.work.reports import News, wants
from mailsrv.work.route import NOWHERE

NOT_TRIED = Told(outcome.CONNECTION_LOST, "it was not tried")


class Onward(Planning):
    """`told` gives what was heard of an entry, by destination."""

    def __init__(self, config: Config, spool: Spool, told: Callable[[EntryId], Mapping[str, Told]]) -> None:
        super().__init__(config, spool)
        self._told = told

    def _goals(self, attempt: Attempt) -> Goals:
        goals = Goals()
        for recipient in attempt.recipients:
            mailbox = recipient.forward_path
            goals.remote.setdefault(mailbox.exact_key, Goal(recipient, mailbox, NOWHERE))
        return goals

    def _decide(self, attempt: Attempt) -> None:
        goals = self._goals(attempt)
        told = self._told(attempt.entry_id)
        for key, goal in list(goals.remote.items()):
            if attempt.has_yet_to_serve(key):
                self._take(attempt, goals, key, told.get(key, NOT_TRIED))
            elif f"success {key}" in attempt.retry.waiting():
                _tell_success(goals, key, goal)
        self._plan_news(attempt, goals)

    def _take(self, attempt: Attempt, goals: Goals, key: str, told: Told) -> None:
        goal = goals.remote[key]
        if told.reply.is_permanent:
            goals.fail(key, goal, told.reply)
        elif told.reply.code >= 400:
            attempt.wait_because(key, told.reply, told.where)
        else:
            attempt.serve([key], Kind.RELAYED, f"{told.where}: {told.reply}")
            if not told.reports and wants(goal.recipient, "SUCCESS"):  # RFC 3461 §5.2.2
                _tell_success(goals, key, goal)


def _tell_success(goals: Goals, key: str, goal: Goal) -> None:
    original = value_of(goal.recipient.parameters, "ORCPT")
    reported = Reported(goal.mailbox, original, Action.RELAYED)
    news = News(f"success {key}", goal.recipient, reported, (key,))
    goals.news.setdefault(news.destination, (None, news))
