"""Failed logins, and who is banned for them: one list that all programs share.

A text file to which each program appends, one line at a time, and of which each reads what is new; what it means is
kept in memory. So nobody waits for anybody, and a process that is killed leaves whole lines. It need not survive a
power loss. Lines are:

    failed AT PLACE              a failed login
    banned UNTIL PLACE FAILURES  what it led to
    lifted AT PLACE              an administrator has forgiven all before

Times are in seconds since 1970; a place is an IPv4 address, an IPv6 /64, or `local`. Where the file has grown, what has
expired is left out of a new one; where lines are damaged, they are. If it cannot be used, each program counts alone.

(SQLite would do all this, but knows a file by its absolute path only: in an instance below a folder that the programs
may not enter, such as root's home, it opens none.)

A login that succeeds forgives nothing: somebody with an account here, or behind the same address as one who has, could
else guess without end. What is counted expires by itself.
"""

import contextlib
import fcntl
import functools
import ipaddress
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsrv.model.peer import LOCAL, client_of, parse_peer
from mailsrv.store.durable import write_volatile

logger = logging.getLogger(__name__)

MAX_OCTETS: Final = 512 * 1024  # some 15,000 lines: to read them all takes 40 ms, which happens at a start only
MOST_KEPT: Final = 4000  # of failures and of bans, the latest, when the file has grown so far
MOST_DOUBLINGS: Final = 3  # of the delay
END_OF_TIME: Final = 253_402_300_800.0  # the year 10,000, of which datetime knows nothing
_PLACE: Final = re.compile(rf"[0-9a-f.:/]+|{LOCAL}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What failures lead to; all times in seconds. Nobody is banned where `ban_after` is 0."""

    delay: float
    ban_after: int
    within: float
    ban_seconds: float
    never_banned: tuple[str, ...]  # networks


@dataclass(frozen=True, slots=True)
class Ban:
    """An address, of IPv6 a /64, that may not log in until then (in seconds since 1970), and its failures."""

    address: str
    until: float
    failures: int


@dataclass(frozen=True, slots=True)
class _Place:
    """What failures are counted by."""

    name: str
    may_be_banned: bool


class FailedLogins:
    """A program's view of the list; safe in any thread. Times are in seconds since 1970. Nothing here raises."""

    def __init__(self, path: Path, policy: Policy) -> None:
        self._path = path
        self._policy = policy
        self._never = [ipaddress.ip_network(each, strict=False) for each in policy.never_banned]
        self._place_of = functools.lru_cache(maxsize=4096)(self._find_place)
        self._lock = threading.Lock()
        self._tally = _Tally()
        self._fd = -1
        self._inode = 0
        self._read = 0  # octets of the file that the tally knows
        self._is_usable = True

    def failed(self, address: str, now: float) -> float:
        """Count a failed login; says for how many seconds the answer to it should wait."""
        place, policy = self._place_of(address), self._policy
        with self._lock:
            self._append(f"failed {now:.3f} {place.name}", now)
            failures = self._tally.count(place.name, now, policy.within)
            if place.may_be_banned and 0 < policy.ban_after <= failures:
                self._append(f"banned {now + policy.ban_seconds:.3f} {place.name} {failures}", now)
        return policy.delay * 2.0 ** min(failures - 1, MOST_DOUBLINGS)

    def banned_until(self, address: str, now: float) -> float | None:
        """Until when this address may not log in; None where it may. Asked for every connection: some microseconds."""
        place = self._place_of(address)
        if not place.may_be_banned:
            return None
        with self._lock:
            try:
                self._catch_up(now)
            except OSError as error:
                self._tell(error)
            ban = self._tally.bans.get(place.name)
        return ban.until if ban and ban.until > now else None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._disconnect()

    def _find_place(self, text: str) -> _Place:
        address = parse_peer(text)
        if address is None:  # a unix socket
            return _Place(LOCAL, may_be_banned=False)
        return _Place(client_of(address), may_be_banned=not any(address in network for network in self._never))

    # --- the file ----------------------------------------------------------------------------------

    def _append(self, line: str, now: float) -> None:
        try:
            self._catch_up(now)
            os.write(self._fd, f"{line}\n".encode())
            self._catch_up(now)
            self._is_usable = True
        except OSError as error:
            self._tell(error)
            self._tally.apply([line])
            if self._tally.lines > 2 * MOST_KEPT:
                self._tally = _tally_of(self._tally.current(now, self._policy.within))

    def _catch_up(self, now: float) -> None:
        """Read what is new; all of it where another file has come in the place of ours, or ours was cut."""
        status = _status_of(self._path)
        if self._fd < 0 or status is None or status.st_ino != self._inode or status.st_size < self._read:
            status = self._open()
        if status.st_size > self._read:
            is_good = self._tally.apply(self._new_lines(status.st_size))
            if not is_good or self._read > MAX_OCTETS:
                self._renew(now)

    def _open(self) -> os.stat_result:
        self._disconnect()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, 0o600)
        status = os.fstat(self._fd)
        self._tally, self._inode, self._read = _Tally(), status.st_ino, 0
        if status.st_size and os.pread(self._fd, 1, status.st_size - 1) != b"\n":  # the end of a line was lost
            os.write(self._fd, b"\n")
        return os.fstat(self._fd)

    def _disconnect(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _new_lines(self, end: int) -> list[str]:
        start = max(self._read, end - 2 * MAX_OCTETS)  # of more, which no program of ours writes, only the last
        octets = os.pread(self._fd, end - start, start)
        whole = octets[: octets.rfind(b"\n") + 1]
        self._read = start + len(whole)
        return whole.decode("ascii", "replace").splitlines()

    def _renew(self, now: float) -> None:
        """Put a file with what still holds in the place of ours, unless another program is about to."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends when we close it
        except BlockingIOError:
            return
        status = _status_of(self._path)
        if status is not None and status.st_ino == self._inode:
            kept = self._tally.current(now, self._policy.within)
            write_volatile(self._path, "".join(f"{line}\n" for line in kept).encode())
        end = self._open().st_size
        self._tally.apply(self._new_lines(end))

    def _tell(self, error: OSError) -> None:
        if self._is_usable:
            logger.warning(
                "%s cannot be used, so failed logins are counted by this program alone: %s", self._path, error
            )
        self._is_usable = False


class _Tally:
    """What lines of the list come to."""

    def __init__(self) -> None:
        self.failures: dict[str, deque[float]] = {}
        self.bans: dict[str, Ban] = {}
        self.lines = 0

    def apply(self, lines: Iterable[str]) -> bool:
        """Count these in; says whether all of them were what they should be."""
        is_good = True
        for line in lines:
            self.lines += 1
            try:
                self._apply(line)
            except (ValueError, IndexError):
                is_good = is_good and not line
        return is_good

    def _apply(self, line: str) -> None:
        kind, moment, place, *more = line.split(" ")
        at = float(moment)
        if not 0 <= at < END_OF_TIME or not _PLACE.fullmatch(place):
            raise ValueError(line)
        match kind:
            case "failed":
                self.failures.setdefault(place, deque()).append(at)
            case "banned":
                self.bans[place] = Ban(place, at, int(more[0]))
            case "lifted":
                self.failures.pop(place, None)
                self.bans.pop(place, None)
            case _:
                raise ValueError(line)

    def count(self, place: str, now: float, within: float) -> int:
        """The failures that are counted together now, the last one at least; those before are forgotten."""
        times = self.failures.get(place, deque())
        while times and abs(now - times[0]) > within:  # one that lies ahead is from before the clock was set back
            times.popleft()
        return max(1, len(times))

    def current(self, now: float, within: float) -> list[str]:
        """The lines that say what still holds, of too many the latest."""
        failures = [(at, place) for place, times in self.failures.items() for at in times if abs(now - at) <= within]
        bans = [each for each in self.bans.values() if each.until > now]
        failures.sort()
        bans.sort(key=lambda each: each.until)
        return [
            *(f"banned {each.until:.3f} {each.address} {each.failures}" for each in bans[-MOST_KEPT:]),
            *(f"failed {at:.3f} {place}" for at, place in failures[-MOST_KEPT:]),
        ]


def read_bans(path: Path, now: float) -> list[Ban]:
    """Who is banned now, whose ban ends first coming first; raises OSError. Changes nothing."""
    try:
        tally = _tally_of(path.read_bytes().decode("ascii", "replace").splitlines())
    except FileNotFoundError:
        return []
    return sorted((each for each in tally.bans.values() if each.until > now), key=lambda each: each.until)


def lift(path: Path, address: str, now: float) -> bool:
    """Forget the ban of an address, as it is or as `read_bans` has it, and its failures; says whether it was banned.

    Raises OSError, and ValueError where it is no address.
    """
    found = parse_peer(address.partition("/")[0])
    if found is None:
        raise ValueError("expected an IP address")
    was_banned = any(each.address == client_of(found) for each in read_bans(path, now))
    while (status := _status_of(path)) is not None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # nobody renews it meanwhile
            if os.fstat(fd).st_ino == status.st_ino:
                os.write(fd, f"lifted {now:.3f} {client_of(found)}\n".encode())
                break
        finally:
            os.close(fd)
    return was_banned


def _tally_of(lines: Iterable[str]) -> _Tally:
    tally = _Tally()
    tally.apply(lines)
    return tally


def _status_of(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat()
    return None
