"""A loop for what is told from other threads and for what is to be done later, as small as one can be."""

import queue
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 30.0  # seconds


class Loop:
    """What it is given is called where `run_until` runs."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, work: Callable[[], None]) -> None:
        self._todo.put(work)

    def call_from_thread(self, work: Callable[[], None]) -> None:
        self._todo.put(work)

    def call_later(self, seconds: float, work: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, work))

    def run_until(self, is_done: Callable[[], bool]) -> None:
        """Until that is so, or fail after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while not is_done():
            until = min((moment for moment, _ in self._later), default=deadline)
            try:
                self._todo.get(timeout=max(0.0, until - time.monotonic()))()
            except queue.Empty:
                if until == deadline:
                    raise
                self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each not in due]
        for _, work in due:
            work()
