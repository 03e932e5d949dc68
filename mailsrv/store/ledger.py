"""The ledger: `var/log/ledger/PROGRAM-DAY.N.jsonl`, append-only lines of JSON, one a fate: what became of each message.

Each program writes files of its own, in batches, so there is no lock between programs. The order is what makes the
books true. A line that says where an entry has gone is written before the entry is gone, and one that says that an
entry has come after it is there. So a line may stand twice after a crash, and none is missing for what has left the
spool. A line that is found again after a restart says `again`, so that it counts once. Each opening of a file is a line
as well, with the boot: what one boot did twice is an error, what the next one did again after a power loss is not.
"""

import contextlib
import heapq
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from mailsrv.store import durable

# `t` in seconds since 1970, `fate`, `id`, and what else is known of it; docs/OPERATIONS.md lists the fields.
Line: TypeAlias = dict[str, Any]

MOST_OCTETS: Final = 64 * 1024 * 1024  # of one file
MOST_WAITING: Final = 200_000  # lines kept in memory while they cannot be written; the oldest go first
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAME: Final = re.compile(r"([a-z0-9_]+)-(\d{8})\.(\d+)\.jsonl")
_BEGUN: Final = "begun"
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode  # in ASCII: any name fits, also one of odd octets


class Kind(StrEnum):
    """The fates."""

    ACCEPTED = "accepted"  # by SMTP, LMTP or `mailsrv send`; or, with `of`, made by delivery from another entry
    CLAIMED = "claimed"  # a dropped file was taken in
    DELIVERED = "delivered"  # into mailboxes here
    DEFERRED = "deferred"
    RELAYED = "relayed"  # another host has taken it
    BOUNCED = "bounced"  # reported to its sender, or he has asked for no report
    HELD = "held"
    RELEASED = "released"
    REMOVED = "removed"
    BAD = "bad"  # a dropped file that could not be understood
    FETCHED = "fetched"  # by a POP3 client
    DELETED = "deleted"  # likewise


def line(kind: Kind, entry_id: str, **facts: object) -> Line:
    """A line of now."""
    return {"t": round(time.time(), 6), "fate": kind.value, "id": entry_id, **facts}


class Form:
    """Lines that have all but time and id in common: made in a quarter of the time."""

    def __init__(self, kind: Kind, **facts: object) -> None:
        self._middle = f',"fate":{_encode(kind.value)},"id":'
        self._end = f",{_encode(facts)[1:-1]}}}\n" if facts else "}\n"

    def line(self, moment: float, entry_id: str) -> bytes:
        """A line, as it is written; `moment` in seconds since 1970."""
        return f'{{"t":{moment:.6f}{self._middle}{_encode(entry_id)}{self._end}'.encode("ascii")


class Ledger:
    """The writing side, of one program. Never fails: what cannot be written waits, and `problem` says so."""

    def __init__(self, folder: Path, program: str, keep_days: int) -> None:
        self._folder = folder
        self._program = program
        self._keep_days = keep_days
        self._fd = -1
        self._day = ""
        self._size = 0
        self._waiting: list[bytes] = []  # lines
        self.problem = ""

    def write(self, lines: Sequence[Line]) -> int:
        """Append; gives the descriptor to sync where the lines have to be on disk, -1 where there is none."""
        return self.write_lines([f"{_encode(each)}\n".encode("ascii") for each in lines])

    def write_lines(self, lines: Sequence[bytes]) -> int:
        """The same with lines as a Form makes them."""
        self._waiting += lines
        try:
            self._flush()
            self.problem = ""
        except OSError as error:
            del self._waiting[:-MOST_WAITING]
            self.problem = f"the ledger cannot be written: {error.strerror}; {len(self._waiting)} lines wait"
            self.close()
        return self._fd

    def retry(self) -> None:
        """Write what waits, if anything does."""
        if self._waiting:
            self.write_lines(())

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        if not self._waiting:
            return
        day = f"{datetime.now(UTC):%Y%m%d}"
        if self._fd < 0 or day != self._day or self._size > MOST_OCTETS or not os.fstat(self._fd).st_nlink:
            self.close()
            self._open(day)
        octets = b"".join(self._waiting)
        written = 0
        try:
            while written < len(octets):
                written += os.write(self._fd, octets[written:])
        finally:
            whole = octets.rfind(b"\n", 0, written) + 1
            # A full disk took a part of a line. Commands may share a file: never cut what somebody else has written.
            if whole < written and os.fstat(self._fd).st_size == self._size + written:
                os.ftruncate(self._fd, self._size + whole)
            self._size += whole
            self._waiting = octets[whole:].splitlines(keepends=True)

    def _open(self, day: str) -> None:
        """Append to this day's last file, or begin one. A line that a crash has torn is ended."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = [each.number for each in files(self._folder) if (each.program, each.day) == (self._program, day)]
        number = max(numbers, default=0)
        path = self._folder / f"{self._program}-{day}.{number}.jsonl"
        if path.exists() and path.stat().st_size > MOST_OCTETS:
            path = self._folder / f"{self._program}-{day}.{number + 1}.jsonl"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._day, self._size = day, os.fstat(self._fd).st_size
        is_torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"
        head = {"t": time.time(), "opened": self._program, "pid": os.getpid(), "boot": BOOT_ID.read_text().strip()}
        octets = b"\n" * is_torn + f"{_encode(head)}\n".encode("ascii")
        self._size += os.write(self._fd, octets)
        _prune(self._folder, self._program, self._keep_days)


class Part(NamedTuple):
    """A file of the ledger, by the parts of its name."""

    program: str
    day: str
    number: int
    path: Path


def files(folder: Path) -> list[Part]:
    """The files, by day; raises OSError where there is no such folder."""
    found = []
    for name in os.listdir(folder):
        if match := _NAME.fullmatch(name):
            found.append(Part(match[1], match[2], int(match[3]), folder / name))
    return sorted(found, key=lambda each: (each.day, each.program, each.number))


def begin(folder: Path) -> None:
    """Begin the books, if nobody has; raises OSError."""
    if not (folder / _BEGUN).exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write_file(folder / _BEGUN, f"{time.time():.6f}\n".encode("ascii"))


def begun(folder: Path) -> float:
    """When the books were begun, in seconds since 1970: what arrived before is in none of them. Raises OSError."""
    try:
        return float((folder / _BEGUN).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return 0.0


def oldest_day(folder: Path, keep_days: int) -> str:
    """The first day of which nothing was removed yet, as `YYYYMMDD`; raises OSError.

    Told from the second newest day on record: a clock that is wrong for less than a day costs no books.
    """
    days = sorted({each.day for each in files(folder)}) if folder.is_dir() else []
    if not days:
        return ""
    reference = date.fromisoformat(days[-2] if len(days) > 1 else days[-1])
    return f"{reference - timedelta(days=keep_days):%Y%m%d}"


class Reader:
    """The reading side: all lines once, later ones when it is asked again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._boots: dict[Path, str] = {}
        self.torn = 0  # lines that a crash has cut

    def read(self, first_day: str = "") -> Iterator[Line]:
        """What was not yet read, each line with its `boot` and `by`, the program; raises OSError.

        Day by day, and within a day in the order of time, so that what becomes of a message is soon read after that it
        has come: whoever reads need not hold a day's messages in memory.
        """
        parts = files(self._folder) if self._folder.is_dir() else []
        for _, of_day in itertools.groupby((each for each in parts if each.day >= first_day), lambda each: each.day):
            with contextlib.ExitStack() as stack:
                streams = []
                for part in of_day:
                    with contextlib.suppress(FileNotFoundError):  # it grew too old while we read
                        file = stack.enter_context(part.path.open("rb"))
                        file.seek(self._offsets.get(part.path, 0))
                        streams.append(self._lines(part, file))
                for found, path, octets in heapq.merge(*streams, key=lambda each: float(each[0]["t"])):
                    self._offsets[path] = self._offsets.get(path, 0) + octets
                    yield found

    def _lines(self, part: Part, file: Iterable[bytes]) -> Iterator[tuple[Line, Path, int]]:
        """With file and number of octets: what was merged but is not yet given counts as unread."""
        for octets in file:
            if not octets.endswith(b"\n"):  # being written, or torn: its end may come
                return
            found = self._meaning(part, octets)
            if found is None:
                self._offsets[part.path] = self._offsets.get(part.path, 0) + len(octets)
            else:
                yield found, part.path, len(octets)

    def _meaning(self, part: Part, octets: bytes) -> Line | None:
        try:
            found = json.loads(octets)
            if "opened" in found:
                self._boots[part.path] = found["boot"]
            elif found["fate"] and found["id"] and float(found["t"]):
                return dict(found, by=found.get("by", part.program), boot=self._boots.get(part.path, ""))
        except (ValueError, KeyError, TypeError):
            self.torn += octets != b"\n"
        return None


def _prune(folder: Path, program: str, keep_days: int) -> None:
    """Remove what is older than is kept."""
    oldest = oldest_day(folder, keep_days)
    for each in files(folder):
        if each.program == program and each.day < oldest:
            each.path.unlink(missing_ok=True)
