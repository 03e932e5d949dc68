"""Sending on what lies in `remote/`: each entry in hand until all its destinations have been heard of, then decided.

An entry is read, and decided, in turns with the operator's commands; while it is in hand, the journal says so, and no
command moves it. What a host says is in the journal before anything is done of it.
"""

import logging
import queue
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.model.envelope import Recipient
from mailsrv.model.identity import EntryId
from mailsrv.model.international import domain_key
from mailsrv.store.entry import FormatError
from mailsrv.store.heartbeat import Fact
from mailsrv.store.journal import Journal, Told
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.retry import Retry, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.carry import Carried
from mailsrv.work.desk import BATCH, Desk, Owner
from mailsrv.work.job import Errand, Job
from mailsrv.work.lanes import Lanes
from mailsrv.work.onward import Onward
from mailsrv.work.routes import Route

logger = logging.getLogger(__name__)

PROGRAM: Final = "relay"
MOST_IN_HAND: Final = 500  # entries: each holds a file open


class Sender(Desk):
    """The relay's desk. `ring` is called, by any thread, when there is something to do; without a route, nothing is."""

    def __init__(
        self, config: Config, route: Route | None, ledger: Ledger, beat: Callable[[str], None], ring: Callable[[], None]
    ) -> None:
        spool = Spool(config.spool, PROGRAM)
        self._told: dict[EntryId, dict[str, Told]] = {}
        onward = Onward(config, spool, self._told_of)
        super().__init__(config, Owner(PROGRAM, State.REMOTE, config.relay_turns), spool, onward, ledger, beat)
        self._route = route
        self._ours_domains = frozenset(map(domain_key, config.domains))
        self._journal = Journal(spool.journal)
        self._jobs: dict[EntryId, Job] = {}
        self._heard: queue.SimpleQueue[tuple[Job, dict[str, Told]]] = queue.SimpleQueue()
        self._ring = ring
        self.lanes = Lanes(config, self._journal, self._hear)
        self._relayed = 0

    @property
    def spool(self) -> Spool:
        return self._spool

    @property
    def has_route(self) -> bool:
        return self._route is not None

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
        super().recover()
        for entry_id, pending in self._journal.recover().items():
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
        if self._route is None or self._is_stopping:
            return
        due = self._schedule.take(min(BATCH, MOST_IN_HAND - len(self._jobs)))
        with self._working_on(due):
            for entry_id in due:
                if entry_id not in self._jobs and entry_id not in self._carrier.unfinished:
                    self._begin(entry_id, self._route)
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
        }

    # --- an entry ----------------------------------------------------------------------------------

    def _begin(self, entry_id: EntryId, route: Route) -> None:
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
            self._jobs[entry_id] = job
            self._send(job, left, route)

    def _send(self, job: Job, recipients: Mapping[str, Recipient], route: Route) -> None:
        """One errand a destination."""
        ours = {key for key, each in recipients.items() if domain_key(each.forward_path.domain) in self._ours_domains}
        job.told |= dict.fromkeys(ours, Told(outcome.OURS))
        errands = [Errand(job, {key: each for key, each in recipients.items() if key not in ours})]
        errands = [each for each in errands if each.recipients]
        job.left = len(errands)
        for each in errands:
            self.lanes.put(route, each)
        if not errands:
            job.left = 1
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
        super()._hold(state, entry_id, reason)
        if not self._spool.path(state, entry_id).exists():
            self._forget(entry_id)

    def _forget(self, entry_id: EntryId) -> None:
        self._told.pop(entry_id, None)
        try:
            self._journal.over(entry_id)
        except OSError as error:  # the next one that is over leaves this one out as well
            logger.warning("%s: that it is over cannot be written: %s", entry_id, error.strerror)
