"""The part of a plan that is out-of-office answers (RFC 3834): who gets one, and that nobody gets two.

The answer and the note that it was given are renamed in one batch, so that no crash comes between them.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailsrv.model import trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.protocol.header import Field, HeaderError, mailboxes, split_fields
from mailsrv.protocol.notices import Head, answer, auto_subject
from mailsrv.store import entry
from mailsrv.store.away import Answered, Away
from mailsrv.store.batch import UNTOLD, Step
from mailsrv.store.durable import Draft, Move
from mailsrv.store.ledger import Kind
from mailsrv.store.maildir import mailbox_path, unique_name
from mailsrv.store.spool import Spool, State
from mailsrv.work.attempt import Attempt, letters
from mailsrv.work.goals import Goal
from mailsrv.work.routing import Directory

ANSWER: Final = "answer"  # of the word `with=` in X-Arrived

_RECIPIENT_FIELDS: Final = frozenset({"to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc"})
_BULK: Final = frozenset({"bulk", "junk", "list"})
# RFC 3834 §2: senders who are programs, by the names that these go by.
_PROGRAM: Final = re.compile(
    r"mailer-daemon|owner-.*|.*-(?:owner|request|bounces?)(?:[+=-].*)?|no-?reply|do-?not-?reply"
)
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,250}>")


class Answerer:
    """Plans answers for accounts that are away."""

    def __init__(self, directory: Directory, spool: Spool, mail: Path, hostname: str) -> None:
        self._directory = directory
        self._spool = spool
        self._mail = mail
        self._hostname = hostname
        self._planned: set[tuple[str, str]] = set()  # in this batch: account and sender

    def settle(self) -> None:
        """The batch is carried out; whom was answered in it stands on disk."""
        self._planned.clear()

    def plan(self, attempt: Attempt, goal: Goal) -> None:
        """Answer a letter to an account, if it is to be answered."""
        destination = f"answer {goal.mailbox.key}"
        sender = attempt.sender.reverse_path
        if sender is None or goal.way.list is not None or not attempt.has_yet_to_serve(destination):
            return
        away = self._directory.away(goal.mailbox)
        if away is None or not away.holds_on(datetime.now(UTC).astimezone().date()):
            return
        try:
            everything = split_fields(attempt.header)
        except HeaderError:  # what is no header says nothing of who is to be answered
            return
        if not self._is_for_a_person(goal, sender, everything):
            return
        fields = {field.name: field for field in reversed(everything)}
        try:
            answered = Answered(mailbox_path(self._mail, goal.mailbox))
            pair = (goal.mailbox.key, sender.key)
            if pair not in self._planned and not answered.is_recent(sender, away.days):
                answered.prepare(away.days)
                self._planned.add(pair)
                self._plan_note(attempt, goal.mailbox, answered.path(sender), destination)
                self._plan_answer(attempt, _Answer(goal.mailbox, sender, away, fields, destination))
        except OSError as error:
            attempt.wait_for([destination], error)

    def _is_for_a_person(self, goal: Goal, sender: Mailbox, fields: Sequence[Field]) -> bool:
        """RFC 3834 §2: sent by somebody, and to this account by name; a field that stands twice counts twice."""
        values = [(field.name, field.value.lower().strip()) for field in fields]
        if any(value.partition(";")[0].strip() != "no" for name, value in values if name == "auto-submitted"):
            return False
        if any(name.startswith("list-") or (name == "precedence" and value in _BULK) for name, value in values):
            return False
        words = [value.split(",") for name, value in values if name == "x-auto-response-suppress"]
        suppressed = {word.strip() for word in itertools.chain.from_iterable(words)}
        if suppressed & {"all", "oof", "autoreply"} or _PROGRAM.fullmatch(sender.local_part.lower()):
            return False
        try:
            named = mailboxes(fields, _RECIPIENT_FIELDS)
        except HeaderError:
            return False
        account = goal.account
        return (
            account is not None
            and sender.key != goal.mailbox.key
            and any(self._directory.may_send_as(account, each) for each in named)
        )

    def _plan_note(self, attempt: Attempt, mailbox: Mailbox, final: Path, destination: str) -> None:
        """That it was answered stands on disk before the answer is on its way: it is never given twice."""
        box = mailbox_path(self._mail, mailbox)
        draft = Draft(box / "tmp" / f"{unique_name(attempt.entry_id)}.answered")
        step = Step(Move(draft.path, final), (f"note {destination}",), kind=UNTOLD)
        attempt.plan_draft(draft, lambda draft: draft.write(b"\n"), step)

    def _plan_answer(self, attempt: Attempt, found: "_Answer") -> None:
        entry_id = attempt.derived_id("answer" + letters(found.account.key))
        now = Arrival(datetime.now(UTC), ANSWER)
        envelope = Envelope(Sender(None), (Recipient(found.sender),))
        if not (found.account.is_ascii and found.sender.is_ascii):
            envelope = envelope.saying_smtputf8()
        subject = found.away.subject or auto_subject(_raw(found.fields.get("subject")))
        head = Head(str(found.account), found.sender, subject, f"{entry_id}@{self._hostname}", now.moment)
        reference = _MESSAGE_ID.search(_raw(found.fields.get("message-id")).decode("latin-1"))

        def write(draft: Draft) -> None:
            draft.write(entry.render(envelope, now, entry_id))
            draft.write(trace.received(now, self._hostname, entry_id, envelope))
            draft.write(answer(head, found.away.text, reference.group() if reference else ""))

        draft = self._spool.draft(entry_id)
        move = Move(draft.path, self._spool.path(State.NEW, entry_id))
        needs = (f"note {found.destination}",)
        attempt.plan_draft(draft, write, Step(move, (found.destination,), needs, Kind.ACCEPTED, str(found.sender)))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is to be answered to whom, and to what: the fields of the header by name."""

    account: Mailbox
    sender: Mailbox
    away: Away
    fields: dict[str, Field]
    destination: str


def _raw(field: Field | None) -> bytes:
    return field.raw.partition(b":")[2].strip() if field else b""
