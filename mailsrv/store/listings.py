"""Listings of mailboxes that were open not long ago, for clients that come again and again."""

import threading
from pathlib import Path

from mailsrv.store.listing import Listing


class NotListedError(Exception):
    """The mailbox would have to be listed, which takes long where it is large or its disk is slow."""


class Listings:
    """So many messages at most, in all mailboxes together; the listings longest unused go first. Safe in any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Path, Listing] = {}  # the longest unused first
        self._messages = 0
        self._lock = threading.Lock()

    def take(self, mailbox: Path, *, may_list: bool = True) -> Listing:
        """The listing of a mailbox, a new one if none is kept that still holds; raises OSError.

        It is the caller's alone until it is kept again. Without `may_list` raises NotListedError in place of a new one.
        """
        with self._lock:
            listing = self._forget(mailbox)
        if listing is not None and listing.is_current():
            return listing
        if may_list:
            return Listing(mailbox, listing)
        if listing is not None:
            self.keep(listing)  # the next one need not be made of nothing
        raise NotListedError

    def __contains__(self, mailbox: Path) -> bool:
        """Whether a listing of it is kept, still good or not."""
        return mailbox in self._kept

    def keep(self, listing: Listing) -> None:
        """Keep a listing for the next session."""
        with self._lock:
            self._forget(listing.mailbox)
            self._kept[listing.mailbox] = listing
            self._messages += len(listing.octets)
            while self._messages > self._most:
                self._forget(next(iter(self._kept)))

    def _forget(self, mailbox: Path) -> Listing | None:
        listing = self._kept.pop(mailbox, None)
        if listing is not None:
            self._messages -= len(listing.octets)
        return listing
