"""Opening maildrops and removing from them, for `pop3`: what may wait for a disk is done by workers."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from mailsrv.config import Config
from mailsrv.model.address import Mailbox
from mailsrv.store.ledger import Kind
from mailsrv.store.listings import Listings, NotListedError
from mailsrv.store.maildir import Maildir, mailbox_path
from mailsrv.store.maildrop import Maildrop
from mailsrv.work.downloads import Downloads, form_of

T = TypeVar("T")

WORKERS: Final = 2  # listings and removals at once
LATE_SECONDS: Final = 60.0  # after which one of them is told: a filesystem may answer nobody
MESSAGES_REMEMBERED: Final = 200_000  # of mailboxes that are not open; some 200 octets each


class Maildrops:
    """The maildrops of all accounts."""

    def __init__(self, config: Config, downloads: Downloads) -> None:
        self.workers = ThreadPoolExecutor(WORKERS, "pop3-worker")
        self._begun: dict[object, float] = {}  # when each of the workers began with what it has in hand
        self._downloads = downloads
        self._listings = Listings(MESSAGES_REMEMBERED)
        self._mail = config.mail
        self._is_exclusive = config.pop3.exclusive
        self._login_delay = config.pop3.login_delay

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Have a worker do what may take long."""
        return self.workers.submit(self._noted, work)

    def _noted(self, work: Callable[[], T]) -> T:
        work_in_hand = object()
        self._begun[work_in_hand] = time.monotonic()
        try:
            return work()
        finally:
            del self._begun[work_in_hand]

    def late(self) -> str:
        """What is wrong with the disk, in words, where a worker waits for it for too long."""
        now = time.monotonic()
        seconds = now - min(list(self._begun.values()), default=now)
        return f"pop3: a mailbox has not answered for {seconds:.0f} s" if seconds > LATE_SECONDS else ""

    def open(self, mailbox: Mailbox) -> Maildrop:
        """The maildrop of who has logged in; raises MaildropInUseError, LoginTooSoonError, OSError."""
        path = mailbox_path(self._mail, mailbox)
        Maildir(path).create()
        return self._locked(path, may_list=True)

    def reopen(self, mailbox: Mailbox) -> Maildrop:
        """The same for who was here not long ago, if nothing has changed; else raises NotListedError.

        It asks the system for what it has in memory: no disk is waited for.
        """
        path = mailbox_path(self._mail, mailbox)
        if path not in self._listings:
            raise NotListedError
        try:
            return self._locked(path, may_list=False)
        except OSError as error:  # `open` makes what is missing, or tells what is wrong
            raise NotListedError from error

    def _locked(self, path: Path, *, may_list: bool) -> Maildrop:
        return Maildrop(
            path,
            is_exclusive=self._is_exclusive,
            login_delay=self._login_delay,
            listings=self._listings,
            may_list=may_list,
        )

    def remove(self, maildrop: Maildrop, deleted: frozenset[int], mailbox: Mailbox, peer: str) -> None:
        """Remove messages, and note it; raises OSError."""
        form = form_of(Kind.DELETED, mailbox, peer)
        try:
            maildrop.remove(deleted, lambda path: self._downloads.note(form, path.name))
        finally:
            self._downloads.write()
