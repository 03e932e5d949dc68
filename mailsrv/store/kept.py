"""A text file that people edit while we run: read again when it has changed; a broken edit keeps the last good one."""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from mailsrv.model.mistake import Mistake

logger = logging.getLogger(__name__)

MAX_HOLD: Final = 1.0  # seconds

T = TypeVar("T")


class Hold:
    """A short time in which many questions count as asked at once: what was looked at in it is not looked at again."""

    def __init__(self) -> None:
        self.number = 0
        self._until = 0.0  # monotonic

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        """From now on, until the end, or for MAX_HOLD seconds."""
        if not self.is_on:
            self.number += 1
            self._until = time.monotonic() + MAX_HOLD

    def end(self) -> None:
        """What is asked now is looked at."""
        self._until = 0.0


class Kept(Generic[T]):
    """The meaning of the file at `path`: what `parse(path, text)` gives, or raises as Mistake."""

    def __init__(
        self, path: Path, parse: Callable[[Path, str], T], empty: T, *, is_optional: bool, hold: Hold | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._hold = hold
        self._held = 0  # the hold in which it was looked at
        self._is_optional = is_optional
        self._path = path
        self._name = os.fspath(path)
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._good = empty
        self._empty = empty  # what the absence of the file means
        self.mistake: Mistake | None = None  # what is wrong with the file as it stands now

    def current(self) -> T:
        """The last good meaning. Costs one stat where nothing has changed, once in a hold. Safe in any thread."""
        hold = self._hold
        if hold is not None and self._held == hold.number and hold.is_on:
            return self._good
        with self._lock:
            self._look()
            if hold is not None:
                self._held = hold.number
            return self._good

    def _look(self) -> None:
        try:
            status = os.stat(self._name)  # noqa: PTH116 - asked for with every recipient
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._read()
                self._seen = seen
        except FileNotFoundError:
            self._seen = None
            if self._is_optional:
                self._good, self.mistake = self._empty, None
            else:
                self.mistake = Mistake(self._path, 0, "expected to be there")
        except OSError as error:
            self.mistake = Mistake(self._path, 0, f"expected to be readable: {error.strerror}")

    def _read(self) -> None:
        try:
            self._good = self._parse(self._path, self._path.read_text("utf-8"))
            self.mistake = None
            return
        except UnicodeDecodeError:
            self.mistake = Mistake(self._path, 0, "expected UTF-8 text")
        except Mistake as mistake:
            self.mistake = mistake
        logger.warning("%s; what it said before still holds", self.mistake)
