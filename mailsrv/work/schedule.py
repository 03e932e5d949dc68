"""When deferred entries are due: a heap in memory, by the machine's own clock, rebuilt from the sidecars at start.

While they wait they cost nothing: nobody lists or opens them. What is found at start is read a few at a time, so that
new mail need not wait for a hundred thousand sidecars. The clock that people set decides nothing but where a pause
begins that an earlier process has begun; no pause is longer than the longest of the schedule, wherever it was set to.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from mailsrv.model.identity import EntryId
from mailsrv.store.retry import Retry

READING_SECONDS: Final = 0.002  # for sidecars, in one turn
JITTER: Final = 0.1  # retries that failed together do not come back together


class Schedule:
    """Which entries are deferred, and until when; `read` gives an entry's sidecar, or None where there is none."""

    def __init__(self, read: Callable[[EntryId], Retry | None], longest_pause: float) -> None:
        self._read = read
        self._longest = longest_pause * (1 + JITTER)
        self._heap: list[tuple[float, EntryId]] = []  # what was put anew stands in it twice; `_due` tells which counts
        self._due: dict[EntryId, float] = {}  # monotonic seconds
        self._since: dict[EntryId, float] = {}  # likewise, of those that this process has deferred
        self._unread: deque[EntryId] = deque()
        self._is_unread: set[EntryId] = set()

    def __len__(self) -> int:
        return len(self._due) + len(self._is_unread)

    def learn(self, found: Iterable[EntryId]) -> None:
        """Have exactly these entries be deferred; what is new among them is read later."""
        here = set(found)
        for entry_id in self._due.keys() - here:
            self.forget(entry_id)
        self._is_unread &= here
        for entry_id in sorted(here - self._due.keys() - self._is_unread):
            self.look_again(entry_id)

    def look_again(self, entry_id: EntryId) -> None:
        """Have the sidecar be read: it is new, or a person has changed it."""
        self.forget(entry_id)
        self._is_unread.add(entry_id)
        self._unread.append(entry_id)

    def read_some(self) -> None:
        """Read sidecars for a moment."""
        end = time.monotonic() + READING_SECONDS
        while self._unread and time.monotonic() < end:
            entry_id = self._unread.popleft()
            if entry_id in self._is_unread:
                self._is_unread.discard(entry_id)
                retry = self._read(entry_id)
                self._put(entry_id, min(retry.due - time.time(), self._longest) if retry else 0.0)

    def defer(self, entry_id: EntryId, pause: float) -> None:
        """Have an entry that was just tried wait for so many seconds."""
        self._put(entry_id, pause)
        self._since[entry_id] = time.monotonic()

    def let_be(self, entry_id: EntryId, pause: float) -> None:
        """Have an entry wait that could not be tried."""
        self._put(entry_id, pause)

    def give_back(self, entry_ids: Iterable[EntryId], pause: float) -> None:
        """Have those wait that were taken, and of which nothing has become."""
        now = time.monotonic()
        for entry_id in entry_ids:
            if self._due.get(entry_id, float("inf")) <= now:
                self._put(entry_id, pause)

    def forget(self, entry_id: EntryId) -> None:
        """It waits no more."""
        self._due.pop(entry_id, None)
        self._since.pop(entry_id, None)
        self._is_unread.discard(entry_id)

    def take(self, most: int) -> list[EntryId]:
        """The entries whose time has come, the longest overdue first; to be deferred again, let be or forgotten."""
        taken: list[EntryId] = []
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now and len(taken) < most:
            due, entry_id = heapq.heappop(self._heap)
            if self._due.get(entry_id) == due:
                taken.append(entry_id)
        return taken

    def waited(self, entry_id: EntryId) -> float | None:
        """Seconds since this process has deferred it; None where another one did."""
        since = self._since.get(entry_id)
        return None if since is None else time.monotonic() - since

    def seconds_until_due(self) -> float:
        """Until the next one is due, or is to be read."""
        if self._unread:
            return 0.0
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] - time.monotonic() if self._heap else float("inf")

    def _put(self, entry_id: EntryId, pause: float) -> None:
        due = time.monotonic() + max(pause, 0.0)
        self._is_unread.discard(entry_id)
        self._due[entry_id] = due
        heapq.heappush(self._heap, (due, entry_id))
