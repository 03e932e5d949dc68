"""Lines of the ledger for what POP3 clients do with messages: collected by all threads, written once a second."""

import threading
from pathlib import Path

from mailsrv.model.address import Mailbox
from mailsrv.model.identity import is_entry_id
from mailsrv.store.ledger import Kind, Ledger, Line, line
from mailsrv.store.maildir import unique_part


class Downloads:
    """The lines that `pop3` is yet to write."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._lines: list[Line] = []

    def note(self, kind: Kind, mailbox: Mailbox, name: str, peer: str) -> None:
        """A message of `mailbox` of this file name was fetched or deleted; costs no input or output."""
        unique = unique_part(name)
        entry_id = unique.split(".")[1] if unique.count(".") == 2 else ""
        known = entry_id if is_entry_id(entry_id) else unique  # a message of another program's has its name only
        noted = line(kind, known, to=[mailbox.key], peer=peer)
        with self._lock:
            self._lines.append(noted)

    def expired(self, mailbox: Mailbox, path: Path) -> None:
        """A message was removed because of its age."""
        self.note(Kind.DELETED, mailbox, path.name, "expiry")

    def write(self) -> str:
        """Write what was noted; what is wrong with the ledger, or nothing."""
        with self._lock:
            lines, self._lines = self._lines, []
            if lines:
                self._ledger.write(lines)
            else:
                self._ledger.retry()
            return self._ledger.problem
