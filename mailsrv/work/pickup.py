"""The drop box: any visible file put into `var/spool` by hand is mail to be taken in, once, when it is whole.

Whole means: closed after writing, moved in, or left unchanged for `settle_seconds`. A read lease (fcntl(2)) tells at
once whether somebody still has the file open for writing, where the filesystem has leases and we own the file or were
started by root; elsewhere an event that told of its closing does, or its age.
"""

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.store import durable
from mailsrv.store.durable import Draft
from mailsrv.store.entry import FormatError
from mailsrv.store.ledger import Kind, Ledger, Line, line
from mailsrv.store.spool import Claim, Spool, State, shown
from mailsrv.work.books import arrived
from mailsrv.work.hand import Hand
from mailsrv.work.intake import Intake, Understood
from mailsrv.work.octets import no_tick

logger = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 64
FAULT_PAUSE: Final = 5.0  # seconds until what could not be claimed or taken in is tried again


class Readiness(Enum):
    """Whether a dropped file can be taken."""

    WHOLE = auto()
    BEING_WRITTEN = auto()
    UNREADABLE = auto()
    NOT_A_FILE = auto()  # a symbolic link: its target is not ours to read for whoever made the link
    SPECIAL = auto()  # a pipe, a socket, a device: left where it is


@dataclass(frozen=True, slots=True)
class _Sighting:
    """How a file looked when it was first seen like this, and when (monotonic seconds)."""

    size: int
    mtime_ns: int
    inode: int
    since: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a file could not be claimed, and until when (monotonic seconds) it is let be."""

    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan of the drop box came to."""

    taken: int
    waiting: int  # still being written
    stuck: tuple[str, ...]  # names that cannot be read, with the reason
    is_cut_short: bool  # there is more to take right now


class Pickup:
    """Takes dropped files in: claim by rename, publish as an entry, remove the claim."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        ledger: Ledger,
        hand: Hand | None = None,
        tick: Callable[[], None] = no_tick,
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._hand = hand or Hand(config, spool, ledger)
        self._settle_seconds = config.delivery.settle_seconds
        self._intake = Intake(config, tick)
        self._sightings: dict[str, _Sighting] = {}
        self._refusals: dict[str, _Refusal] = {}  # by name, files that could not be claimed
        self._unfinished: list[Claim] = []  # claimed, and to be tried again
        self._unfinished_until = 0.0  # monotonic seconds before which they are not
        self._taken_in: list[Claim] = []  # published, and still to be removed: taken in again, they would be doubled

    def recover(self) -> int:
        """Find the claims of an earlier process, for the next scan to finish; gives their number. Raises OSError."""
        claims = self._spool.claims()
        self._taken_in = [claim for claim in claims if self._spool.path(State.NEW, claim.entry_id).exists()]
        self._unfinished = [claim for claim in claims if claim not in self._taken_in]
        found = [line(Kind.CLAIMED, each.entry_id, file=shown(each.path.name), again=True) for each in self._taken_in]
        self._ledger.write(found)
        self._finish_taken_in()
        return len(claims)

    def scan(self, closed: frozenset[str]) -> Scan:
        """Take in what is whole; `closed` names files that were closed after writing. Raises OSError.

        At most MOST_AT_ONCE files are looked for, so that what lies behind them costs nothing until its turn comes.
        """
        ready: list[Path] = []
        waiting = 0
        stuck: dict[str, str] = {}
        seen: dict[str, _Sighting] = {}
        for path in self._spool.dropped():
            readiness = self._readiness(path, path.name in closed, seen)
            if (refusal := self._refusals.get(path.name)) and time.monotonic() < refusal.until:
                stuck[path.name] = refusal.reason
            elif readiness in (Readiness.WHOLE, Readiness.NOT_A_FILE):
                ready.append(path)
            elif readiness is Readiness.BEING_WRITTEN:
                waiting += 1
            else:
                stuck[path.name] = _REASONS[readiness]
            if len(ready) == MOST_AT_ONCE:
                break
        is_cut_short = len(ready) == MOST_AT_ONCE
        self._sightings = self._sightings | seen if is_cut_short else seen
        self._finish_taken_in()
        claims = [claim for path in ready if (claim := self._claim(path)) is not None]
        self._take_in([*self._due_again(), *claims])
        names = tuple(sorted(f"{shown(name)}: {reason}" for name, reason in stuck.items()))
        return Scan(len(claims), waiting, names, is_cut_short and bool(claims))

    def _due_again(self) -> list[Claim]:
        """The claims that could not be taken in, once their pause is over."""
        if time.monotonic() < self._unfinished_until:
            return []
        unfinished, self._unfinished = self._unfinished, []
        return unfinished

    # --- whole or not ------------------------------------------------------------------------------

    def _readiness(self, path: Path, is_closed: bool, seen: dict[str, _Sighting]) -> Readiness:
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                return Readiness.NOT_A_FILE
            if not stat.S_ISREG(status.st_mode):
                return Readiness.SPECIAL
            is_settled = self._is_settled(path.name, status, seen)
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:
            return Readiness.UNREADABLE
        except OSError:  # gone, or changed under our eyes: the next scan will tell
            return Readiness.BEING_WRITTEN
        try:
            return _readiness_of(fd, status, is_closed=is_closed, is_settled=is_settled)
        finally:
            os.close(fd)

    def _is_settled(self, name: str, status: os.stat_result, seen: dict[str, _Sighting]) -> bool:
        """Whether the file has not changed for long enough, by our own clock or, for a file moved in, by its age."""
        now = time.monotonic()
        sighting = self._sightings.get(name)
        looks = (status.st_size, status.st_mtime_ns, status.st_ino)
        if sighting is None or looks != (sighting.size, sighting.mtime_ns, sighting.inode):
            sighting = _Sighting(*looks, since=now)
        seen[name] = sighting
        return now - sighting.since >= self._settle_seconds or time.time() - status.st_mtime >= self._settle_seconds

    # --- taking in ---------------------------------------------------------------------------------

    def _claim(self, path: Path) -> Claim | None:
        known = self._refusals.pop(path.name, None)
        try:
            return self._spool.claim(path, new_entry_id(datetime.now(UTC)))
        except OSError as error:  # it stays, and shows
            if not os.path.lexists(path):  # taken back
                return None
            reason = f"cannot be claimed: {error.strerror}"
            if known is None or known.reason != reason:
                logger.warning("%s: %s", shown(path.name), reason)
            self._refusals[path.name] = _Refusal(reason, time.monotonic() + FAULT_PAUSE)
            return None

    def _take_in(self, claims: Sequence[Claim]) -> None:
        drafted: list[tuple[Claim, Draft]] = []
        lines: dict[EntryId, Line] = {}
        for claim in claims:
            draft = self._spool.draft(claim.entry_id)
            try:
                if poison := self._hand.take(claim.entry_id):
                    self._hand.hold_claim(claim, poison)
                    continue
                lines[claim.entry_id] = _line_of(claim, draft, self._intake.draft(claim, draft))
                drafted.append((claim, draft))
            except FormatError as error:
                self._set_aside(claim, str(error))
            except OSError as error:
                self._keep(claim, error)
            except Exception as error:  # a fault of ours with one file must not stand in the way of the others
                logger.exception("%s cannot be understood", shown(claim.path.name))
                self._set_aside(claim, f"a fault of mailsrv with this file: {error!r}")
        self._hand.empty()
        published = [(draft, self._spool.path(State.NEW, claim.entry_id)) for claim, draft in drafted]
        outcomes = durable.publish(published)
        taken_in = [claim for (claim, _), outcome in zip(drafted, outcomes, strict=True) if outcome is None]
        # While the claim stands, a line that a crash keeps from being written is written by the next process.
        self._ledger.write([lines[claim.entry_id] for claim in taken_in])
        self._taken_in += taken_in
        for claim in taken_in:
            self._hand.forgive(claim.entry_id)
        for (claim, _), outcome in zip(drafted, outcomes, strict=True):
            if outcome is not None:
                self._keep(claim, outcome)
        self._finish_taken_in()

    def _finish_taken_in(self) -> None:
        for claim in self._taken_in.copy():
            try:
                self._spool.finish_claim(claim)
                self._taken_in.remove(claim)
            except OSError as error:
                logger.warning("the claim of %s cannot be removed now: %s", claim.entry_id, error.strerror)

    def _set_aside(self, claim: Claim, reason: str) -> None:
        name = shown(claim.path.name)
        self._ledger.write([line(kind, claim.entry_id, file=name, why=reason) for kind in (Kind.CLAIMED, Kind.BAD)])
        try:
            place = self._spool.set_aside(claim, reason)
        except OSError as error:
            self._keep(claim, error)
            return
        logger.warning("%s set aside in %s: %s", shown(claim.path.name), place.parent, reason)

    def _keep(self, claim: Claim, error: OSError) -> None:
        """A fault of ours, the disk being full say: the claim stands, and the next scan tries again."""
        logger.warning("%s cannot be taken in now: %s", shown(claim.path.name), error.strerror)
        self._unfinished.append(claim)
        self._unfinished_until = time.monotonic() + FAULT_PAUSE


def _line_of(claim: Claim, draft: Draft, understood: Understood) -> Line:
    facts = {"file": shown(claim.path.name), **understood.about()}
    return arrived(Kind.CLAIMED, claim.entry_id, understood.envelope, draft.size, **facts)


_REASONS = {
    Readiness.UNREADABLE: "may not be read by the user that delivery runs as",
    Readiness.SPECIAL: "is not a regular file",
}


def _readiness_of(fd: int, status: os.stat_result, *, is_closed: bool, is_settled: bool) -> Readiness:
    if status.st_size == 0 and not is_settled:  # just made, perhaps, and about to be opened again
        return Readiness.BEING_WRITTEN
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:  # open for writing somewhere
            return Readiness.BEING_WRITTEN
        return Readiness.WHOLE if is_closed or is_settled else Readiness.BEING_WRITTEN
    return Readiness.WHOLE
