"""Whether a message fits into a mailbox: asked by `smtp` at RCPT, and by `delivery` for each letter.

Nobody is refused, and nobody warned, before the mailbox has been counted: a record that another program has made untrue
in a way that cannot be seen costs one listing, and no mail.
"""

import logging
import time
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mailsrv.model import reply
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Sender
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply
from mailsrv.store.maildir import mailbox_path
from mailsrv.store.quotas import Quota, Record, Usage, counted, is_true, marks_of, read_record, write_record
from mailsrv.work.route import Note, Route
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

# A mailbox that keeps changing, and takes so many seconds to be counted, is not counted again to say yes before so many
# times as long have passed: then one that is huge takes a twentieth of the time at most.
SLOW_COUNT: Final = 0.005
REST: Final = 20
WARNING_PAUSE: Final = 86_400.0  # seconds in which nobody is warned twice


def refusal_of(quota: Quota, usage: Usage, octets: int) -> Reply | None:
    """Why a message of so many octets does not fit, or None."""
    if quota.octets and octets > quota.octets:
        return reply.TOO_BIG_FOR_MAILBOX
    after = usage.plus(octets)
    is_full = quota.octets and after.octets > quota.octets
    return reply.MAILBOX_FULL if is_full or (quota.messages and after.messages > quota.messages) else None


class Gauge:
    """Reads how full mailboxes are; for programs that deliver nothing."""

    def __init__(self, directory: Directory, mail: Path) -> None:
        self._directory = directory
        self._mail = mail
        self._counts: dict[Path, tuple[Record, float]] = {}  # by mailbox, and until when that will do (monotonic)

    def refusal(self, mailbox: Mailbox, octets: int) -> Reply | None:
        """Why a message does not fit into the mailbox of an account; raises OSError. 0 octets: nobody knows yet."""
        quota = self._directory.quota(mailbox)
        if not quota:
            return None
        box = mailbox_path(self._mail, mailbox)
        record, is_exact = self._look(box)
        refusal = refusal_of(quota, record.usage, octets)
        if refusal is not None and not is_exact:
            refusal = refusal_of(quota, self._count(box).usage, octets)
        return refusal

    def refusal_of_all(self, route: Route, sender: Sender) -> Reply | None:
        """Why a message fits into none of the mailboxes that it leads to, if it leads to nothing else."""
        if not route.local or route.remote or route.lists:
            return None
        size = value_of(sender.parameters, "SIZE") or "0"  # RFC 1870 §6.1: what the client estimates
        refusals = [self._refusal_or_none(local.account.mailbox, int(size)) for local in route.local.values()]
        if None in refusals:
            return None
        return min((each for each in refusals if each), key=lambda each: each.code)  # temporary, if one is

    def _refusal_or_none(self, mailbox: Mailbox, octets: int) -> Reply | None:
        try:
            return self.refusal(mailbox, octets)
        except OSError as error:  # delivery will look again
            logger.warning("%s: what lies there cannot be counted: %s", mailbox, error.strerror)
            return None

    def usage(self, mailbox: Mailbox) -> Usage:
        """What lies in the mailbox of an account; raises OSError."""
        return self._look(mailbox_path(self._mail, mailbox))[0].usage

    def _look(self, box: Path) -> tuple[Record, bool]:
        """What is known, and whether that is so at this moment."""
        marks = marks_of(box)
        record = read_record(box)
        if is_true(record, marks):
            return record, True
        known, until = self._counts.get(box, (record, float("-inf")))
        if is_true(known, marks):
            return known, True
        if time.monotonic() < until:
            return known, False
        return self._count(box), True

    def _count(self, box: Path) -> Record:
        start = time.monotonic()
        record = counted(box)
        taken = time.monotonic() - start
        self._counts[box] = record, time.monotonic() + (taken * REST if taken > SLOW_COUNT else 0.0)
        return record


@dataclass(slots=True)
class _Filling:
    """A mailbox while a batch is planned: what lay there, and what the batch adds."""

    key: str
    record: Record
    is_counted: bool
    added: Usage

    @property
    def usage(self) -> Usage:
        there = self.record.usage
        return Usage(there.octets + self.added.octets, there.messages + self.added.messages)


class Filler:
    """Keeps the record of the mailboxes that delivery fills, one batch after the other."""

    def __init__(self, directory: Directory, mail: Path, warn_at: float) -> None:
        self._directory = directory
        self._mail = mail
        self._warn_at = warn_at  # percent
        self._fillings: dict[Path, _Filling] = {}
        self._is_spoiled = False

    def refusal(self, mailbox: Mailbox, octets: int) -> Reply | None:
        """Why a letter does not fit, those of this batch that were planned before being there; raises OSError."""
        quota = self._directory.quota(mailbox)
        if not quota:
            return None
        filling = self._filling(mailbox)
        refusal = refusal_of(quota, filling.usage, octets)
        if refusal is reply.MAILBOX_FULL and not filling.is_counted:
            self._count(mailbox, filling)
            refusal = refusal_of(quota, filling.usage, octets)
        return refusal

    def add(self, mailbox: Mailbox, octets: int) -> Usage | None:
        """A letter is planned; gives what lies there with it where its owner is to be warned. Raises OSError."""
        quota = self._directory.quota(mailbox)
        if not quota:
            return None
        filling = self._filling(mailbox)
        if self._crosses(quota, filling, octets) and not filling.is_counted:
            self._count(mailbox, filling)
        is_crossing = self._crosses(quota, filling, octets)
        filling.added = filling.added.plus(octets)
        if not is_crossing:
            return None
        filling.record = replace(filling.record, warned=time.time())
        return filling.usage

    def spoil(self) -> None:
        """A plan broke off: nobody knows what it added."""
        self._is_spoiled = True

    def settle(self, unserved: Container[str]) -> None:
        """The batch is carried out; what is `unserved`, by Mailbox.key, is counted next time."""
        for box, filling in self._fillings.items():
            try:
                if not filling.added.messages:
                    if filling.is_counted and box.exists():
                        write_record(box, filling.record)
                elif filling.key not in unserved and not self._is_spoiled:
                    there = filling.usage
                    marks = marks_of(box)
                    write_record(
                        box, replace(filling.record, octets=there.octets, messages=there.messages, marks=marks)
                    )
            except OSError as error:  # the disk is full, say: it is counted next time
                logger.warning("%s: what lies there cannot be written down: %s", box, error.strerror)
        self._fillings.clear()
        self._is_spoiled = False

    def _crosses(self, quota: Quota, filling: _Filling, octets: int) -> bool:
        share = self._warn_at / 100
        is_new = filling.usage.share_of(quota) < share <= filling.usage.plus(octets).share_of(quota)
        return is_new and abs(time.time() - filling.record.warned) > WARNING_PAUSE

    def _filling(self, mailbox: Mailbox) -> _Filling:
        box = mailbox_path(self._mail, mailbox)
        filling = self._fillings.get(box)
        if filling is None:
            record = read_record(box)
            is_counted = not is_true(record, marks_of(box))
            filling = _Filling(mailbox.key, counted(box, record.warned) if is_counted else record, is_counted, Usage())
            self._fillings[box] = filling
        return filling

    def _count(self, mailbox: Mailbox, filling: _Filling) -> None:
        filling.record = counted(mailbox_path(self._mail, mailbox), filling.record.warned)
        filling.is_counted = True


def explain_boxes(directory: Directory, gauge: Gauge, route: Route) -> list[Note]:
    """What is said of the mailboxes that a route leads to: how full they are, and whether somebody is away."""
    notes = []
    for local in route.local.values():
        mailbox = local.account.mailbox
        if quota := directory.quota(mailbox):
            usage = gauge.usage(mailbox)
            refusal = gauge.refusal(mailbox, 0)
            text = f"{usage.octets} of {quota.octets or 'any'} octets"
            text += f", {usage.messages} of {quota.messages or 'any'} messages{f': {refusal}' if refusal else ''}"
            notes.append(Note(0, str(mailbox), "quota", text))
        if directory.away(mailbox) is not None:
            notes.append(Note(0, str(mailbox), "away", "mail from people is answered"))
    return notes
