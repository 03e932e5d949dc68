"""What is in a Maildir at one moment: the messages of new/ and cur/, in order of arrival, by index from 0.

It is kept small, as a maildrop may have 100,000 messages: a string and a number for each. The string is a place
(store/looking.py), which sorts as the name does.

Other programs rename while we look, to set flags: a look at a folder may then miss a file, or see it under both names.
"""

import bisect
import hashlib
import itertools
import logging
import os
import re
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mailsrv.store.looking import FOLDERS, LOOKS, TAIL, Stamp, base, is_settled, look, look_again, stamp_of
from mailsrv.store.maildir import unique_part
from mailsrv.store.measured import Measured

logger = logging.getLogger(__name__)

_WIRE_SIZE = re.compile(r",W=(\d{1,18})(?![^,:/])")
_UIDL = re.compile(r"([!-+.0-9;-~-]{1,70})[,:/]")  # RFC 1939 §7: of `!` to `~`, up to what ends the unique part
_MARKS: Final = ",:/"  # one of these ends the unique part
_MANY: Final = 1000  # messages, from which on to look at all of them is as quick, and takes less memory


class Listing:
    """The messages of a mailbox as they were when it was listed.

    `memo` is for what a reader makes of it, by its name, in pieces with a line for each message: whoever reads the same
    listing again need not make it again, nor what was made of the first messages where only those behind are others.
    """

    def __init__(self, mailbox: Path, earlier: "Listing | None" = None) -> None:
        """List `mailbox`; raises OSError. `earlier` is not to be used any more."""
        self.mailbox = mailbox
        self._root = f"{mailbox}/"
        self._folders = tuple(mailbox / each for each in FOLDERS)
        # Names that have told octets wrongly.
        self._distrusted: set[str] = set(earlier._distrusted) if earlier else set()
        self._corrected: set[str] = set()  # names that tell octets, and were measured all the same
        self.memo: dict[str, list[bytes]] = {}
        self._listed = time.time_ns()
        self._changed = self._stamps()
        self._is_whole = True
        self._places: list[str] = []
        self._told_apart: dict[str, str] = {}  # unique ids of those that share a unique part with others, by place
        self.octets = array("Q")
        self.total = 0  # of the octets
        self._names: dict[str, str] = {}  # by folder, as Look has them; nothing where that is not certain
        self._is_plain = True  # all names tell all there is to know
        if earlier is None or not self._takes_over(earlier):
            self._list()

    def uidl(self, index: int) -> str:
        """The unique id of a message: the part of its name that no flag changes, or what is made of it."""
        place = self._places[index]
        if self._told_apart and place in self._told_apart:
            return self._told_apart[place]
        allowed = _UIDL.match(place)
        return allowed[1] if allowed else _digest(_unique(place))

    def path(self, index: int) -> Path:
        """Where the message lay when it was last seen."""
        return Path(self.name(index))

    def name(self, index: int) -> str:
        """The same as text."""
        return self._path(self._places[index])

    def file_name(self, index: int) -> str:
        """Without its folder."""
        return self._places[index][:-TAIL]

    def is_current(self) -> bool:
        """Whether the mailbox is as it was when it was listed; raises OSError."""
        return self._is_whole and self._is_unchanged()

    def tells_octets(self, index: int) -> bool:
        """Whether the octets of a message are those that its name tells, and were not measured."""
        place = self._places[index]
        return _WIRE_SIZE.search(place) is not None and not (self._corrected and base(place) in self._corrected)

    def distrust(self, index: int) -> None:
        """A message turned out to be of other octets than are listed: the next listing is to measure it anew."""
        self._distrusted.add(base(self._places[index]))
        self._is_whole = False

    def find_again(self) -> None:
        """Learn where other programs have moved messages, by flags or from new/ to cur/; raises OSError."""
        if self._is_unchanged():
            return
        self._listed = time.time_ns()
        self._changed = self._stamps()
        self._is_whole = False  # what has come since is not in it
        now: dict[str, list[str]] = {}
        for place in look(self.mailbox).places():
            now.setdefault(_unique(place), []).append(place)
        for index, place in enumerate(self._places):
            found = now.get(_unique(place), [])
            if place not in found and (new := _the_same(place, found)) is not None:
                if place in self._told_apart:
                    self._told_apart[new] = self._told_apart.pop(place)
                self._places[index] = new

    def _is_unchanged(self) -> bool:
        return not self._changed_by(self._stamps())

    def _stamps(self) -> list[Stamp]:
        return [stamp_of(each) for each in self._folders]

    def _changed_by(self, stamps: list[Stamp]) -> list[str]:
        """The folders that are not certain, by their stamps now, to be as they were when they were listed."""
        return [
            folder
            for folder, before, now in zip(FOLDERS, self._changed, stamps, strict=True)
            if now != before or not is_settled(now.modified, self._listed)
        ]

    def _path(self, place: str) -> str:
        return f"{self._root}{place[1 - TAIL :]}/{place[:-TAIL]}"

    def _list(self) -> None:
        """Learn all anew."""
        seen = look(self.mailbox)
        self._places = sorted(seen.places() if seen.is_certain else look_again(self.mailbox, seen))
        self._names = seen.names if seen.is_certain else {}
        if not _are_unlike(self._places):
            self._is_plain = False
            self._tell_apart()
        self.octets = array("Q", bytes(8 * len(self._places)))
        self._measure()
        self.total = sum(self.octets)

    def _takes_over(self, earlier: "Listing") -> bool:
        """Whether all that is known could be taken over from `earlier`, but for few that have come or gone.

        Only folders that have changed are looked at. Those that have come must tell all there is to know.
        """
        if not (earlier._names and earlier._is_whole and earlier._is_plain and Measured(self.mailbox).is_empty):
            return False
        seen = look(self.mailbox, earlier._changed_by(self._changed))
        come, gone = seen.since(earlier._names)
        told = {place: int(found[1]) for place in come if (found := _WIRE_SIZE.search(place))}
        if not seen.is_certain or len(come) + len(gone) > _MANY or len(told) < len(come):
            return False
        self._names = earlier._names | seen.names
        self._places, self.octets, self.total = earlier._places.copy(), earlier.octets[:], earlier.total
        changed = [self._take_out(place) for place in gone] + [self._put_in(*each) for each in told.items()]
        if not self._are_new(come):
            return False
        first = min(changed, default=len(self._places))
        self.memo = {name: _of_first(first, pieces) for name, pieces in earlier.memo.items()}
        return True

    def _take_out(self, place: str) -> int:
        """Forget a message; gives its index."""
        index = bisect.bisect_left(self._places, place)
        self.total -= self.octets[index]
        del self._places[index], self.octets[index]
        return index

    def _put_in(self, place: str, octets: int) -> int:
        """Add a message; gives its index."""
        index = bisect.bisect_left(self._places, place)
        self._places.insert(index, place)
        self.octets.insert(index, octets)
        self.total += octets
        return index

    def _are_new(self, places: Iterable[str]) -> bool:
        """Whether no other message shares the unique part of one of these."""
        return all(self._begin_with(f"{_unique(place)}{mark}") <= {place} for place in places for mark in _MARKS)

    def _begin_with(self, beginning: str) -> set[str]:
        """The first two, at most, of the messages whose names begin so."""
        first = bisect.bisect_left(self._places, beginning)
        return {each for each in self._places[first : first + 2] if each.startswith(beginning)}

    def _measure(self) -> None:
        """Fill `octets`, and leave out what cannot be measured."""
        measured, left_out = Measured(self.mailbox), set[int]()
        waiting = self._take_told(measured)
        self._is_plain = self._is_plain and measured.is_empty and not waiting
        for turn in range(LOOKS):
            if turn and waiting:  # what still waits was renamed since it was listed
                self.find_again()
            waiting = [index for index in waiting if not self._is_measured(measured, index, left_out)]
        if left_out := left_out.union(waiting):
            kept = [index for index in range(len(self._places)) if index not in left_out]
            self._places = [self._places[index] for index in kept]
            self.octets = array("Q", [self.octets[index] for index in kept])
            self._is_whole = False  # it may be there, or ours to read, the next time
        self._distrusted.clear()
        measured.note()

    def _take_told(self, measured: Measured) -> list[int]:
        """Fill `octets` with what names tell, as far as it is not known to be wrong; gives what is to be measured."""
        waiting = []
        none_is_wrong = measured.is_empty and not self._distrusted
        for index, place in enumerate(self._places):
            told = _WIRE_SIZE.search(place)
            if told and (none_is_wrong or not self._is_wrong(base(place), measured)):
                self.octets[index] = int(told[1])
                continue
            waiting.append(index)
            if told:
                self._corrected.add(base(place))
        return waiting

    def _is_wrong(self, name: str, measured: Measured) -> bool:
        return name in self._distrusted or measured.knows(name)

    def _is_measured(self, measured: Measured, index: int, left_out: set[int]) -> bool:
        """Measure a message, or note that it is to be left out; False where it is not there any more."""
        place = self._places[index]
        try:
            name = base(place)
            self.octets[index] = measured.octets_of(self._path(place), name, anew=name in self._distrusted)
        except FileNotFoundError:
            return False
        except OSError as error:  # one file that is not ours to read must not keep its owner from all the others
            logger.warning("left out of the maildrop: %s: %s", self._path(place), error.strerror)
            left_out.add(index)
        return True

    def _tell_apart(self) -> None:
        """Give each of those that share a unique part an id of its own, the first keeps it; a second link is no other.

        Other programs make such files by copying, or for a moment while they move one.
        """
        groups: dict[str, list[str]] = {}
        for place in self._places:
            groups.setdefault(_unique(place), []).append(place)
        left_out: set[str] = set()
        for places in groups.values():
            if len(places) > 1:
                left_out.update(self._tell_group_apart(places))
        self._places = [place for place in self._places if place not in left_out]

    def _tell_group_apart(self, places: list[str]) -> Iterator[str]:
        """The same for one group; gives those to leave out: second links, and former names of what was renamed."""
        files = {place: _inode(self._path(place)) for place in places}
        here = [place for place in places if files[place] is not None] or places[-1:]
        yield from set(places).difference(here)
        seen, numbers = {files[here[0]]}, Counter[str]()
        for place in here[1:]:
            if files[place] in seen:
                yield place
                continue
            name = base(place)
            numbers[name] += 1  # by name, so that whoever has another name does not change the id
            self._told_apart[place] = _digest(f"{name} {numbers[name]}")
            seen.add(files[place])


def _of_first(number: int, pieces: list[bytes]) -> list[bytes]:
    """Those of the pieces that have lines of the first messages only."""
    ends = itertools.accumulate(piece.count(b"\n") for piece in pieces)
    return [piece for piece, end in zip(pieces, ends, strict=True) if end <= number]


def _are_unlike(places: list[str]) -> bool:
    """Whether all unique parts differ; a coincidence of hashes counts as no."""
    # A set of numbers is smaller than one of strings.
    return len({hash(each[:-TAIL].partition(":")[0].partition(",")[0]) for each in places}) == len(places)


def _unique(place: str) -> str:
    return unique_part(place[:-TAIL])


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _the_same(place: str, found: list[str]) -> str | None:
    """Which of the files that share its unique part is the one that lay at `place`, if that is certain."""
    alike = [each for each in found if base(each) == base(place)]
    candidates = alike or found
    return candidates[0] if len(candidates) == 1 else None


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:40]
