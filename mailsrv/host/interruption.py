"""Being told to end, by Ctrl-C, a signal, or a terminal that goes away: at once, but never in the middle of something.

What is begun within `undisturbed` is finished first, and once the end has begun, nothing disturbs it any more.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Turns the signals into SystemExit with `status`; to be made by the main thread."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._depth = 0
        self._is_told = False
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
                signal.signal(number, self._take)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Raises SystemExit at the end, where somebody has told us meanwhile."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self._end(is_due=self._is_told)

    def _take(self, _signal: object, _frame: object) -> None:
        is_first, self._is_told = not self._is_told, True
        self._end(is_due=is_first)

    def _end(self, *, is_due: bool) -> None:
        if is_due and self._depth == 0:
            sys.exit(self._status)
