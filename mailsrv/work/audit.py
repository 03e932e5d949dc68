"""The audit: accepted + claimed = all fates + what lies in the spool, message by message, recipient by recipient.

It reads the ledger and lists the spool, and changes nothing. An entry leaves the spool after the line that tells where
it has gone. So what was accepted in the lines read before the listing, is not in the listing, and is not accounted for
in the lines read after it, is missing. What was settled is remembered by a number only: the next audit of the same
process reads what is new.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId, arrival_of, is_entry_id
from mailsrv.store import durable, ledger
from mailsrv.store.ledger import Kind, Line, Reader
from mailsrv.store.spool import Spool

LOOKS: Final = 4  # at what seems to be missing: a listing may miss what is moved while it is made
PAUSE: Final = 0.25  # seconds between them
MOST_NAMED: Final = 1000
FIRST_PAUSE: Final = 30.0  # seconds until the first audit of a process
LINES_AT_ONCE: Final = 500  # between two of these an auditor rests, and so takes a fourth of a core at most
REST: Final = 0.015  # seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit has come to; `moment` and `since` in seconds since 1970, `lines` by fate."""

    moment: float
    since: float
    messages: int
    settled: int
    waiting: int  # in the spool
    lines: dict[str, int]
    unannounced: int  # with fates, but without a line of acceptance: a program was killed before it could write it
    repeated: int  # delivered again by another boot, which is what a power loss may do
    missing: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()

    @property
    def is_balanced(self) -> bool:
        return not self.missing and not self.doubled


@dataclass(slots=True)
class _Message:
    """What the books say of one entry."""

    arrived: Line | None = None
    to: tuple[str, ...] = ()
    routes: dict[str, list[str]] = field(default_factory=dict)  # recipients that lead to others than themselves
    done: set[str] = field(default_factory=set)
    is_over: bool = False  # as a whole: removed, or bad
    delivered: Counter[tuple[str, str]] = field(default_factory=Counter)  # by destination and boot

    def missing(self) -> list[str]:
        """The recipients of whom not everything is accounted for."""
        if self.is_over or self.arrived is None:
            return []
        return [each for each in self.to if not self.done.issuperset(self._leads_to(each))]

    def _leads_to(self, recipient: str) -> list[str]:
        """An entry that was made of another one names its recipients as destinations: in small letters, perhaps."""
        alike = (found for each, found in self.routes.items() if each.lower() == recipient.lower())
        return self.routes.get(recipient) or next(alike, [recipient])


class Audit:
    """One process's view of the books; each `run` goes on where the last one ended."""

    def __init__(self, config: Config, pace: Callable[[], None] = lambda: None) -> None:
        self._config = config
        self._spool = Spool(config.spool)
        self._reader = Reader(config.books)
        self._pace = pace  # called for each line
        self._open: dict[str, _Message] = {}
        self._settled: dict[int, str] = {}  # by the hash of the id, the boot that has delivered it
        self._lines: Counter[str] = Counter()
        self._messages = self._unannounced = self._repeated = 0
        self._doubled: dict[str, str] = {}  # in words, of which entry
        self._removed: set[str] = set()

    def run(self) -> Audited:
        """Audit; raises OSError."""
        self._begun = ledger.begun(self._config.books)
        self._oldest = ledger.oldest_day(self._config.books, self._config.ledger.keep_days)
        self._read()
        missing: dict[str, list[str]] = {}
        present: frozenset[str] = frozenset()
        asked: list[str] = []
        for look in range(LOOKS):
            if look:
                time.sleep(PAUSE)
            asked = list(self._open)  # what comes after this is nobody's business yet
            present = self._present()
            self._read()
            asked = [key for key in asked if key in self._open]
            missing = {key: found for key in asked if key not in present and (found := self._missing(key))}
            if not missing:
                break
        told = [self._told(key, recipient) for key, found in missing.items() for recipient in found]
        waiting = sum(1 for key in self._open if key in present)
        self._settle([key for key in asked if key not in present and key not in missing])
        return Audited(
            time.time(),
            self._begun,
            self._messages,
            len(self._settled),
            waiting,
            dict(self._lines),
            self._unannounced,
            self._repeated,
            tuple(sorted(told)[:MOST_NAMED]),
            tuple(sorted(told for told, key in self._doubled.items() if key not in self._removed)[:MOST_NAMED]),
        )

    # --- lines -------------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in self._reader.read(self._oldest):
            self._pace()
            self._lines[line["fate"]] += not line.get("again")
            if line["fate"] not in (Kind.FETCHED, Kind.DELETED):
                self._take(line)

    def _take(self, line: Line) -> None:
        entry_id, fate = line["id"], line["fate"]
        if hash(entry_id) in self._settled:
            self._take_settled(line)
            return
        message = self._open.setdefault(entry_id, _Message())
        if "of" not in line:
            message.routes |= line.get("routes", {})
        if fate in (Kind.ACCEPTED, Kind.CLAIMED):
            self._take_arrival(message, line)
        elif fate == Kind.REMOVED:
            message.is_over = True
            self._removed.add(entry_id)
        elif fate == Kind.BAD or (fate == Kind.RELEASED and "file" in line):
            message.is_over = True
        elif fate in (Kind.DELIVERED, Kind.BOUNCED, Kind.RELAYED) or (fate == Kind.HELD and "entry" in line):
            message.done.update(line.get("to", ()))
        if fate == Kind.DELIVERED and not line.get("again"):
            self._count(message, line)
        self._settle_if_complete(entry_id)

    def _take_arrival(self, message: _Message, line: Line) -> None:
        if message.arrived is None:
            self._messages += 1
        if message.arrived is None or not line.get("again"):
            message.arrived = line
            message.to = tuple(line.get("to", ()))
        if (parent := line.get("of")) and hash(parent) not in self._settled:
            of = self._open.setdefault(parent, _Message())
            of.done.update(line.get("serves", ()))
            of.routes |= line.get("routes", {})
            self._settle_if_complete(parent)

    def _count(self, message: _Message, line: Line) -> None:
        for destination in line.get("to", ()):
            message.delivered[destination, line["boot"]] += 1
            if message.delivered[destination, line["boot"]] > 1:
                told = f"{line['id']} to {destination}: delivered twice, again at {_moment(line['t'])}"
                self._doubled[told] = line["id"]
            elif sum(number for (key, _), number in message.delivered.items() if key == destination) > 1:
                self._repeated += 1

    def _take_settled(self, line: Line) -> None:
        if line["fate"] == Kind.REMOVED:
            self._removed.add(line["id"])
        if line["fate"] != Kind.DELIVERED or line.get("again") or not line.get("to"):
            return
        if self._settled[hash(line["id"])] == line["boot"]:
            for to in line["to"]:
                told = f"{line['id']} to {to}: delivered again at {_moment(line['t'])}, after all was done"
                self._doubled[told] = line["id"]
        else:
            self._repeated += len(line["to"])

    # --- the balance -------------------------------------------------------------------------------

    def _missing(self, entry_id: str) -> list[str]:
        """The recipients of whom nothing is known, though it should be."""
        found = self._open[entry_id].missing()
        if not found or not is_entry_id(entry_id):
            return []
        return found if arrival_of(EntryId(entry_id)).timestamp() >= self._begun else []

    def _told(self, entry_id: str, recipient: str) -> str:
        line = self._open[entry_id].arrived or {}
        return (
            f"{entry_id} to {recipient}: {line.get('fate')} at {_moment(line.get('t', 0.0))} by {line.get('by')}, "
            f"from {line.get('from') or '<>'}; it is not in the spool, and nothing tells what became of it"
        )

    def _settle_if_complete(self, entry_id: str) -> None:
        """At once where everything is accounted for: of a million messages, only those under way are in memory."""
        message = self._open[entry_id]
        if message.arrived is not None and message.to and not message.is_over and not message.missing():
            self._settle([entry_id])

    def _settle(self, over: Sequence[str]) -> None:
        """Keep of what is over no more than that it is."""
        for entry_id in over:
            message = self._open.pop(entry_id)
            self._unannounced += message.arrived is None
            self._settled[hash(entry_id)] = next((boot for _, boot in message.delivered), "")

    def _present(self) -> frozenset[str]:
        """The ids of all that lies in the spool."""
        return frozenset(self._listed())

    def _listed(self) -> Iterator[str]:
        yield from self._spool.everything()
        yield from self._spool.everything()  # what was moved backwards during the first listing is in the second


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Auditor:
    """Audits again and again, slowly, beside whatever else the process does, and keeps what it has come to."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._audit = Audit(config, self._pace)
        self._lines = 0

    def run(self) -> None:
        """For ever; to be the work of a thread that ends with the process."""
        pause = min(FIRST_PAUSE, self._config.ledger.audit_interval)
        while True:
            time.sleep(pause)
            pause = self._config.ledger.audit_interval
            try:
                keep(self._config, self._audit.run())
            except OSError as error:
                logger.warning("the books cannot be audited now: %s: %s", error.strerror, error.filename)
            except Exception:  # a fault of ours: begun anew, it may come further
                logger.exception("the audit broke off")
                self._audit = Audit(self._config, self._pace)

    def _pace(self) -> None:
        self._lines += 1
        if self._lines % LINES_AT_ONCE == 0:
            time.sleep(REST)


def keep(config: Config, audited: Audited) -> None:
    """Keep what an audit has come to, for `mailsrv status`; raises OSError."""
    durable.write_volatile(config.audit, json.dumps(asdict(audited)).encode() + b"\n")


def last(config: Config) -> Audited | None:
    """What the last audit that was kept has come to, or None where there is none."""
    try:
        found = json.loads(config.audit.read_bytes())
        return Audited(**{**found, "missing": tuple(found["missing"]), "doubled": tuple(found["doubled"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
