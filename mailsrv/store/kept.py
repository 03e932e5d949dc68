"""A text file that people edit while we run: read again when it has changed; a broken edit keeps the last good one."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mailsrv.model.mistake import Mistake

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Kept(Generic[T]):
    """The meaning of the file at `path`: what `parse(path, text)` gives, or raises as Mistake."""

    def __init__(self, path: Path, parse: Callable[[Path, str], T], empty: T, *, is_optional: bool) -> None:
        self._lock = threading.Lock()
        self._is_optional = is_optional
        self._path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._good = empty
        self._empty = empty  # what the absence of the file means
        self.mistake: Mistake | None = None  # what is wrong with the file as it stands now

    def current(self) -> T:
        """The last good meaning. Costs one stat where nothing has changed. Safe in any thread."""
        with self._lock:
            self._look()
            return self._good

    def _look(self) -> None:
        try:
            status = self._path.stat()
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
