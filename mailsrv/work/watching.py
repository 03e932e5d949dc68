"""Keeping file events coming: what has died, or delivers nothing, is watched anew, without a restart of the program."""

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mailsrv.host.bell import Bell
from mailsrv.settings import Delivery
from mailsrv.store.heartbeat import BEAT_INTERVAL

logger = logging.getLogger(__name__)


class Watch:
    """`turn` is called in every turn of the loop; the first of `folders` is where a test file is made at each scan.

    `problem` is why there are no events, in words; `anew` how often it was watched again.
    """

    def __init__(self, settings: Delivery, bell: Bell, folders: Sequence[Path]) -> None:
        self._settings = settings
        self._bell = bell
        self._folders = folders
        self._next = 0.0  # not before, where watching has just failed
        self._next_test = 0.0
        self._has_watched = False
        self.problem = ""
        self.anew = 0

    def turn(self) -> None:
        """Keep the watch alive: dead threads, or a folder made anew, are watched again."""
        if not self._settings.events or time.monotonic() < self._next or self._is_heard():
            return
        self._next = time.monotonic() + self._settings.scan_interval
        self.anew += self._has_watched
        try:
            self._bell.watch(self._folders)
            self.problem, self._has_watched = "", True
            self._next = time.monotonic() + BEAT_INTERVAL
            self._bell.ring()  # what happened meanwhile was told to nobody
        except OSError as error:
            self.problem = f"no file events: {error.strerror}; scanning every {self._settings.scan_interval} s"
            logger.warning("%s", self.problem)

    def _is_heard(self) -> bool:
        """Whether events come: its threads live, and what we do ourselves is heard of."""
        if not self._bell.is_alive():
            return False
        if time.monotonic() < self._next_test:
            return True
        self._next_test = time.monotonic() + self._settings.scan_interval
        with contextlib.suppress(OSError):  # a full disk, say, is not the watch's fault
            return self._bell.test()
        return True
