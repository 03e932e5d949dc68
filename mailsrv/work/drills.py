"""The drills: each makes one fault for real in a running instance, waits until it is seen and until mail flows again.

mail flows meanwhile (work/flow.py), and is counted after each: lost, doubled, connections refused.
"""

import contextlib
import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.host import service_manager
from mailsrv.host.supervisor import ProcessState, Supervisor, SupervisorError
from mailsrv.store import incidents
from mailsrv.store.attempts import count_deaths
from mailsrv.store.heartbeat import read_beat
from mailsrv.store.spool import Spool, State
from mailsrv.work.flow import Flow
from mailsrv.work.symptoms import Symptom, rule_of

POLL: Final = 0.05
FLOOD: Final = 20_000  # files
POISON_OCTETS: Final = 48 * 1024 * 1024  # as much as keeps delivery busy for a moment
DAY: Final = 86_400
PROGRAMS: Final = ("smtp", "delivery", "pop3", "relay", "health")
MAIL_GOES_THROUGH: Final = ("smtp", "delivery", "relay")


class NotSeenError(Exception):
    """What was waited for has not come."""


class SkippedError(Exception):
    """It cannot be tried here; why."""


@dataclass(slots=True)
class Place:
    """The instance; `config` has absolute paths. `up` starts it again; `is_ours` where all of it was made for this.

    What is done within `undisturbed()` is finished before Ctrl-C, say, ends the drill.
    """

    config: Config
    flow: Flow
    up: Callable[[], None]
    undisturbed: Callable[[], contextlib.AbstractContextManager[None]]
    patience: float
    is_ours: bool
    has_own_disk: bool
    seen: float | None = None  # monotonic: when the symptom was

    def pid(self, program: str, states: Collection[ProcessState] = (ProcessState.RUNNING,)) -> int:
        """Of a program that is in one of these states; 0 where it is not."""
        try:
            processes = Supervisor(self.config.supervisor_socket).processes()
        except SupervisorError:
            return 0
        return next((each.pid for each in processes if each.name == program and each.state in states), 0)

    def signal(self, program: str, number: signal.Signals) -> int:
        """Send it to the program's process, which may have begun a moment ago; gives the process."""
        pid = self.pid(program, (ProcessState.STARTING, ProcessState.RUNNING))
        if not pid:  # 0 would mean this process and all of its group
            raise NotSeenError(f"{program} runs")
        os.kill(pid, number)
        return pid

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it holds; raises NotSeenError after `patience`."""
        deadline = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > deadline:
                raise NotSeenError(what)
            time.sleep(POLL)

    def wait_ready(self) -> None:
        """Wait until every program runs and beats."""
        self.wait(lambda: all(self._is_ready(each) for each in PROGRAMS), "every program runs")

    def mark(self) -> None:
        """The symptom has been seen, now."""
        self.seen = self.seen or time.monotonic()

    def wait_replaced(self, program: str, pid: int) -> None:
        """Wait until the symptom is seen, by an incident or a new process, and until the new process beats."""
        kept = self._incidents(program)

        def is_seen() -> bool:
            return self._incidents(program) > kept or self.pid(program) not in (0, pid)

        self.wait(is_seen, f"an incident of {program}")
        self.mark()
        self.wait(lambda: self.pid(program) not in (0, pid) and self._is_ready(program), f"{program} is new")

    def wait_incident(self, program: str, before: int) -> None:
        """Wait until there are more incidents of a program than before."""
        self.wait(lambda: self._incidents(program) > before, f"an incident of {program}")
        self.mark()

    def count_incidents(self, program: str) -> int:
        """As things are."""
        return self._incidents(program)

    def make_ill(self, program: str, fault: str) -> int:
        """Have a program suffer from a fault of daemon/faults.py; gives its process."""
        if not self.config.drill.hooks:
            raise SkippedError("needs hooks = true in [drill], and a restart of the programs")
        path = self.config.fault_path(program)
        path.write_text(fault, "ascii")
        path.chmod(0o666)
        os.chown(path, *_owner_of(self.config.run))
        return self.signal(program, signal.SIGUSR2)

    def need_own(self, why: str) -> None:
        """Only on an instance that was made for this."""
        if not self.is_ours:
            raise SkippedError(why)

    def _incidents(self, program: str) -> int:
        return sum(1 for _ in self.config.incidents.glob(f"*Z-{program}/{incidents.REPORT}"))

    def _is_ready(self, program: str) -> bool:
        pid, beat = self.pid(program), read_beat(self.config.beat_path(program))
        return pid != 0 and beat is not None and beat.pid == pid


@dataclass(frozen=True, slots=True)
class Drill:
    """`work` makes the fault and comes back when it is healed; then a message has to come through."""

    name: str
    work: Callable[[Place], None]


def _signal(program: str, number: signal.Signals, place: Place) -> None:
    place.wait_ready()
    place.wait_replaced(program, place.signal(program, number))


def _fault(program: str, fault: str, place: Place) -> None:
    place.wait_ready()
    place.wait_replaced(program, place.make_ill(program, fault))


def _climb(program: str, place: Place) -> None:
    """One that is over before the CPU use reaches any limit."""
    least = rule_of(Symptom.CLIMBING).window.above * place.config.health.trend_hour
    if least > place.patience:
        raise SkippedError(f"takes {least / 3600:.0f} hours with this trend_hour")
    _fault(program, f"climb {least / 1.5:.0f}", place)


def _leak(program: str, place: Place) -> None:
    """Of memory, beyond what it may have."""
    _fault(program, f"memory {place.config.health.memory_limit * 1.25:.0f}", place)


def _observer(place: Place) -> None:
    before = place.count_incidents("delivery")
    place.make_ill("delivery", "observer")
    place.wait_incident("delivery", before)


def _flood(place: Place) -> None:
    """More events than the kernel keeps."""
    folder = place.config.spool
    for number in range(FLOOD):
        path = folder / f".flood{number}"
        path.touch()
        path.unlink()


def _folder_deleted(place: Place) -> None:
    place.need_own("would delete mail")
    if not place.flow.settle(place.patience):
        raise NotSeenError("the spool is empty")
    for folder in filter(Path.is_dir, place.config.spool.iterdir()):
        shutil.rmtree(folder)
    place.flow.resume()
    place.wait(place.config.spool.joinpath("new").is_dir, "the folders are there again")
    place.mark()


def _full_disk(place: Place) -> None:
    """A real one: the instance has a small filesystem of its own."""
    if not place.has_own_disk:
        raise SkippedError("needs root, to give the instance a small disk of its own")
    ballast = place.config.root / "ballast"
    delayed = place.flow.tally().delayed
    try:
        with ballast.open("wb", buffering=0) as file:
            for octets in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * octets)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        place.wait(lambda: place.flow.tally().delayed > delayed, "a client is told to come again")
        place.mark()
    finally:
        ballast.unlink()


def _empty_file(place: Place) -> None:
    dropped = place.config.spool / "drill-empty.eml"
    aside = place.config.spool / "bad" / dropped.name
    try:
        dropped.touch()
        place.wait(aside.exists, "it is set aside")  # its reason stood there before
        place.mark()
    finally:
        for path in (dropped, aside, aside.with_name(f"{aside.name}.txt")):
            path.unlink(missing_ok=True)


def _poison(place: Place) -> None:
    """A file that has delivery die each time that it is in hand."""
    place.need_own("would hold real mail that is in hand at the moment")
    if not place.flow.settle(place.patience):
        raise NotSeenError("the spool is empty")
    spool = Spool(place.config.spool)
    head = (
        b"X-Sender: <>\r\nX-Receiver: <postmaster@localhost>\r\nX-EndOfInjectedXHeaders: 0\r\nSubject: poison\r\n\r\n"
    )
    draft = spool.root / ".poison.tmp"
    draft.write_bytes(head + b"0123456789abcde\n" * (POISON_OCTETS // 16))
    draft.replace(spool.root / "drill-poison.eml")
    for deaths in range(2):
        place.wait(lambda known=deaths: _is_in_hand(place.config.attempt_path("delivery"), known), "it is in hand")  # type: ignore[misc]
        place.signal("delivery", signal.SIGKILL)  # the next one has it in hand at once: nothing else is waited for
    place.wait(lambda: spool.entries(State.HOLD), "it is held")
    place.mark()
    for entry_id in spool.entries(State.HOLD):
        spool.remove(State.HOLD, entry_id)
    place.flow.resume()


def _is_in_hand(slot: Path, deaths: int) -> bool:
    """Whether delivery has something in hand, and knows of so many deaths with it."""
    try:
        return count_deaths(slot) == deaths and bool(slot.read_bytes().strip(b"\0\n"))
    except OSError:
        return False


def _clock(place: Place) -> None:
    """A day ahead, then a day behind, for the programs that mail goes through."""
    supervisor = Supervisor(place.config.supervisor_socket)
    try:
        for step in (DAY, -DAY - DAY):
            for program in MAIL_GOES_THROUGH:
                place.make_ill(program, f"clock {step}")
            place.wait(lambda: place.flow.comes_through(place.patience), "mail flows in another time")
    finally:
        for program in MAIL_GOES_THROUGH:
            pid = place.pid(program)
            with place.undisturbed():
                supervisor.finish(program)
            place.wait(lambda old=pid, name=program: place.pid(name) not in (0, old), f"{program} is new")  # type: ignore[misc]


def _supervisord(place: Place) -> None:
    """What a service manager does then is done here, where there is none."""
    pids = [place.pid(program) for program in PROGRAMS]
    supervisor = Supervisor(place.config.supervisor_socket)
    with place.undisturbed():
        pid = supervisor.pid()
        is_looked_after = service_manager.looks_after(pid)
        os.kill(pid, signal.SIGKILL)
        place.wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all programs have ended")
        place.mark()
        if is_looked_after:
            place.wait(lambda: place.pid("health"), "the service manager has started it again")
        else:
            place.up()


DRILLS: Final = (
    *(Drill(f"kill -9 of {each}", partial(_signal, each, signal.SIGKILL)) for each in PROGRAMS),
    *(Drill(f"SIGSTOP of {each}", partial(_signal, each, signal.SIGSTOP)) for each in PROGRAMS),
    *(Drill(f"CPU spin of {each}", partial(_fault, each, "spin")) for each in PROGRAMS),
    Drill("slow CPU climb", partial(_climb, "pop3")),
    Drill("memory leak", partial(_leak, "delivery")),
    Drill("descriptor leak", partial(_fault, "smtp", "descriptors")),
    Drill("thread leak", partial(_fault, "relay", "threads")),
    Drill("dead observer thread", _observer),
    Drill("event flood", _flood),
    Drill("spool folders deleted", _folder_deleted),
    Drill("full disk", _full_disk),
    Drill("zero-byte file", _empty_file),
    Drill("poison file", _poison),
    Drill("clock step", _clock),
    Drill("supervisord killed", _supervisord),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What has come of a drill, times in seconds; `why` where it was not healed, or not tried."""

    name: str
    seen_after: float | None
    healed_after: float | None
    refused: int
    lost: int
    doubled: int
    why: str = ""
    is_skipped: bool = False

    @property
    def is_good(self) -> bool:
        return self.is_skipped or (not self.lost and not self.doubled and self.healed_after is not None)


def run(drill: Drill, place: Place) -> Row:
    """Make the fault, see it healed, count the mail."""
    place.flow.resume()
    before, began = place.flow.tally(), time.monotonic()
    refused_before, doubled_before = before.refused, before.doubled
    place.seen, healed, why = None, None, ""
    try:
        drill.work(place)
        place.wait_ready()
        if not place.flow.comes_through(place.patience):
            raise NotSeenError("a message comes through")
        healed = time.monotonic() - began
    except SkippedError as error:
        return Row(drill.name, None, None, 0, 0, 0, str(error), is_skipped=True)
    except NotSeenError as error:
        why = f"not within {place.patience:.0f} s: {error}"
    except (OSError, SupervisorError) as error:
        why = str(error)
    seen = place.seen - began if place.seen is not None else None
    place.flow.settle(place.patience)
    after = place.flow.tally()
    refused, doubled = after.refused - refused_before, after.doubled - doubled_before
    return Row(drill.name, seen, healed, refused, after.lost, doubled, why)


def _owner_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid
