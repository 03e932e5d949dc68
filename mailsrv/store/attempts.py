"""What delivery has in hand, written before the file is opened: a file that kills its reader is found by its deaths.

One slot of fixed size holds the id; to write it is one pwrite, which the kernel keeps when the process dies. A slot
that is full at the start of the next process is a death. From the first one on, the slot is on disk before the file is
opened again, so that a file which takes the whole machine with it is found as well. `deaths` counts them, on disk.
"""

import json
import os
import time
from pathlib import Path
from typing import Final

from mailsrv.model.identity import EntryId, is_entry_id
from mailsrv.store import durable

SLOT_OCTETS: Final = 256
MOST_DEATHS: Final = 2


class Attempts:
    """The slot at `path`, and the deaths beside it; opened when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deaths_path = _deaths_of(path)
        self._fd = -1
        self._is_full = False
        self._deaths: dict[str, list[float]] = {}

    def recover(self) -> EntryId | None:
        """Learn whether an earlier process died with an entry in hand, and with which one; raises OSError."""
        durable.forget_draft_of(self._deaths_path)
        self._deaths = _read_deaths(self._deaths_path)
        octets = os.pread(self._opened(), SLOT_OCTETS, 0).rstrip(b"\0\n")
        found = octets.decode("ascii", "replace")
        if not is_entry_id(found):
            return None
        self._deaths.setdefault(found, []).append(time.time())
        self._save()
        self._write(b"")
        return EntryId(found)

    def begin(self, entry_id: EntryId) -> None:
        """It is about to be opened; raises OSError."""
        self._write(entry_id.encode("ascii"))
        self._is_full = True
        if entry_id in self._deaths:
            durable.sync(self._fd)

    def end(self) -> None:
        """Nothing is in hand; raises OSError."""
        if self._is_full:
            self._write(b"")
            self._is_full = False

    def deaths(self, entry_id: EntryId) -> list[float]:
        """When a process died with it in hand, in seconds since 1970."""
        return self._deaths.get(entry_id, [])

    def is_poison(self, entry_id: EntryId) -> bool:
        """Whether it is not to be opened again."""
        return len(self._deaths.get(entry_id, ())) >= MOST_DEATHS

    def forgive(self, entry_id: EntryId) -> None:
        """It was decided: its deaths were somebody else's doing. Raises OSError."""
        if self._deaths.pop(entry_id, None) is not None:
            self._save()

    def _save(self) -> None:
        durable.write_file(self._deaths_path, json.dumps(self._deaths).encode() + b"\n")

    def _write(self, octets: bytes) -> None:
        os.pwrite(self._opened(), octets.ljust(SLOT_OCTETS - 1, b"\0") + b"\n", 0)

    def _opened(self) -> int:
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd


def count_deaths(slot: Path) -> int:
    """How many deaths are known of what waits to be decided; raises OSError."""
    return sum(map(len, _read_deaths(_deaths_of(slot)).values()))


def _deaths_of(slot: Path) -> Path:
    return slot.with_name(f"{slot.name}.deaths")


def _read_deaths(path: Path) -> dict[str, list[float]]:
    try:
        found = json.loads(path.read_bytes())
        return {str(key): [float(each) for each in moments] for key, moments in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        return {}
