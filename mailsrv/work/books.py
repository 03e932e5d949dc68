"""Keeping the books: which lines of the ledger stand for what the programs do with a message."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from mailsrv.model.envelope import Envelope
from mailsrv.model.identity import EntryId
from mailsrv.store.batch import UNTOLD, Plan, Step
from mailsrv.store.durable import Outcome
from mailsrv.store.ledger import Kind, Ledger, Line, line
from mailsrv.store.retry import DONE, Retry
from mailsrv.store.spool import Spool, State

MAX_SHOWN: Final = 1000  # characters of a field of the header, which may be encoded words
_GOOD_NEWS: Final = ("success ", "expansion ")  # destinations of what a report of failure tells besides
_OF_A_COPY: Final = ("from", "message_id", "subject")  # what it shares with the message that it is a copy of
KNOWN_BY: Final = frozenset({"message-id", "subject"})
_FIELD: Final = re.compile(rb"^(message-id|subject):[ \t]*((?:[^\r\n]|\r?\n[ \t])*)", re.I | re.M)


def about(header: bytes) -> dict[str, str]:
    """What people know a message by: `message_id` and `subject`, as they stand in the header, unfolded and cut."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(header):
        text = " ".join(value.decode("utf-8", "replace").split())
        found.setdefault(name.decode("ascii").lower().replace("-", "_"), text[:MAX_SHOWN])
    return found


def arrived(kind: Kind, entry_id: EntryId, envelope: Envelope, octets: int, **facts: str) -> Line:
    """A new entry, accepted or claimed; facts that are empty are left out."""
    return line(
        kind,
        entry_id,
        **{"from": str(envelope.sender.reverse_path or "")},
        to=[str(recipient.forward_path) for recipient in envelope.recipients],
        octets=octets,
        **{name: value for name, value in facts.items() if value},
    )


class Books:
    """The lines of delivery and of the relay."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._new = spool.folder(State.NEW)
        self._hold = spool.folder(State.HOLD)
        self._remote = spool.folder(State.REMOTE)

    def write(self, lines: Sequence[Line]) -> int:
        """Write lines; gives the descriptor to sync, or -1."""
        return self._ledger.write(lines)

    def carried(self, plans: Sequence[Plan], outcomes: dict[int, Outcome], *, again: bool = False) -> int:
        """Note what has just been made visible, before the entries go; outcomes by the identity of the step."""
        lines: list[Line] = []
        for plan in plans:
            steps = [step for step in plan.steps if outcomes[id(step)] is None]
            found = self._lines_of(plan, steps, again=again)
            if not found and all(fate.state == DONE for fate in plan.fates.values()) and not plan.due:
                # Nothing is left to do, since an alias leads elsewhere now, say.
                found = [line(Kind.DELIVERED, plan.entry_id, **plan.about, to=[], again=True)]
            lines += found
        return self._ledger.write(lines) if lines else -1

    def deferred(self, plan: Plan, retry: Retry) -> None:
        """Note that an entry waits."""
        waiting = {key: fate.error for key, fate in retry.destinations.items() if fate.state != DONE}
        facts = {**plan.about, "to": list(waiting), "why": list(dict.fromkeys(waiting.values()))}
        self._ledger.write(
            [line(Kind.DEFERRED, plan.entry_id, **facts, attempts=retry.attempts, due=round(retry.due, 3))]
        )

    def _lines_of(self, plan: Plan, steps: Iterable[Step], *, again: bool) -> list[Line]:
        lines: list[Line] = []
        restated = {"again": True} if again else {}
        delivered: list[str] = []
        for step in steps:
            if step.move.final.parent == self._new:
                lines += self._made(plan, step, Kind(step.kind or Kind.ACCEPTED), restated)
            elif step.move.final.parent == self._hold:
                lines += self._made(plan, step, Kind.HELD, restated)
            elif step.move.final.parent == self._remote:
                lines += self._made(plan, step, Kind.ACCEPTED, restated)
            elif step.kind != UNTOLD:
                delivered += step.destinations
        if delivered:
            lines.append(line(Kind.DELIVERED, plan.entry_id, **plan.about, to=delivered, **restated))
        for kind, how in dict.fromkeys((fate.kind, fate.error) for fate in plan.fates.values() if fate.kind):
            keys = [key for key, fate in plan.fates.items() if (fate.kind, fate.error) == (kind, how)]
            facts: dict[str, object] = {"again": True} if kind == Kind.DELIVERED else dict(restated)
            if how:
                facts["how"] = how
            lines.append(line(Kind(kind), plan.entry_id, **plan.about, to=keys, **facts))
        return lines

    def _made(self, plan: Plan, step: Step, kind: Kind, restated: dict[str, bool]) -> list[Line]:
        """An entry that was made of this one, and what that is to the destinations that it serves."""
        made = step.move.final.name
        if step.to:
            facts: dict[str, object] = {"from": "", "to": [step.to]}
        else:
            to = [key.removeprefix("report ") for key in step.destinations]
            facts = {**{name: plan.about[name] for name in _OF_A_COPY if name in plan.about}, "to": to}
        if routes := plan.about.get("routes"):  # of a message that is only sent on, no other line tells
            facts["routes"] = routes
        # A report of success or of delay is beside what becomes of the recipients.
        serves = [] if step.to and kind is Kind.ACCEPTED else list(step.destinations)
        lines = [line(Kind.ACCEPTED, made, **facts, of=plan.entry_id, serves=serves, **restated)]
        if kind is not Kind.ACCEPTED:
            failed = [key for key in step.destinations if not key.startswith(_GOOD_NEWS)]
            about_it = {**plan.about, "to": failed, "entry": made}
            lines.append(line(kind, plan.entry_id, **about_it, **restated))
        return lines
