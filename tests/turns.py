"""A loop for what is told from other threads, as small as one can be."""

import queue
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 30.0  # seconds


class Loop:
    """`call` has a function called where `run_until` runs."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def call(self, work: Callable[[], None]) -> None:
        self._todo.put(work)

    def run_until(self, is_done: Callable[[], bool]) -> None:
        """Until that is so, or fail after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while not is_done():
            self._todo.get(timeout=max(0.0, deadline - time.monotonic()))()
