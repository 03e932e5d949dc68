"""Whether to wait for more mail before looking: where it comes in fast, a batch of several costs a third of as many."""

import time
from collections.abc import Callable
from typing import Final

BUSY: Final = 0.0025  # seconds from one message to the next; beyond, each is decided as soon as it comes
WANTED: Final = 8  # messages that are waited for
LONGEST_WAIT: Final = 0.012  # seconds, however few have come
LONGEST: Final = 0.02  # seconds; a longer rest says no more than this
ENOUGH: Final = 16  # messages in a batch that need no others


class Gathering:
    """By the pace of late. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._pace = LONGEST  # seconds from one message to the next
        self._number = 0

    def decided(self, number: int) -> None:
        """So many messages were decided since it was last told."""
        if not number:
            return
        now = self._clock()
        pace = min(LONGEST, (now - self._last) / number)
        self._last, self._number = now, number
        self._pace = (self._pace + pace) / 2

    def pause(self) -> float:
        """Seconds to wait before the next look."""
        is_flowing = self._pace < BUSY and self._clock() - self._last < LONGEST
        return min(LONGEST_WAIT, WANTED * self._pace) if is_flowing and self._number < ENOUGH else 0.0
