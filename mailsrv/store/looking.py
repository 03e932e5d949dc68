"""Looks at the folders of a Maildir: what is in them, while other programs may rename, and whether they have changed.

What lies there is told by its *place*, the name and the folder, `NAME/new`: so places sort as the names do.
"""

import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

FOLDERS: Final = ("new", "cur")  # names of one length
TAIL: Final = len("/new")
LOOKS: Final = 4  # at most, where other programs rename all the time
# A folder that changed later than this before it was listed may have changed since, and tell the same time of it.
_SETTLED_NS: Final = 50_000_000
_SETTLED_COARSELY_NS: Final = 2_100_000_000  # where the filesystem's times are whole seconds, or every second one
_STEP: Final = 1 << 16  # characters compared at once
_NEAR: Final = 4096  # characters within which a name is looked for
_MOST_STEPS: Final = 100  # over names that one listing has and the other has not


class Stamp(NamedTuple):
    """What tells that a folder has changed: times in ns since 1970, and which folder it is."""

    modified: int
    changed: int  # which nobody can set back
    inode: int


def stamp_of(folder: Path) -> Stamp:
    """As the folder is now; raises OSError."""
    found = folder.stat()
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def is_settled(modified: int, moment: int) -> bool:
    """Whether a folder modified then would tell another time had it been modified again since `moment`; in ns."""
    return modified < moment - (_SETTLED_NS if modified % 1_000_000_000 else _SETTLED_COARSELY_NS)


def base(place: str) -> str:
    """The name without its flags."""
    return place[:-TAIL].partition(":")[0]


class Look(NamedTuple):
    """The names in some of FOLDERS at one moment, by folder, each followed by `/`, in the order of the system.

    Not `is_certain`: other programs may have renamed in cur/ meanwhile, and a name that was there may be missing.
    """

    names: dict[str, str]
    is_certain: bool

    def places(self) -> list[str]:
        """What lies there."""
        return [place for folder, names in self.names.items() for place in _places(names.split("/"), folder)]

    def since(self, earlier: dict[str, str]) -> tuple[list[str], list[str]]:
        """What has come since `earlier`, the names in these folders and maybe others, and what is gone."""
        come, gone = list[str](), list[str]()
        for folder, names in self.names.items():
            new, old = _unlike(names, earlier[folder])
            come += _places(new, folder)
            gone += _places(old, folder)
        return come, gone


def look(mailbox: Path, folders: Iterable[str] = FOLDERS) -> Look:
    """Look into `folders`, which come in the order of FOLDERS; raises OSError.

    What moves from new/ to cur/ meanwhile is not missed, as cur/ comes last; what is renamed in cur/ may be.
    """
    began = time.time_ns()
    names = {folder: "/".join([*os.listdir(mailbox / folder), ""]) for folder in folders}
    return Look(names, is_settled((mailbox / FOLDERS[-1]).stat().st_mtime_ns, began))


def look_again(mailbox: Path, first: Look) -> list[str]:
    """What lies in all FOLDERS, by several looks, the first of which was not certain; raises OSError."""
    seen = _by_base(first.places())
    for _ in range(LOOKS - 1):
        another = look(mailbox)
        if another.is_certain:
            return another.places()
        seen.update(_by_base(another.places()))
    return list(itertools.chain.from_iterable(seen.values()))


def _places(names: Iterable[str], folder: str) -> list[str]:
    tail = f"/{folder}"
    return [name + tail for name in names if name and name[0] != "."]


def _by_base(places: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place in places:
        found.setdefault(base(place), []).append(place)
    return found


def _unlike(one: str, other: str) -> tuple[set[str], set[str]]:
    """The names that only one has, and those that only the other has.

    Systems list in an order that stays: so both are the same but for a few names, which are stepped over. What is not
    found to be the same is compared by names, and none stands twice.
    """
    names, others = set[str](), set[str]()
    at = there = 0
    for _ in range(_MOST_STEPS):
        same = _alike(one, at, other, there)
        same -= at + same - (one.rfind("/", 0, at + same) + 1)  # whole names
        at, there = at + same, there + same
        end, its_end = one.find("/", at) + 1, other.find("/", there) + 1
        if not end or not its_end:
            break
        if (found := one.find(f"/{other[there:its_end]}", at, at + _NEAR)) >= 0:
            end, its_end = found + 1, there
        elif (found := other.find(f"/{one[at:end]}", there, there + _NEAR)) >= 0:
            end, its_end = at, found + 1
        names.update(one[at:end].split("/"))
        others.update(other[there:its_end].split("/"))
        at, there = end, its_end
    names.update(one[at:].split("/"))
    others.update(other[there:].split("/"))
    return names - others, others - names


def _alike(one: str, at: int, other: str, there: int) -> int:
    """How many characters are the same from there on."""
    length, step, most = 0, _STEP, min(len(one) - at, len(other) - there)
    while step:
        end = length + step
        if end <= most and one[at + length : at + end] == other[there + length : there + end]:
            length = end
        else:
            step //= 2
    return length
