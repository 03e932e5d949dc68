"""Sending on what lies in `remote/`: each entry in hand until all its destinations have been heard of, then decided.

An entry is read, and decided, in turns with the operator's commands; while it is in hand, the journal says so, and no
command moves it. What a host says is in the journal before anything is done of it.
"""

import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mailsrv.config import Config
from mailsrv.host.resolver import Resolver
from mailsrv.model import outcome
from mailsrv.model.envelope import Recipient
from mailsrv.model.identity import EntryId
from mailsrv.model.international import domain_key
from mailsrv.store.entry import FormatError
from mailsrv.store.heartbeat import Fact
from mailsrv.store.journal import Journal, Told
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.retry import DONE, Fate, Retry, read_retry, write_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.carry import Carried
from mailsrv.work.desk import BATCH, Desk, Owner
from mailsrv.work.dialing import Dialer
from mailsrv.work.job import Errand, Job
from mailsrv.work.lanes import Lanes
from mailsrv.work.onward import Onward
from mailsrv.work.routes import Route, Ways

logger = logging.getLogger(__name__)

PROGRAM: Final = "relay"
MOST_IN_HAND: Final = 400  # entries: each holds a file open, and `health` looks at 500
FEW: Final = 3  # domains in a row that the DNS says nothing of; single ones may have broken nameservers


class Sender(Desk):
    """The relay's desk. `ring` is called, by any thread, when there is something to do; without ways, nothing is."""

    def __init__(
        self, config: Config, ways: Ways, ledger: Ledger, beat: Callable[[str], None], ring: Callable[[], None]
    ) -> None:
        spool = Spool(config.spool, PROGRAM)
        self._told: dict[EntryId, dict[str, Told]] = {}
        onward = Onward(config, spool, self._told_of)
        super().__init__(config, Owner(PROGRAM, State.REMOTE, config.relay_turns), spool, onward, ledger, beat)
        self._ways = ways
        self._ours_domains = frozenset(map(domain_key, config.domains))
        self._journal = Journal(spool.journal)
        self._jobs: dict[EntryId, Job] = {}
        self._heard: queue.SimpleQueue[tuple[Job, dict[str, Told]]] = queue.SimpleQueue()
        self._ring = ring
        resolver = Resolver(config.dns.nameservers, config.dns.timeout, config.dns.lifetime)
        self.lanes = Lanes(config, Dialer(config, resolver.ask), self._journal, self._hear)
        self._relayed = 0

    @property
    def spool(self) -> Spool:
        return self._spool

    @property
    def has_route(self) -> bool:
        return self._ways.lead_somewhere

    @property
    def in_hand(self) -> int:
        """Entries whose destinations have not all been heard of."""
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken in hand now."""
        return len(self._jobs) >= MOST_IN_HAND

    def recover(self) -> None:
        """Finish what an earlier process began, and learn what hosts have told it; raises OSError."""
        self._journal.recover()  # first: whatever is finished is over, and that is written into it
        super().recover()
        for entry_id, pending in self._journal.pending().items():
            if not self._spool.path(State.REMOTE, entry_id).exists():
                self._journal.over(entry_id)
                continue
            if pending.told:
                self._told[entry_id] = pending.told
            if pending.in_doubt:
                why = [str(outcome.IN_DOUBT)]
                logger.warning("%s: an earlier process was killed behind the final dot: it may come twice", entry_id)
                to = sorted(pending.in_doubt)
                self._books.write([line(Kind.DEFERRED, entry_id, to=to, why=why, in_doubt=True)])

    def turn(self) -> None:
        """Take up what is due, decide what has been heard of; raises OSError where the spool is out of reach."""
        if self._spool.is_asked_again():
            self.lanes.wake()
        self._look_again()
        self._schedule.read_some()
        self._finish()
        self.collect()
        self.lanes.look(is_full=self.is_full)
        if not self.has_route or self._is_stopping:
            return
        due = self._schedule.take(min(BATCH, MOST_IN_HAND - len(self._jobs)))
        with self._working_on(due):
            for entry_id in due:
                if entry_id not in self._jobs and entry_id not in self._carrier.unfinished:
                    self._begin(entry_id)
        self.collect()

    def stop(self) -> None:
        """Begin nothing more."""
        super().stop()
        self.lanes.stop()

    def close(self) -> None:
        """Decide what was heard of last; of the rest the journal keeps what was heard. Raises OSError."""
        self.collect()
        self._journal.close()

    def facts(self) -> dict[str, Fact]:
        """For the heartbeat."""
        return {
            "relayed": self._relayed,
            "waiting": len(self._schedule),
            "in_hand": len(self._jobs),
            "connections": self.lanes.lines,
            "workers": self.lanes.lines,  # a thread each
            "resting": len(self.lanes.resting()),
        }

    def problems(self) -> list[str]:
        """What an operator should know of. That a stranger's host is down is no problem of ours."""
        resting = self.lanes.resting()
        unknown = self.lanes.unknown_names()
        return [
            *(
                f"{route} cannot be used: {told.reply.text} ({told.where})"
                for route, told in resting
                if not route.domain
            ),
            *([f"names cannot be looked up: {unknown[0]}"] if len(unknown) >= FEW else []),
        ]

    # --- an entry ----------------------------------------------------------------------------------

    def _begin(self, entry_id: EntryId) -> None:
        try:
            with self._ours():
                if poison := self.hand.take(entry_id):
                    self._hold(State.REMOTE, entry_id, poison)
                    return
                retry = read_retry(self._spool.retry_path(entry_id, State.REMOTE)) or Retry(0, 0)
                file, block = self._spool.open(State.REMOTE, entry_id)
                try:
                    self._journal.begin(entry_id)
                except OSError:
                    file.close()
                    raise
            self.hand.empty()
        except FileNotFoundError:  # a person took it away
            self._schedule.forget(entry_id)
        except FormatError as error:
            with self._ours():
                self._hold(State.REMOTE, entry_id, str(error))
        except OSError as error:
            self._let_be(State.REMOTE, entry_id, error)
        else:
            known = self._told.get(entry_id, {})
            left = {each.forward_path.exact_key: each for each in block.envelope.recipients}
            left = {key: each for key, each in left.items() if not retry.is_done(key) and key not in known}
            job = Job(entry_id, file, block.length, block.envelope.sender, block.arrival)
            if left and not known and not any(self._is_sure_of(each) for each in left.values()):
                self._let_wait(job)
                return
            self._jobs[entry_id] = job
            self._send(job, left)

    def _is_sure_of(self, recipient: Recipient) -> bool:
        """Whether there is something to do for it, or to say of it."""
        return self._is_ours(recipient) or self._ways.to(recipient.forward_path.domain) is not None

    def _is_ours(self, recipient: Recipient) -> bool:
        return domain_key(recipient.forward_path.domain) in self._ours_domains

    def _let_wait(self, job: Job) -> None:
        """No route leads there: that is no attempt, and it waits for one as long as it takes."""
        job.file.close()
        self._journal.over(job.entry_id)
        self._schedule.let_be(job.entry_id, float("inf"))

    def _send(self, job: Job, recipients: Mapping[str, Recipient]) -> None:
        """One errand a destination."""
        errands: dict[Route, Errand] = {}
        for key, each in recipients.items():
            route = self._ways.to(each.forward_path.domain)
            if self._is_ours(each):
                job.told[key] = Told(outcome.OURS)
            elif route is None:
                job.told[key] = Told(outcome.NO_ROUTE)
            else:
                errands.setdefault(route, Errand(job, {})).recipients[key] = each
        job.left = max(1, len(errands))
        for route, errand in errands.items():
            self.lanes.put(route, errand)
        if not errands:
            self._hear(job, {})

    def _hear(self, job: Job, told: dict[str, Told]) -> None:
        self._heard.put((job, told))
        self._ring()

    def collect(self) -> None:
        """Decide the entries of which everything has been heard."""
        ready: list[EntryId] = []
        while not self._heard.empty():
            job, told = self._heard.get()
            job.told |= told
            job.left -= 1
            if job.left == 0:
                ready.append(job.entry_id)
        for entry_id in ready:
            job = self._jobs.pop(entry_id)
            job.file.close()
            self._told.setdefault(entry_id, {}).update(job.told)
            self._relayed += sum(1 for each in job.told.values() if each.reply.code < 400)
        with self._working_on(ready):  # what was heard of them stays known
            for start in range(0, len(ready), BATCH):
                self._settle([(State.REMOTE, entry_id) for entry_id in ready[start : start + BATCH]])

    def _give_back(self, entry_ids: Sequence[EntryId]) -> None:
        super()._give_back([each for each in entry_ids if each not in self._jobs])

    def _told_of(self, entry_id: EntryId) -> Mapping[str, Told]:
        return self._told.get(entry_id, {})

    def _note(self, carried: Carried) -> None:
        super()._note(carried)
        if carried.error is None:
            self._forget(carried.entry_id)

    def _hold(self, state: State, entry_id: EntryId, reason: str) -> None:
        try:
            self._keep_told(entry_id)
        except OSError as error:
            self._let_be(state, entry_id, error)
            return
        super()._hold(state, entry_id, reason)
        if not self._spool.path(state, entry_id).exists():
            self._forget(entry_id)

    def _keep_told(self, entry_id: EntryId) -> None:
        """Who was served before it came to be held is not served again when it is released; raises OSError."""
        path = self._spool.retry_path(entry_id, State.REMOTE)
        retry = read_retry(path) or Retry(0, time.time())
        how = {
            key: f"{each.where}: {each.reply}"
            for key, each in self._told_of(entry_id).items()
            if each.reply.code < 400 and not retry.is_done(key)
        }
        if how:
            self._books.write([line(Kind.RELAYED, entry_id, to=[key], how=text) for key, text in how.items()])
            served = {key: Fate(DONE, text) for key, text in how.items()}
            write_retry(path, replace(retry, destinations=retry.destinations | served))

    def _forget(self, entry_id: EntryId) -> None:
        self._told.pop(entry_id, None)
        try:
            self._journal.over(entry_id)
        except OSError as error:  # the next one that is over leaves this one out as well
            logger.warning("%s: that it is over cannot be written: %s", entry_id, error.strerror)
