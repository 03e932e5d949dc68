"""Lines of the ledger for what POP3 clients do with messages: collected by all threads, written some at a time."""

import functools
import re
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from mailsrv.model.address import Mailbox
from mailsrv.model.identity import ENTRY_ID
from mailsrv.store.ledger import Form, Kind, Ledger
from mailsrv.store.maildir import unique_part

MOST_AT_ONCE: Final = 500  # lines, some 75 KB
_OURS: Final = re.compile(rf"[^.:,]*\.({ENTRY_ID})\.[^.:,]*(?:[:,]|\Z)")  # a name that store/maildir.py made


class Downloads:
    """The lines that `pop3` is yet to write."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()  # of the ledger
        self._lines = deque[bytes]()

    def note(self, form: Form, name: str) -> None:
        """What `form_of` says was done to a message of this file name."""
        self._lines.append(form.line(time.time(), _known(name)))
        if len(self._lines) >= MOST_AT_ONCE:
            self.write()

    def expired(self, mailbox: Mailbox, path: Path) -> None:
        """A message was removed because of its age."""
        self.note(form_of(Kind.DELETED, mailbox, "expiry"), path.name)

    def write(self) -> str:
        """Write what was noted; what is wrong with the ledger, or nothing."""
        with self._lock:
            if lines := [self._lines.popleft() for _ in range(len(self._lines))]:
                self._ledger.write_lines(lines)
            else:
                self._ledger.retry()
            return self._ledger.problem


@functools.lru_cache(maxsize=1024)
def form_of(kind: Kind, mailbox: Mailbox, peer: str) -> Form:
    """Lines about messages of `mailbox`, which were fetched or deleted by who came from `peer`."""
    return Form(kind, to=[mailbox.key], peer=peer)


def _known(name: str) -> str:
    """What a message is known by in the ledger: its entry, or of another program's the unique part of its name."""
    ours = _OURS.match(name)
    return ours[1] if ours else unique_part(name)
