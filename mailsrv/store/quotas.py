"""Quotas: how much may lie in a mailbox, and how much does.

The file `quotas` has one line each, `ADDRESS octets=1G messages=10000`, with either or both; `@example.org` stands for
all accounts of a domain that have no line of their own. What neither the file nor `[quota]` limits is not limited.

How much lies in a mailbox is kept beside it, in `mailsrv.usage`, with the times at which its folders had changed when
that was true. Where these have changed since, another program was at work: then the mailbox is counted anew, by the
sizes in the names of its files. `delivery` alone writes the file; others read it.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

from mailsrv.model.address import Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store import durable
from mailsrv.store.lines import address_in, content_lines, parse_address_or_domain, parse_at

RECORD_NAME: Final = "mailsrv.usage"
TRUSTED_SECONDS: Final = 3600.0  # after so long a mailbox is counted, whether or not anything seems to have changed

_SETTLED_NS: Final = 50_000_000
_UNSETTLED: Final = (-2, -2)
_SIZE: Final = re.compile(r",S=(\d+)")
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_NUMBER: Final = re.compile(r"(\d{1,15})([KMGT]?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that may lie in a mailbox; 0 is no limit."""

    octets: int = 0
    messages: int = 0

    def __bool__(self) -> bool:
        return bool(self.octets or self.messages)


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in a mailbox."""

    octets: int = 0
    messages: int = 0

    def plus(self, octets: int) -> "Usage":
        """With one more message."""
        return Usage(self.octets + octets, self.messages + 1)

    def share_of(self, quota: Quota) -> float:
        """The larger share of what a quota limits, 1.0 being all of it."""
        octets = self.octets / quota.octets if quota.octets else 0.0
        return max(octets, self.messages / quota.messages if quota.messages else 0.0)


Quotas: TypeAlias = Mapping[str, Quota]  # by Mailbox.key, of a domain with an empty local part


def parse_quotas(path: Path, text: str) -> Quotas:
    """The meaning of the file `quotas`; raises Mistake."""
    quotas: dict[str, Quota] = {}
    for number, line in content_lines(text):
        address = address_in(line)
        mailbox = parse_at(path, number, address, parse_address_or_domain)
        limits: dict[str, int] = {}
        for word in line[len(address) :].split():
            name, _, value = word.partition("=")
            amount = parse_amount(value)
            if name not in {"octets", "messages"} or name in limits or amount is None:
                raise Mistake(path, number, f"expected octets=1G or messages=1000 behind the address (found {word!r})")
            limits[name] = amount
        if not limits:
            raise Mistake(path, number, "expected ADDRESS octets=1G messages=1000, or one of them")
        if mailbox.key in quotas:
            raise Mistake(path, number, f"expected {mailbox} only once")
        quotas[mailbox.key] = Quota(**limits)
    return quotas


def quota_in(quotas: Quotas, mailbox: Mailbox, otherwise: Quota) -> Quota:
    """The quota of an account: its own, or that of its domain, or `otherwise`."""
    if not quotas:
        return otherwise
    return quotas.get(mailbox.key) or quotas.get(Mailbox("", mailbox.domain).key) or otherwise


def parse_amount(text: str) -> int | None:
    """A number, maybe with K, M, G or T behind it, each 1024 times the one before."""
    match = _NUMBER.fullmatch(text)
    return int(match.group(1)) * _UNITS[match.group(2).upper()] if match else None


# --- usage -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """What was last known of a mailbox: `marks` are the times of change of new and cur, in ns.

    `counted` and `warned` are when it was last counted and its owner last warned, in seconds since 1970.
    """

    octets: int
    messages: int
    marks: tuple[int, int]
    counted: float
    warned: float = 0.0

    @property
    def usage(self) -> Usage:
        return Usage(self.octets, self.messages)


NO_RECORD: Final = Record(0, 0, (-1, -1), 0.0)


def read_record(box: Path) -> Record:
    """What was last known of the Maildir `box`; NO_RECORD where nothing is, or nothing that can be understood."""
    try:
        document = json.loads((box / RECORD_NAME).read_bytes())
        new, cur = map(int, document["marks"])
        octets, messages = int(document["octets"]), int(document["messages"])
        return Record(octets, messages, (new, cur), float(document["counted"]), float(document["warned"]))
    except (OSError, ValueError, KeyError, TypeError):
        return NO_RECORD


def write_record(box: Path, record: Record) -> None:
    """Write it; after power loss it may be gone. Raises OSError."""
    durable.write_volatile(box / RECORD_NAME, json.dumps(asdict(record)).encode())


def marks_of(box: Path) -> tuple[int, int]:
    """When the folders of the Maildir `box` have last changed, in ns; -1 for one that is not there."""
    marks = []
    for folder in ("new", "cur"):
        try:
            marks.append((box / folder).stat().st_mtime_ns)
        except FileNotFoundError:
            marks.append(-1)
    return marks[0], marks[1]


def is_true(record: Record, marks: tuple[int, int]) -> bool:
    """Whether a record still says what lies there."""
    return record.marks == marks and abs(time.time() - record.counted) < TRUSTED_SECONDS


def counted(box: Path, warned: float = 0.0) -> Record:
    """Count the Maildir `box` by the names of its files; raises OSError."""
    marks = marks_of(box)  # before: what changes meanwhile is counted again
    octets = messages = 0
    for folder in ("new", "cur"):
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = [name for name in os.listdir(box / folder) if not name.startswith(".")]
        for name in names:
            size = _SIZE.search(name)
            with contextlib.suppress(FileNotFoundError):  # moved or removed meanwhile
                octets += int(size.group(1)) if size else (box / folder / name).stat().st_size
                messages += 1
    # A folder that changed so lately may have changed again without its time telling.
    is_settled = time.time_ns() - max(marks) > _SETTLED_NS
    return Record(octets, messages, marks if is_settled else _UNSETTLED, time.time(), warned)
