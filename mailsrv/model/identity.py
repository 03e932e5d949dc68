"""Entry ids: unique for ever, in order of arrival, and short enough for a UIDL.

An id is 11 digits of base 36 that count microseconds since 1970, a hyphen, and 8 random ones: 20 characters that
sort by time as text does. The UIDL of a message and the name of its Maildir file contain it.
"""

import os
import re
from datetime import UTC, datetime
from typing import Final, NewType

EntryId = NewType("EntryId", str)

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]
ENTRY_ID: Final = r"[0-9a-z]{11}-[0-9a-z]{8}(?:-[a-z]+[0-9]*)*"  # a regular expression
_ENTRY_ID: Final = re.compile(ENTRY_ID)


def new_entry_id(moment: datetime) -> EntryId:
    """An id for what arrived at `moment` (aware)."""
    microseconds = int(moment.timestamp() * 1_000_000)
    chance = int.from_bytes(os.urandom(8)) % 36**8
    return EntryId(f"{_base36(microseconds, 11)}-{_base36(chance, 8)}")


def derived_id(entry_id: EntryId, word: str, attempt: int = 0) -> EntryId:
    """The id of what an attempt at an entry leads to (its report, say): the same again if the attempt is repeated."""
    return EntryId(f"{entry_id}-{word}{attempt or ''}")


def is_entry_id(name: str) -> bool:
    """Whether a file of this name is an entry."""
    return _ENTRY_ID.fullmatch(name) is not None


def arrival_of(entry_id: EntryId) -> datetime:
    """The moment that an id was made for."""
    return datetime.fromtimestamp(int(entry_id[:11], 36) / 1_000_000, UTC)


def _base36(number: int, width: int) -> str:
    digits = ""
    while number:
        number, pair = divmod(number, len(_PAIRS))
        digits = _PAIRS[pair] + digits
    return digits.rjust(width, "0")[-width:]
