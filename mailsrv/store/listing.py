"""What is in a Maildir at one moment: the messages of new/ and cur/, in order of arrival, by index from 0.

It is kept small, as a maildrop may have 100,000 messages: a string and a number for each. The string is a *place*, the
name and the folder, `NAME/new`: so places sort as the names do.
"""

import hashlib
import logging
import os
import re
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailsrv.store.maildir import unique_part
from mailsrv.store.measured import Measured

logger = logging.getLogger(__name__)

_WIRE_SIZE = re.compile(r",W=(\d{1,18})(?![^,:/])")
_UIDL = re.compile(r"([!-+.0-9;-~-]{1,70})[,:/]")  # RFC 1939 §7: of `!` to `~`, up to what ends the unique part
_FOLDERS: Final = ("new", "cur")  # names of one length
_TAIL: Final = len("/new")
_SETTLED_NS: Final = 50_000_000  # a folder that changed later than this before it was listed may have changed since


class Listing:
    """The messages of a mailbox as they were when it was listed.

    `memo` is for what a reader makes of it, by its name: whoever reads the same listing again need not make it again.
    """

    def __init__(self, mailbox: Path) -> None:
        """List `mailbox`; raises OSError."""
        self.mailbox = mailbox
        self.memo: dict[str, list[bytes]] = {}
        self._listed, self._changed = time.time_ns(), _changed(mailbox)
        self._is_whole = True
        self._places = sorted(_places(mailbox))
        self._told_apart: dict[str, str] = {}  # unique ids of those that share a unique part with others, by place
        if len({hash(_unique(place)) for place in self._places}) < len(self._places):  # a set of numbers is smaller
            self._tell_apart()
        self.octets = array("Q")
        self._measure()

    def uidl(self, index: int) -> str:
        """The unique id of a message: the part of its name that no flag changes, or what is made of it."""
        place = self._places[index]
        if self._told_apart and place in self._told_apart:
            return self._told_apart[place]
        allowed = _UIDL.match(place)
        return allowed[1] if allowed else _digest(_unique(place))

    def path(self, index: int) -> Path:
        """Where the message lay when it was last seen."""
        return Path(self._path(self._places[index]))

    def is_current(self) -> bool:
        """Whether the mailbox is as it was when it was listed; raises OSError."""
        return self._is_whole and self._is_unchanged()

    def find_again(self) -> None:
        """Learn where other programs have moved messages, by flags or from new/ to cur/; raises OSError."""
        if self._is_unchanged():
            return
        self._listed, self._changed = time.time_ns(), _changed(self.mailbox)
        self._is_whole = False  # what has come since is not in it
        now: dict[str, list[str]] = {}
        for place in _places(self.mailbox):
            now.setdefault(_unique(place), []).append(place)
        for index, place in enumerate(self._places):
            found = now.get(_unique(place), [])
            if place not in found and (new := _the_same(place, found)) is not None:
                if place in self._told_apart:
                    self._told_apart[new] = self._told_apart.pop(place)
                self._places[index] = new

    def _is_unchanged(self) -> bool:
        changed = _changed(self.mailbox)
        return changed == self._changed and max(changed) < self._listed - _SETTLED_NS

    def _path(self, place: str) -> str:
        return f"{self.mailbox}/{place[1 - _TAIL :]}/{place[:-_TAIL]}"

    def _measure(self) -> None:
        """Fill `octets`, and leave out what cannot be measured."""
        measured = Measured(self.mailbox)
        kept = []
        for place in self._places:
            told = _WIRE_SIZE.search(place)
            octets = int(told[1]) if told else self._measured(measured, place)
            if octets is not None:
                kept.append(place)
                self.octets.append(octets)
        self._places = kept
        measured.note()

    def _measured(self, measured: Measured, place: str) -> int | None:
        path = self._path(place)
        try:
            return measured.octets_of(path, _base(place))
        except FileNotFoundError:  # moved or removed while we listed; the next session will see it
            return None
        except OSError as error:  # one file that is not ours to read must not keep its owner from all the others
            logger.warning("left out of the maildrop: %s: %s", path, error.strerror)
            return None

    def _tell_apart(self) -> None:
        """Give each of those that share a unique part an id of its own, the first keeps it; a second link is no other.

        Other programs make such files by copying, or for a moment while they move one.
        """
        groups: dict[str, list[str]] = {}
        for place in self._places:
            groups.setdefault(_unique(place), []).append(place)
        links = set()
        for places in groups.values():
            seen = set()
            for number, place in enumerate(places):
                if number and (inode := _inode(self._path(place))) in seen:
                    links.add(place)
                elif number:
                    self._told_apart[place] = _digest(f"{_base(place)} {number}")
                    seen.add(inode)
                elif len(places) > 1:
                    seen.add(_inode(self._path(place)))
        self._places = [place for place in self._places if place not in links]


def _changed(mailbox: Path) -> list[int]:
    return [(mailbox / folder).stat().st_mtime_ns for folder in _FOLDERS]


def _places(mailbox: Path) -> Iterator[str]:
    for folder in _FOLDERS:
        yield from [f"{name}/{folder}" for name in os.listdir(mailbox / folder) if not name.startswith(".")]


def _unique(place: str) -> str:
    return unique_part(place[:-_TAIL])


def _base(place: str) -> str:
    """The name without its flags."""
    return place[:-_TAIL].partition(":")[0]


def _inode(path: str) -> tuple[int, int] | str:
    try:
        found = Path(path).stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


def _the_same(place: str, found: list[str]) -> str | None:
    """Which of the files that share its unique part is the one that lay at `place`, if that is certain."""
    alike = [each for each in found if _base(each) == _base(place)]
    candidates = alike or found
    return candidates[0] if len(candidates) == 1 else None


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:40]
