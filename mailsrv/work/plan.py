"""Deciding an entry: who gets it, by which files, written but not yet visible.

Nothing here can be seen from outside: a plan is drafts in `tmp/` folders and a list of renames. `work.carry` makes
them durable and carries them out. A fault of ours with one destination makes that destination wait; the others go on.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from mailsrv.config import Config
from mailsrv.model import reply, trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import EntryId, arrival_of, derived_id
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply
from mailsrv.protocol.report import FailedRecipient, Subject, failure_report, is_international
from mailsrv.store import durable, entry, maildir
from mailsrv.store.accounts import Account
from mailsrv.store.batch import Plan, Step
from mailsrv.store.durable import Draft, Move, copy_name
from mailsrv.store.entry import Block
from mailsrv.store.ledger import Kind
from mailsrv.store.maildir import Maildir
from mailsrv.store.retry import DONE, WAITING, Fate, Retry, read_retry, waiting_after
from mailsrv.store.spool import Spool, State
from mailsrv.work import books
from mailsrv.work.octets import pieces_of, unparted
from mailsrv.work.routing import Directory, Route

MAX_REPORTED_HEADER: Final = 64 * 1024


@dataclass(slots=True)
class Written:
    """The drafts of a plan that still have to be settled, each with the steps that hang on it."""

    draft: Draft
    steps: list[Step]


@dataclass(slots=True)
class _Work:
    """An entry while it is being decided."""

    entry_id: EntryId
    state: State
    file: BinaryIO
    block: Block
    retry: Retry
    is_suspect: bool  # an earlier attempt may have delivered parts of it
    written: list[Written] = field(default_factory=list)
    fates: dict[str, Fate] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)  # for the books

    def __post_init__(self) -> None:
        # What is done stays done, also while a broken file hides that anything leads there.
        self.fates |= {key: fate for key, fate in self.retry.destinations.items() if self.retry.is_done(key)}

    @property
    def sender(self) -> Sender:
        return self.block.envelope.sender

    @property
    def arrival(self) -> Arrival:
        return self.block.arrival or Arrival(arrival_of(self.entry_id), "drop")

    def derived_id(self, word: str) -> EntryId:
        """The id of what this attempt leads to: a later one may lead to more, while this is still on its way."""
        return derived_id(self.entry_id, word, self.retry.attempts)

    def has_yet_to_serve(self, destination: str) -> bool:
        return destination not in self.fates

    def wait(self, destinations: Iterable[str], error: OSError) -> None:
        for destination in destinations:
            self.fates[destination] = waiting_after(error)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A recipient that cannot be served, and the destination that a report of it serves."""

    recipient: Recipient
    reason: Reply
    destination: str

    def is_unwanted(self) -> bool:
        """RFC 3461 §4.1: the sender may ask for no report of failure."""
        notify = value_of(self.recipient.parameters, "NOTIFY") or "FAILURE"
        return "FAILURE" not in notify.upper().split(",")


class Planner:
    """Decides entries by the configuration and the directory as they stand."""

    def __init__(self, config: Config, spool: Spool, directory: Directory) -> None:
        self._config = config
        self._spool = spool
        self._directory = directory

    def plan(self, state: State, entry_id: EntryId, *, is_suspect: bool) -> tuple[Plan, list[Written]]:
        """A plan for an entry, its drafts written; raises OSError, or FormatError where the file is no entry."""
        retry = (read_retry(self._spool.retry_path(entry_id)) if state is State.DEFERRED else None) or Retry(0, 0)
        file, block = self._spool.open(state, entry_id)
        with file:
            work = _Work(entry_id, state, file, block, retry, is_suspect)
            work.about = {"from": str(work.sender.reverse_path or ""), **books.about(_header_of(work))}
            try:
                self._decide(work)
            except BaseException:
                _discard(work.written)
                raise
        steps = tuple(step for written in work.written for step in written.steps)
        return Plan(entry_id, state, retry.attempts, steps, work.fates, work.about), work.written

    def _decide(self, work: _Work) -> None:
        local: dict[str, Account] = {}
        remote: dict[str, Recipient] = {}
        refused: dict[str, _Refusal] = {}
        for recipient in work.block.envelope.recipients:
            route = self._directory.route(recipient.forward_path)
            self._note_route(work, recipient.forward_path, route)
            local.update(route.local)
            for key, mailbox in route.remote.items():
                remote[key] = recipient if mailbox == recipient.forward_path else Recipient(mailbox)
            if route.refusal is not None:
                refusal = _Refusal(recipient, route.refusal, f"report {recipient.forward_path.key}")
                if route.refusal.is_permanent:
                    refused.setdefault(refusal.destination, refusal)
                elif work.has_yet_to_serve(refusal.destination):
                    work.fates[refusal.destination] = Fate(WAITING, str(route.refusal))
        accounts = [account for key, account in local.items() if work.has_yet_to_serve(key)]
        if self._is_expired(work):
            for each in accounts:
                refused[each.mailbox.key] = _Refusal(Recipient(each.mailbox), reply.EXPIRED, each.mailbox.key)
            accounts = []
        self._plan_local(work, accounts)
        self._plan_remote(work, [recipient for key, recipient in remote.items() if work.has_yet_to_serve(key)])
        self._plan_refused(work, [each for each in refused.values() if work.has_yet_to_serve(each.destination)])

    def _note_route(self, work: _Work, forward_path: Mailbox, route: Route) -> None:
        """For the books: to which destinations a recipient leads, unless it is the only one itself."""
        keys = [*route.local, *route.remote]
        if route.refusal is not None:
            keys.append(f"report {forward_path.key}")
        if keys != [str(forward_path)]:
            work.about.setdefault("routes", {})[str(forward_path)] = keys

    def _is_expired(self, work: _Work) -> bool:
        age = datetime.now(UTC) - arrival_of(work.entry_id)
        return work.retry.attempts > 0 and age.total_seconds() > self._config.delivery.give_up_after

    # --- mailboxes here ----------------------------------------------------------------------------

    def _plan_local(self, work: _Work, accounts: list[Account]) -> None:
        first: tuple[Written, int, int] | None = None
        prefix = trace.return_path(work.sender.reverse_path)
        if len(accounts) == 1:
            prefix += trace.delivered_to(accounts[0].mailbox)
        for account in accounts:
            try:
                box = self._open_maildir(account)
                if work.is_suspect and maildir.unique_name(work.entry_id) in box.uniques():
                    work.fates[account.mailbox.key] = Fate(DONE, kind=Kind.DELIVERED)
                elif first is not None and self._link(work, first, box, account):
                    continue
                else:
                    first = self._write(work, box, account, prefix)
            except OSError as error:
                work.wait([account.mailbox.key], error)

    def _open_maildir(self, account: Account) -> Maildir:
        box = Maildir(maildir.mailbox_path(self._config.mail, account.mailbox))
        box.create()
        return box

    def _write(self, work: _Work, box: Maildir, account: Account, prefix: bytes) -> tuple[Written, int, int]:
        draft = box.draft(work.entry_id)
        try:
            lines = _write_with_lf(draft, prefix, _pieces(work))
            draft.flush()
        except BaseException:
            draft.abort()
            raise
        move = box.move_of(work.entry_id, draft.size, lines)
        written = Written(draft, [Step(move, (account.mailbox.key,))])
        work.written.append(written)
        return written, draft.size, lines

    def _link(self, work: _Work, first: tuple[Written, int, int], box: Maildir, account: Account) -> bool:
        """Content is written once a message: the other mailboxes of a filesystem get a hard link."""
        written, octets, lines = first
        move = box.move_of(work.entry_id, octets, lines)
        if not copy_name(written.draft.path, move.draft):
            return False
        written.steps.append(Step(move, (account.mailbox.key,)))
        return True

    # --- everybody else ----------------------------------------------------------------------------

    def _plan_remote(self, work: _Work, recipients: list[Recipient]) -> None:
        if recipients:
            keys = tuple(recipient.forward_path.exact_key for recipient in recipients)
            entry_id = work.derived_id("remote")
            self._plan_entry(work, entry_id, State.REMOTE, keys, lambda draft: _write_entry(draft, work, recipients))

    def _plan_refused(self, work: _Work, refused: list[_Refusal]) -> None:
        reported = [refusal for refusal in refused if not refusal.is_unwanted()]
        unwanted = Fate(DONE, kind=Kind.BOUNCED)
        work.fates |= {refusal.destination: unwanted for refusal in refused if refusal.is_unwanted()}
        if not reported:
            return
        keys = tuple(refusal.destination for refusal in reported)
        sender = work.sender.reverse_path
        if sender is None:
            self._plan_held(work, keys, reported)
        else:
            entry_id = work.derived_id("report")
            report = self._report(work, sender, reported)
            self._plan_entry(work, entry_id, State.NEW, keys, lambda draft: _write_all(draft, report))

    def _plan_held(self, work: _Work, keys: tuple[str, ...], refused: list[_Refusal]) -> None:
        """A message without a sender to tell, a report usually, waits for a person."""
        entry_id = work.derived_id("held")
        reasons = "".join(f"{each.recipient.forward_path}: {each.reason}\n" for each in refused)
        recipients = [each.recipient for each in refused]
        try:
            self._spool.explain(entry_id, f"It has no sender who could be told that it failed.\n{reasons}")
        except OSError as error:
            work.wait(keys, error)
            return
        self._plan_entry(work, entry_id, State.HOLD, keys, lambda draft: _write_entry(draft, work, recipients))

    def _report(self, work: _Work, sender: Mailbox, refused: list[_Refusal]) -> list[bytes]:
        now = Arrival(datetime.now(UTC), "report")
        entry_id = work.derived_id("report")
        # RFC 8689 §5: a report shows what the message was about, and asks for what the message asked for.
        parameters = tuple(each for each in work.sender.parameters if each[0] == "REQUIRETLS")
        envelope = Envelope(Sender(None, parameters), (Recipient(sender),))
        failed = [
            FailedRecipient(each.recipient.forward_path, value_of(each.recipient.parameters, "ORCPT"), each.reason)
            for each in refused
        ]
        subject = Subject(work.entry_id, work.sender, work.arrival, _header_of(work))
        if is_international(subject, failed):
            envelope = envelope.saying_smtputf8()
        hostname = self._config.hostname
        return [
            entry.render(envelope, now, entry_id),
            trace.received(now, hostname, entry_id, envelope),
            failure_report(subject, failed, now, hostname),
        ]

    def _plan_entry(
        self, work: _Work, entry_id: EntryId, state: State, keys: tuple[str, ...], write: Callable[[Draft], None]
    ) -> None:
        draft = self._spool.draft(entry_id)
        try:
            write(draft)
            draft.flush()
        except BaseException as error:
            draft.abort()
            if not isinstance(error, OSError):
                raise
            work.wait(keys, error)
            return
        move = Move(draft.path, self._spool.path(state, entry_id))
        work.written.append(Written(draft, [Step(move, keys)]))


def _discard(written: Iterable[Written]) -> None:
    """Leave nothing in the Maildirs of a plan that broke off."""
    for each in written:
        each.draft.close()
        durable.forget([step.move.draft for step in each.steps])


def _pieces(work: _Work) -> Iterable[bytes]:
    work.file.seek(work.block.length)
    return pieces_of(work.file)


def _write_with_lf(draft: Draft, prefix: bytes, pieces: Iterable[bytes]) -> int:
    """Write with LF for CRLF; gives the number of lines."""
    lines = 0
    for block in unparted(itertools.chain([prefix], pieces)):
        octets = block.replace(b"\r\n", b"\n")
        lines += octets.count(b"\n")
        draft.write(octets)
    return lines


def _write_entry(draft: Draft, work: _Work, recipients: list[Recipient]) -> None:
    """A copy of the entry for some of its recipients."""
    envelope = Envelope(work.sender, tuple(recipients))
    if not envelope.is_ascii:  # an alias of ours may lead there from an address in ASCII
        envelope = envelope.saying_smtputf8()
    block = entry.render(envelope, work.arrival, work.entry_id)
    _write_all(draft, itertools.chain([block], _pieces(work)))


def _write_all(draft: Draft, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        draft.write(piece)


def _header_of(work: _Work) -> bytes:
    work.file.seek(work.block.length)
    return work.file.read(MAX_REPORTED_HEADER).partition(b"\r\n\r\n")[0]
