"""One thread that makes the drafts of many sessions durable together, and tells each session when its own is."""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from mailsrv.store.durable import Draft, Outcome, publish
from mailsrv.store.ledger import Ledger, Line
from mailsrv.store.spares import Stock

LEDGER_PAUSE: Final = 1.0  # seconds until lines of the ledger that could not be written are tried again


class GroupCommit:
    """A thread that publishes drafts in groups: whatever was submitted while the last group was being synced.

    `notify` is called in the thread once a group, with a function to be called where the submitters live
    (`loop.call_soon_threadsafe` fits); that function calls each submitter's `done` with its outcome. Before that the
    lines of all that were published are written into the ledger: what is acknowledged stands in the books.
    """

    def __init__(
        self,
        notify: Callable[[Callable[[], None]], object],
        ledger: Ledger,
        stock: Stock | None = None,
        most: int = 256,
    ) -> None:
        self._notify = notify
        self._ledger = ledger
        self._stock = stock
        self._most = most
        self._waiting: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, draft: Draft, final: Path, line: Line, done: Callable[[Outcome], None]) -> None:
        """Publish `draft` as `final` soon; from now on the draft is not the caller's."""
        self._waiting.put(_Submission(draft, final, line, done))

    def is_alive(self) -> bool:
        """Whether the thread runs; without it nothing is ever acknowledged."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            spares = self._stock.look() if self._stock else []
            outcomes = publish([(each.draft, each.final) for each in group])
            if self._stock and not any(outcomes):  # the folder of the finals is synced
                self._stock.add(spares)
            self._ledger.write([each.line for each, outcome in zip(group, outcomes, strict=True) if outcome is None])
            finished = list(zip(group, outcomes, strict=True))
            self._notify(functools.partial(_tell, finished))

    def _next_group(self) -> "list[_Submission]":
        group: list[_Submission] = []
        submission = self._next()
        while submission is not None:
            group.append(submission)
            if len(group) == self._most or self._waiting.empty():
                return group
            submission = self._waiting.get()
        if group:
            self._waiting.put(None)  # seen once, needed again after this group
        return group

    def _next(self) -> "_Submission | None":
        """The next one; meanwhile lines of the ledger are written that could not be."""
        while self._ledger.problem:
            with contextlib.suppress(queue.Empty):
                return self._waiting.get(timeout=LEDGER_PAUSE)
            self._ledger.retry()
        return self._waiting.get()


class _Submission(NamedTuple):
    draft: Draft
    final: Path
    line: Line
    done: Callable[[Outcome], None]


def _tell(finished: list[tuple[_Submission, Outcome]]) -> None:
    for submission, outcome in finished:
        submission.done(outcome)
