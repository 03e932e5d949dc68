"""The part of a plan that is for accounts here: letters that fit, warnings where it is tight, answers of the absent."""

import logging
from collections.abc import Container
from datetime import UTC, datetime
from typing import Final

from mailsrv.config import Config
from mailsrv.model import trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.protocol.notices import warning
from mailsrv.store import entry
from mailsrv.store.batch import Step
from mailsrv.store.durable import Draft, Move
from mailsrv.store.ledger import Kind
from mailsrv.store.quotas import Usage
from mailsrv.store.spool import Spool, State
from mailsrv.work.attempt import Attempt, letters
from mailsrv.work.away import Answerer
from mailsrv.work.goals import Goal, Goals, list_id, sender_of
from mailsrv.work.mailboxes import Mailboxes
from mailsrv.work.quota import Filler
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

WARNING: Final = "warning"  # of the word `with=` in X-Arrived


class Boxes:
    """Plans for mailboxes here, batch after batch."""

    def __init__(self, config: Config, spool: Spool, directory: Directory) -> None:
        self._config = config
        self._mailboxes = Mailboxes(config.mail)
        self._spool = spool
        self._directory = directory
        self._filler = Filler(directory, config.mail, config.quota.warn_at)
        self._answerer = Answerer(directory, spool, config.mail, config.hostname)

    def settle(self, unserved: Container[str]) -> None:
        """The batch is carried out, but for these destinations."""
        self._filler.settle(unserved)
        self._answerer.settle()
        self._mailboxes.settle()

    def spoil(self) -> None:
        """A plan of this batch broke off."""
        self._filler.spoil()

    def plan(self, attempt: Attempt, goals: Goals) -> None:
        """One letter to all, and one for each list: by that it came from its owner."""
        groups: dict[str, list[Goal]] = {}
        for key, goal in list(goals.local.items()):
            if attempt.has_yet_to_serve(key) and self._fits(attempt, goals, goal):
                groups.setdefault(goal.way.list.mailbox.key if goal.way.list else "", []).append(goal)
        for group in groups.values():
            way = group[0].way
            prefix = trace.return_path(sender_of(attempt, way.list).reverse_path)
            if len(group) == 1:
                prefix += trace.delivered_to(group[0].mailbox)
            prefix += list_id(attempt, way.list)
            octets, planned = self._mailboxes.plan(attempt, [goal.mailbox for goal in group], prefix)
            for mailbox in planned:
                self._note(attempt, mailbox, octets)
                self._answerer.plan(attempt, goals.local[mailbox.key])
        for key, goal in goals.local.items():
            if f"answer {key}" in attempt.retry.waiting():
                self._answerer.plan(attempt, goal)

    def _fits(self, attempt: Attempt, goals: Goals, goal: Goal) -> bool:
        """What can never fit goes back; what may fit later waits."""
        if attempt.arrival.protocol == WARNING:
            return True
        try:
            refusal = self._filler.refusal(goal.mailbox, attempt.octets)
        except OSError as error:
            attempt.wait_for([goal.mailbox.key], error)
            return False
        if refusal is None:
            return True
        if refusal.is_permanent:
            goals.fail(goal.mailbox.key, goal, refusal)
        else:
            attempt.wait_because(goal.mailbox.key, refusal)
        return False

    def _note(self, attempt: Attempt, mailbox: Mailbox, octets: int) -> None:
        try:
            usage = self._filler.add(mailbox, octets)
        except OSError as error:
            logger.warning("%s: what lies there cannot be counted: %s", mailbox, error.strerror)
            return
        if usage is not None and attempt.arrival.protocol != WARNING:
            self._plan_warning(attempt, mailbox, usage)

    def _plan_warning(self, attempt: Attempt, mailbox: Mailbox, usage: Usage) -> None:
        quota = self._directory.quota(mailbox)
        amounts = [f"{usage.octets} of {quota.octets} octets"] if quota.octets else []
        amounts += [f"{usage.messages} of {quota.messages} messages"] if quota.messages else []
        entry_id = attempt.derived_id("warning" + letters(mailbox.key))
        now = Arrival(datetime.now(UTC), WARNING)
        envelope = Envelope(Sender(None), (Recipient(mailbox),))
        if not mailbox.is_ascii:
            envelope = envelope.saying_smtputf8()
        hostname = self._config.hostname

        def write(draft: Draft) -> None:
            draft.write(entry.render(envelope, now, entry_id))
            draft.write(trace.received(now, hostname, entry_id, envelope))
            draft.write(warning(mailbox, amounts, hostname, f"{entry_id}@{hostname}", now.moment))

        draft = self._spool.draft(entry_id)
        move = Move(draft.path, self._spool.path(State.NEW, entry_id))
        step = Step(move, (f"warning {mailbox.key}",), (mailbox.key,), Kind.ACCEPTED, str(mailbox))
        attempt.plan_draft(draft, write, step)
