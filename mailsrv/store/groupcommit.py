"""Makes the drafts of many sessions durable together, and tells each session when its own is.

All work is done where the submitters live, but for waiting for the disk: that is left to a thread, which does nothing
else. Two threads that both make system calls hand Python's lock to one another at each of them: with the renames and
the ledger in the thread as well, there were 15 to 30 such hand-overs a message, with a second group under way beside
the first 6 to 15, so 2 to 6 (docs/PERFORMANCE.md).

Submitters that are at it together are waited for, if not for long: two that take turns would each pay for a group.
"""

import contextlib
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from mailsrv.store.company import Company
from mailsrv.store.durable import Draft, Outcome, Wait, publishing
from mailsrv.store.ledger import Ledger, Line
from mailsrv.store.spares import Stock

logger = logging.getLogger(__name__)

QUICK: Final = 0.005  # seconds; who is alone waits so long itself, in place of the thread
LONGEST_GATHERING: Final = 0.01  # seconds that a group waits for those who were in the last ones


class Loop(Protocol):
    """Where the submitters live."""

    def call_soon(self, work: Callable[[], None]) -> None:
        """Have `work` called there, once all else of this turn is done; to be called from there."""

    def call_later(self, seconds: float, work: Callable[[], None]) -> None:
        """The same after so many seconds."""

    def call_from_thread(self, work: Callable[[], None]) -> None:
        """Have `work` called there; to be called from any thread."""


class GroupCommit:
    """Publishes drafts in groups: what was submitted while the last one was being synced, and soon after it.

    Each submitter's `done` is called in the `loop` with its outcome. Before that the lines of all that were published
    are written into the ledger: what is acknowledged stands in the books.

    `is_alone` says whether nobody else would be kept waiting: then the thread is passed over, where the disk was quick
    the last time.
    """

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        stock: Stock | None = None,
        most: int = 256,
        is_alone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._stock = stock
        self._most = most
        self._is_alone = is_alone
        self._submitted: list[_Submission] = []
        self._company = Company()
        self._gathering: object | None = None  # a group that waits to be begun, as long as it does
        self._is_busy = False  # a group is under way, or about to be
        self._is_broken = False  # by a fault of ours
        self._taken = 0.0  # seconds of the last wait
        self._waits: queue.SimpleQueue[tuple[_Group, Wait] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, draft: Draft, final: Path, line: Line, done: Callable[[Outcome], None]) -> None:
        """Publish `draft` as `final` soon; from now on the draft is not the caller's."""
        self._submitted.append(_Submission(draft, final, line, done))
        self._begin_soon()

    def is_alive(self) -> bool:
        """Whether all is well; else nothing would ever be acknowledged again."""
        return self._thread.is_alive() and not self._is_broken

    def problem(self) -> str:
        """Why lines of the ledger could not be written, after they were tried again; empty is well."""
        self._ledger.retry()
        return self._ledger.problem

    def stop(self) -> None:
        """End the thread, after what it waits for."""
        self._waits.put(None)
        self._thread.join()

    def _run(self) -> None:
        while asked := self._waits.get():
            group, wait = asked
            self._loop.call_from_thread(functools.partial(self._go_on, group, self._waited(wait)))

    def _waited(self, wait: Wait) -> list[Outcome]:
        start = time.monotonic()
        outcomes = wait()
        self._taken = time.monotonic() - start
        return outcomes

    # --- where the submitters live -----------------------------------------------------------------

    def _begin_soon(self) -> None:
        """Begin the next group with what else is submitted in this turn, or when all are there who may be expected."""
        if not self._submitted or self._is_busy:
            return
        if not self._is_alone() and self._company.is_awaited(len(self._submitted)):
            self._gather()
        else:
            self._is_busy, self._gathering = True, None
            self._loop.call_soon(self._begin)

    def _gather(self) -> None:
        if self._gathering is None:
            self._gathering = gathering = object()
            self._loop.call_later(LONGEST_GATHERING, lambda: self._end_gathering(gathering))

    def _end_gathering(self, gathering: object) -> None:
        if self._gathering is gathering:
            self._company.has_not_come()
            self._begin_soon()

    def _begin(self) -> None:
        submissions, self._submitted = self._submitted[: self._most], self._submitted[self._most :]
        with self._faults_seen():
            group = _Group(submissions, self._stock.look(len(submissions)) if self._stock else [])
            self._publish(group, None)

    def _go_on(self, group: "_Group", outcomes: list[Outcome]) -> None:
        with self._faults_seen():
            self._publish(group, outcomes)

    def _publish(self, group: "_Group", outcomes: list[Outcome] | None) -> None:
        """As far as the disk lets us."""
        try:
            while True:
                wait = next(group.steps) if outcomes is None else group.steps.send(outcomes)
                if self._taken > QUICK or not self._is_alone():
                    self._waits.put((group, wait))
                    return
                outcomes = self._waited(wait)
        except StopIteration as end:
            self._tell(group, end.value)

    @contextlib.contextmanager
    def _faults_seen(self) -> Iterator[None]:
        """A group that broke off is never told of, and none is begun after it: `is_alive` says so."""
        try:
            yield
        except BaseException:
            self._is_broken = True
            raise

    def _tell(self, group: "_Group", outcomes: list[Outcome]) -> None:
        if self._stock and not any(outcomes):  # the folder of the finals is synced
            self._stock.add(group.spares)
        finished = list(zip(group.submissions, outcomes, strict=True))
        self._ledger.write([each.line for each, outcome in finished if outcome is None])
        self._is_busy = False
        self._company.finished(len(finished), min(len(self._submitted), self._most - len(finished)))
        for submission, outcome in finished:
            try:
                submission.done(outcome)
            except Exception:  # a fault of ours with one session must not take the others down
                logger.exception("a session could not be told of its message")
        self._begin_soon()


class _Submission(NamedTuple):
    draft: Draft
    final: Path
    line: Line
    done: Callable[[Outcome], None]


class _Group:
    """What is published together, and the spare files that were seen before its folder is synced."""

    def __init__(self, submissions: list[_Submission], spares: list[str]) -> None:
        self.submissions = submissions
        self.spares = spares
        self.steps = publishing([(each.draft, each.final) for each in submissions])
