"""How an instance is: programs, spool, problems; what `mailsrv status` shows. Reading only."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mailsrv.config import Config
from mailsrv.host.supervisor import ProcessState, Supervisor, SupervisorError
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.store.entry import FormatError
from mailsrv.store.failed_logins import Ban, read_bans
from mailsrv.store.heartbeat import Fact, read_beat, read_worst
from mailsrv.store.retry import WAITING, read_retry
from mailsrv.store.spool import Spool, State, shown
from mailsrv.work.audit import Audited, last

STALE: Final = 10.0  # seconds without a heartbeat
LATE_AUDITS: Final = 3  # intervals, and seconds for the work, after which an audit is late
LATE_AUDIT_SECONDS: Final = 600.0
MOST_NAMED: Final = 10  # of what an audit has found wrong
LATE_SCANS: Final = 3  # scan intervals after which an undecided entry is late


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its state in supervisor's words, its pid, seconds since its heartbeat, and what that said."""

    name: str
    state: str
    pid: int
    uptime: float
    beat_age: float | None
    facts: Mapping[str, Fact]

    @property
    def is_well(self) -> bool:
        """A program that a person has stopped is well."""
        if self.is_stopped:
            return True
        silence = self.uptime if self.beat_age is None else self.beat_age
        return self.is_up and silence < STALE

    def complaint(self) -> str:
        """What is wrong with a program that is not well."""
        return "no heartbeat for too long" if self.is_up else self.state

    @property
    def is_stopped(self) -> bool:
        """By a person: mailsrv itself stops no program, it only ends processes."""
        return self.state == ProcessState.STOPPED.value

    @property
    def is_up(self) -> bool:
        return self.state in (ProcessState.RUNNING.value, ProcessState.STARTING.value)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Everything at a glance, waits in seconds, `problems` in words. A ban is no problem of ours."""

    programs: tuple[Program, ...]
    entries: Mapping[str, int]
    oldest_undecided: float
    worst_wait: float  # ever
    problems: tuple[str, ...]
    bans: tuple[Ban, ...]
    audit: Audited | None  # the last one

    @property
    def stopped(self) -> list[str]:
        """The programs that a person has stopped."""
        return [program.name for program in self.programs if program.is_stopped]

    @property
    def is_well(self) -> bool:
        return not self.problems and all(program.is_well for program in self.programs)


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of the spool as `mailsrv queue list` shows it; `due` in seconds since 1970."""

    entry_id: EntryId
    state: State
    sender: str
    recipients: tuple[str, ...]
    octets: int
    due: float | None
    reason: str


def look(config: Config) -> Outlook:
    """Look at everything; raises OSError where the spool cannot be read."""
    spool = Spool(config.spool)
    problems: list[str] = []
    programs = _programs(config, problems)
    for program in programs:
        for kind in ("problems", "stuck"):
            found = program.facts.get(kind)
            problems += [f"{program.name}: {each}" for each in found] if isinstance(found, list) else []
        if not program.is_well:
            problems.append(f"{program.name}: {program.complaint()}, see var/log/{program.name}.log")
    entries = {state.value: len(spool.entries(state)) for state in State}
    entries["bad"] = sum(1 for path in spool.bad.glob("*") if path.with_name(f"{path.name}.txt").exists())
    new = spool.entries(State.NEW)
    oldest = max(0.0, time.time() - arrival_of(new[0]).timestamp()) if new else 0.0  # 0 where the clock was set back
    if oldest > LATE_SCANS * config.delivery.scan_interval:
        problems.append(f"spool/new: the oldest entry has been waiting for {oldest:.0f} s")
    problems += [
        f"spool/{path.parent.name}/{shown(path.name)} is no entry: put files into the drop box, {spool.root}"
        for path in spool.strangers()
    ]
    worst = max(oldest, read_worst(config.worst_wait))
    audited = last(config)
    problems += _imbalance(audited, config.ledger.audit_interval)
    return Outlook(tuple(programs), entries, oldest, worst, tuple(problems), tuple(_bans(config)), audited)


def _imbalance(audited: Audited | None, interval: float) -> Iterator[str]:
    """What the last audit has found wrong, and whether it is long ago."""
    if audited is None:
        return
    named = [*(f"missing: {each}" for each in audited.missing), *(f"doubled: {each}" for each in audited.doubled)]
    yield from (f"audit: {each}" for each in named[:MOST_NAMED])
    if len(named) > MOST_NAMED:
        yield f"audit: and {len(named) - MOST_NAMED} more; `mailsrv audit` names them all"
    if time.time() - audited.moment > LATE_AUDITS * interval + LATE_AUDIT_SECONDS:
        yield f"audit: the last one was {time.time() - audited.moment:.0f} s ago; see var/log/health.log"


def queue(config: Config) -> list[Listed]:
    """All entries of the spool, in order of arrival; raises OSError."""
    spool = Spool(config.spool)
    found = [each for state in State for each in (listed(spool, state, eid) for eid in spool.entries(state))]
    return sorted((each for each in found if each is not None), key=lambda each: each.entry_id)


def listed(spool: Spool, state: State, entry_id: EntryId) -> Listed | None:
    """An entry of that state, also one that cannot be read; None where it is there no more."""
    due, reason = None, ""
    try:
        if state.has_sidecar and (retry := read_retry(spool.retry_path(entry_id, state))):
            due = retry.due
            errors = [f"{key}: {fate.error}" for key, fate in retry.destinations.items() if fate.state == WAITING]
            reason = "; ".join(errors)
        if state is State.HOLD:
            reason = spool.reason(entry_id)
        file, block = spool.open(state, entry_id)
        with file:
            octets = spool.path(state, entry_id).stat().st_size
    except FileNotFoundError:  # decided while we looked
        return None
    except OSError as error:
        return Listed(entry_id, state, "", (), 0, due, f"cannot be read: {error.strerror}: {error.filename}")
    except FormatError as error:
        return Listed(entry_id, state, "", (), 0, due, "; ".join(filter(None, (reason, str(error)))))
    recipients = tuple(str(each.forward_path) for each in block.envelope.recipients)
    return Listed(entry_id, state, str(block.envelope.sender.reverse_path or "<>"), recipients, octets, due, reason)


def _bans(config: Config) -> list[Ban]:
    with contextlib.suppress(OSError):  # what cannot be read now bans nobody either
        return read_bans(config.failed_logins, time.time())
    return []


def _programs(config: Config, problems: list[str]) -> list[Program]:
    try:
        processes = Supervisor(config.supervisor_socket).processes()
    except SupervisorError as error:
        problems.append(f"{error}; `mailsrv up` starts it")
        return []
    programs = []
    for process in processes:
        beat = read_beat(config.beat_path(process.name))
        is_its_own = beat is not None and beat.pid == process.pid
        age = beat.age() if beat is not None and is_its_own else None
        facts = beat.facts if beat is not None and is_its_own else {}
        programs.append(Program(process.name, process.state.value, process.pid, process.uptime, age, facts))
    return programs
