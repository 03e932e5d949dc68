"""How long entries lie in `new/` until they are decided, whatever the clock is set to meanwhile.

An id tells when it was made, by a clock that may have been set since. So it is asked only when the entry is first seen,
and believed no further than to the last look at which it was not there; from then on the machine's own clock counts.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.store import durable
from mailsrv.store.heartbeat import read_worst, write_worst

logger = logging.getLogger(__name__)

GROWTH: Final = 1.1  # a wait is kept once it is longer by so much


class Waits:
    """`worst` is the longest wait ever seen, in seconds, kept at `path` over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        durable.forget_draft_of(path)
        self.worst = self._kept = read_worst(path)
        self._here: dict[EntryId, float] = {}  # since when (monotonic)
        self._last_look = float("-inf")
        self._decided: set[EntryId] = set()  # since then

    def look(self, entries: Sequence[EntryId]) -> None:
        """These are in `new/` now."""
        now = time.monotonic()
        self._here = {each: self._here.get(each) or self._since(each) for each in entries}
        self._last_look = now
        self._decided.clear()

    def decided(self, entries: Iterable[EntryId]) -> None:
        """These have just been decided."""
        decided = list(entries)
        self._decided.update(decided)
        self.worst = max([self.worst, *map(self._wait, decided)])
        if self.worst > self._kept * GROWTH:
            try:
                write_worst(self._path, self.worst)
                self._kept = self.worst
            except OSError as error:  # the disk is full, say: the next wait that is as long is kept
                logger.warning("the worst wait cannot be written: %s", error.strerror)

    def oldest(self) -> float:
        """The longest wait of those that are there, in seconds."""
        return max((self._wait(each) for each in self._here if each not in self._decided), default=0.0)

    def _wait(self, entry_id: EntryId) -> float:
        return time.monotonic() - (self._here.get(entry_id) or self._since(entry_id))

    def _since(self, entry_id: EntryId) -> float:
        told = time.monotonic() - max(0.0, time.time() - arrival_of(entry_id).timestamp())
        return max(told, self._last_look)
