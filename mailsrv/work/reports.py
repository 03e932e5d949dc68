"""The part of a plan that is reports: of failure, of delay, of success (RFC 3461 §5.2), to whoever is to be told.

A report is an entry of its own, with a null reverse-path. What has no sender to tell, a report that fails say, is told
to postmaster, once, with the whole message; and where not even that can be delivered, it waits for a person.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mailsrv.config import Config
from mailsrv.model import trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.parameters import value_of
from mailsrv.protocol.report import Action, Content, Reported, Subject, is_international, report
from mailsrv.store import entry
from mailsrv.store.batch import Step
from mailsrv.store.durable import Draft, Move
from mailsrv.store.ledger import Kind
from mailsrv.store.spool import Spool, State
from mailsrv.work.attempt import Attempt

# Of the word `with=` in X-Arrived.
REPORT: Final = "report"
LAST_REPORT: Final = "report-to-postmaster"  # where it fails as well, nobody is left to be told

_KEYWORDS: Final = {Action.FAILED: "FAILURE", Action.DELAYED: "DELAY"}  # of all others it is SUCCESS


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told of a recipient: the destination that this serves, and those that must have been served."""

    destination: str
    recipient: Recipient
    reported: Reported
    needs: tuple[str, ...] = ()

    @property
    def is_wanted(self) -> bool:
        """Whether the sender wants to be told of it."""
        return wants(self.recipient, _KEYWORDS.get(self.reported.action, "SUCCESS"))


def wants(recipient: Recipient, keyword: str) -> bool:
    """Whether NOTIFY asks for it (RFC 3461 §4.1); a sender who says nothing is told of failure and of delay."""
    notify = value_of(recipient.parameters, "NOTIFY") or "FAILURE,DELAY"
    return keyword in notify.upper().split(",")


class Reporter:
    """Plans reports by the configuration."""

    def __init__(self, config: Config, spool: Spool) -> None:
        self._hostname = config.hostname
        self._postmaster = Mailbox("postmaster", config.domains[0])
        self._spool = spool

    def plan(self, attempt: Attempt, word: str, sender: Sender, news: Sequence[News]) -> None:
        """Tell `sender` in one report, named by `word`; what nobody wants to be told of is served by that."""
        for each in news:
            if not each.is_wanted:
                attempt.serve([each.destination], Kind.BOUNCED if each.reported.action is Action.FAILED else "")
        wanted = [each for each in news if each.is_wanted]
        if not wanted:
            return
        if sender.reverse_path is not None:
            is_whole = (value_of(sender.parameters, "RET") or "").upper() == "FULL"
            self._plan_report(attempt, word, sender, sender.reverse_path, wanted, is_whole=is_whole)
        elif attempt.arrival.protocol == LAST_REPORT:
            self._plan_held(attempt, wanted)
        else:
            self._plan_report(attempt, word, sender, self._postmaster, wanted, is_whole=True)

    def _plan_report(
        self, attempt: Attempt, word: str, sender: Sender, to: Mailbox, news: Sequence[News], *, is_whole: bool
    ) -> None:
        """RFC 3461 §4.3: a report of which no recipient failed returns the header only."""
        reported = tuple(each.reported for each in news)
        is_whole = is_whole and any(each.action is Action.FAILED for each in reported)
        entry_id = attempt.derived_id(word)
        subject = Subject(entry_id, sender, attempt.arrival, attempt.header)
        now = Arrival(datetime.now(UTC), REPORT if sender.reverse_path is not None else LAST_REPORT)
        # RFC 8689 §5: a report shows what the message was about, and asks for what the message asked for.
        parameters = tuple(each for each in sender.parameters if each[0] == "REQUIRETLS")
        envelope = Envelope(Sender(None, parameters), (Recipient(to),))
        if is_international(subject, reported):
            envelope = envelope.saying_smtputf8()

        def write(draft: Draft) -> None:
            draft.write(entry.render(envelope, now, entry_id))
            draft.write(trace.received(now, self._hostname, entry_id, envelope))
            content = _content_of(attempt) if is_whole else None
            write_all(draft, report(subject, reported, to, now, self._hostname, content))

        destinations = tuple(each.destination for each in news)
        needs = tuple(itertools.chain.from_iterable(each.needs for each in news))
        kind = Kind.BOUNCED if any(each.action is Action.FAILED for each in reported) else Kind.ACCEPTED
        draft = self._spool.draft(entry_id)
        move = Move(draft.path, self._spool.path(State.NEW, entry_id))
        attempt.plan_draft(draft, write, Step(move, destinations, needs, kind, str(to)))

    def _plan_held(self, attempt: Attempt, news: Sequence[News]) -> None:
        """A message that nobody can be told of waits for a person."""
        entry_id = attempt.derived_id("held")
        destinations = tuple(each.destination for each in news)
        reasons = "".join(f"{each.reported.forward_path}: {each.reported.reason}\n" for each in news)
        try:
            self._spool.explain(entry_id, f"It has no sender who could be told that it failed.\n{reasons}")
        except OSError as error:
            attempt.wait_for(destinations, error)
            return
        envelope = Envelope(attempt.sender, tuple(each.recipient for each in news))
        draft = self._spool.draft(entry_id)
        move = Move(draft.path, self._spool.path(State.HOLD, entry_id))
        attempt.plan_draft(draft, lambda draft: write_copy(draft, attempt, envelope), Step(move, destinations))


def write_copy(draft: Draft, attempt: Attempt, envelope: Envelope, header: bytes | None = None) -> None:
    """Write the message as an entry with another envelope, and with `header` in place of its own; raises OSError."""
    if not envelope.is_ascii:  # an alias of ours may lead there from an address in ASCII
        envelope = envelope.saying_smtputf8()
    block = entry.render(envelope, attempt.arrival, attempt.entry_id)
    write_all(
        draft,
        itertools.chain([block, attempt.header if header is None else header], attempt.pieces(len(attempt.header))),
    )


def write_all(draft: Draft, pieces: Iterator[bytes]) -> None:
    """Write pieces one after the other; raises OSError."""
    for piece in pieces:
        draft.write(piece)


def _content_of(attempt: Attempt) -> Content:
    is_ascii = all(piece.isascii() for piece in attempt.pieces())
    return Content(attempt.pieces(), is_ascii)
