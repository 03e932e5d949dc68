"""The journal of the relay: what other hosts have said, written the moment it is known, before anything is done of it.

Between the answer to a final dot and the removal of the entry the relay may be killed. The journal says to the next
process what was taken, so that it is not sent again. `sent` is written before the final dot: where no answer follows
it, nobody knows whether the host has taken the message, and that is the one place where it may come twice.

It is not synced: after a power loss the last answers may be missing, and their messages are sent again.
"""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mailsrv.model.identity import EntryId
from mailsrv.model.reply import Reply
from mailsrv.store import durable

MOST_OCTETS: Final = 4 * 1024 * 1024  # before what is over is left out


@dataclass(frozen=True, slots=True)
class Told:
    """What a host has said of a recipient; `where` names it and the encryption, `reports` whether it knows DSN."""

    reply: Reply
    where: str = ""
    reports: bool = False


@dataclass(slots=True)
class Pending:
    """What the journal has of one entry, by destination: answers, and those of a final dot without an answer."""

    told: dict[str, Told] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)


class Journal:
    """Written by several threads of one process; every method raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._size = 0
        self._lock = threading.Lock()
        self._pending: dict[EntryId, Pending] = {}

    def recover(self) -> None:
        """Learn what an earlier process had begun and not finished; to be called before anything is written."""
        with self._lock:
            self._pending = read_journal(self._path)
            self._rewrite()

    def pending(self) -> dict[EntryId, Pending]:
        """What was begun and is not over."""
        with self._lock:
            return dict(self._pending)

    def begin(self, entry_id: EntryId) -> None:
        """An entry is taken in hand."""
        with self._lock:
            self._pending.setdefault(entry_id, Pending())
            self._append({"begin": entry_id})

    def sent(self, entry_id: EntryId, destinations: Sequence[str]) -> None:
        """The final dot is about to be said for these."""
        with self._lock:
            self._append({"sent": entry_id, "to": list(destinations)})
            self._pending.setdefault(entry_id, Pending()).in_doubt |= set(destinations)

    def told(self, entry_id: EntryId, found: dict[str, Told]) -> None:
        """What was heard, or not, of these."""
        with self._lock:
            self._append({"told": entry_id, "to": {key: asdict(each) for key, each in found.items()}})
            pending = self._pending.setdefault(entry_id, Pending())
            pending.told |= found
            pending.in_doubt -= found.keys()

    def over(self, entry_id: EntryId) -> None:
        """All of it has been done with the entry."""
        with self._lock:
            self._pending.pop(entry_id, None)
            self._append({"over": entry_id})
            if not self._pending or self._size > MOST_OCTETS:
                self._rewrite()

    def close(self) -> None:
        """We end in peace: what was not begun to be sent is in nobody's hand."""
        with self._lock:
            self._pending = {key: each for key, each in self._pending.items() if each.told or each.in_doubt}
            self._rewrite()

    def _append(self, line: dict[str, Any]) -> None:
        if self._fd < 0:
            self._rewrite()
        octets = json.dumps(line).encode("ascii") + b"\n"
        self._size += os.write(self._fd, octets)

    def _rewrite(self) -> None:
        """Leave out what is over."""
        lines: list[dict[str, Any]] = []
        for entry_id, pending in self._pending.items():
            lines.append({"begin": entry_id})
            if pending.told:
                lines.append({"told": entry_id, "to": {key: asdict(each) for key, each in pending.told.items()}})
            if pending.in_doubt:
                lines.append({"sent": entry_id, "to": sorted(pending.in_doubt)})
        octets = b"".join(json.dumps(line).encode("ascii") + b"\n" for line in lines)
        if self._fd >= 0 and not octets:
            os.ftruncate(self._fd, 0)  # the usual case, when all is done
            self._size = 0
            return
        durable.write_volatile(self._path, octets)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = len(octets)


def read_journal(path: Path) -> dict[EntryId, Pending]:
    """The entries that are in hand, or were when the relay died; a torn line is left out. Raises OSError."""
    found: dict[EntryId, Pending] = {}
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        return found
    for text in octets.splitlines():
        try:
            _read_line(found, json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _read_line(found: dict[EntryId, Pending], line: dict[str, Any]) -> None:
    if "over" in line:
        found.pop(EntryId(line["over"]), None)
        return
    entry_id = EntryId(line.get("begin") or line.get("sent") or line["told"])
    pending = found.setdefault(entry_id, Pending())
    if "sent" in line:
        pending.in_doubt |= set(line["to"])
    elif "told" in line:
        told = {key: Told(Reply(**each["reply"]), each["where"], each["reports"]) for key, each in line["to"].items()}
        pending.told |= told
        pending.in_doubt -= told.keys()
