"""Expiry: messages that have lain in a mailbox for `expire_days` are removed, as EXPIRE announces (RFC 2449 §6.7).

A sweep goes through all mailboxes, each locked as for a session, and logs what it removes; one that is in use is left
for the next sweep. It runs in a thread of its own, beside the loop. A clock that leaps makes no mail old: after a leap
of more than a day nothing is removed until a person has restarted the program.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.model.address import Mailbox
from mailsrv.store.maildir import mailbox_path
from mailsrv.store.maildrop import Maildrop, MaildropInUseError
from mailsrv.work.routing import Directory

logger = logging.getLogger(__name__)

SWEEP_INTERVAL: Final = 3600.0  # seconds
DAY: Final = 86_400.0  # seconds


class Expiry:
    """The sweeps of one program. `problems` are those of the last one, in words."""

    def __init__(
        self,
        config: Config,
        directory: Directory,
        note: Callable[[str, int], None],
        removed: Callable[[Mailbox, Path], None] = lambda _mailbox, _path: None,
    ) -> None:
        """`note` counts, in the thread of the sweep: messages that `expired`, and `expiry_sweeps`.

        `removed` is told of each message, for the books.
        """
        self._removed = removed
        self._mail = config.mail
        self._days = config.pop3.expire_days
        self._directory = directory
        self._note = note
        self._stopping = threading.Event()
        self._began = _leap()
        self._thread = threading.Thread(target=self._run, name="expiry", daemon=True)
        self.problems: tuple[str, ...] = ()

    def start(self) -> None:
        """Sweep now and every hour, if anything is ever to expire."""
        if self._days:
            self._thread.start()

    def stop(self) -> None:
        """End after the mailbox in hand."""
        self._stopping.set()

    def sweep(self, now: float) -> None:
        """Remove what is older than it may become, `now` being seconds since 1970."""
        if abs(_leap() - self._began) > DAY:
            self.problems = ("expiry: the clock has leapt; nothing is removed until pop3 is restarted",)
            return
        problems = []
        for mailbox in self._directory.mailboxes():
            if self._stopping.is_set():
                return
            try:
                self._sweep_mailbox(mailbox, now - self._days * DAY)
            except OSError as error:
                logger.warning("the mailbox of %s cannot be swept: %s", mailbox, error)
                problems.append(f"expiry: the mailbox of {mailbox} cannot be swept: {error.strerror}")
        self.problems = tuple(problems)
        self._note("expiry_sweeps", 1)

    def _sweep_mailbox(self, mailbox: Mailbox, moment: float) -> None:
        path = mailbox_path(self._mail, mailbox)
        if not _has_mail(path):
            return
        try:
            maildrop = Maildrop(path)
        except MaildropInUseError:
            return
        with contextlib.closing(maildrop):
            expired: list[Path] = []
            try:
                maildrop.remove(maildrop.older_than(moment), expired.append)
            finally:
                self._note_expired(mailbox, expired)

    def _note_expired(self, mailbox: Mailbox, paths: list[Path]) -> None:
        for each in paths:
            self._removed(mailbox, each)
        if paths:
            logger.info("expired: %d messages of %s, older than %d days", len(paths), mailbox, self._days)
            self._note("expired", len(paths))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.sweep(time.time())
            except Exception:  # a fault of ours must not end the sweeps for good
                logger.exception("a sweep broke off")
                self.problems = ("expiry: a sweep broke off, see the log",)
            self._stopping.wait(SWEEP_INTERVAL)


def _leap() -> float:
    """By how much the clock is ahead of one that nobody sets; it changes only when the clock is set."""
    return time.time() - time.monotonic()


def _has_mail(path: Path) -> bool:
    return (path / "new").exists() and (path / "cur").exists()
