"""The rounds of `health`: each program sampled, judged, and handed to the healer; supervisord itself looked at."""

import contextlib
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from mailsrv.config import Config
from mailsrv.host.processes import Sampler, Usage, start_of
from mailsrv.host.supervisor import ProcessInfo, ProcessState, StateChange, Supervisor, SupervisorError
from mailsrv.model.program import processes_of, program_of
from mailsrv.store.heartbeat import Beat, Fact, read_beat
from mailsrv.store.remembered import recall, remember
from mailsrv.store.spool import Spool, State
from mailsrv.work import evidence
from mailsrv.work.course import STORM, STORM_SECONDS
from mailsrv.work.healer import Healer
from mailsrv.work.probes import Prober
from mailsrv.work.symptoms import Symptom, rule_of
from mailsrv.work.trend import Trend
from mailsrv.work.vitals import MEGABYTE, Judge, Pace, Sample, Strand

logger = logging.getLogger(__name__)

WATCHED: Final = ("smtp", "delivery", "pop3", "relay")
SUPERVISORD: Final = "supervisord"
SILENT_ROUNDS: Final = 3  # without an answer of supervisord
DESCRIPTORS_OF_CONNECTION: Final = 2  # the socket, and the file that is being received or sent
HEALING_PAUSE: Final = 0.25  # seconds between looks at what is being healed


class Rounds:
    """`turn` is called often, and looks at everything when it is time to."""

    def __init__(self, config: Config, supervisor: Supervisor, tick: Callable[[], None]) -> None:
        self._config = config
        self._supervisor = supervisor
        self._spool = Spool(config.spool)
        self._sampler = Sampler()
        self._judges: dict[int, Judge] = {}  # by pid: a new process begins anew
        self._paces: dict[str, Pace] = defaultdict(Pace)
        self._strand = Strand(config.health)
        self._trend = Trend(config.health)
        self._trend.read(recall(config.trend))
        self._starts: dict[int, str] = {}
        self._states: dict[str, ProcessState] = {}
        self._pids: dict[str, int] = {}
        self._ended: dict[str, deque[float]] = {}  # when each program ended by accident
        self._failing: set[str] = set()  # programs that do not start
        self._given_up: set[str] = set()  # programs that nobody starts, at the last round
        self._repaired: dict[int, float] = {}  # of each process, how often it has watched anew
        self._loud: deque[bool] = deque(maxlen=rule_of(Symptom.SUPERVISORD).window.samples)
        self._supervisord: Usage | None = None
        self._is_supervisord_ill = False
        self._next = 0.0
        self._next_healing = 0.0
        self.answered = time.monotonic()  # when supervisord last did
        self.healer = Healer(config, supervisor, tick)
        self._tick = tick  # called while evidence is waited for
        self.prober = Prober(config, self._at_work, self._progress_of)

    def pause(self) -> float:
        """Seconds until something is to be done."""
        next_time = min(self._next, self._next_healing) if self.healer.is_busy else self._next
        return max(0.0, next_time - time.monotonic())

    def turn(self) -> None:
        """Do what it is time for."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._config.health.interval
            self._look_at_all()
        elif self.healer.is_busy and now >= self._next_healing:
            self._next_healing = now + HEALING_PAUSE
            self.healer.turn({each.name: each for each in self.processes()})

    def take(self, change: StateChange) -> None:
        """Learn that a program has come to a new state."""
        self._states[change.name] = change.state
        if (
            change.state is ProcessState.EXITED
            and program_of(change.name) in WATCHED
            and change.pid not in self.healer.ended
        ):
            self._keep_few(change.name, Symptom.EXITED, {"pid": change.pid})
        elif change.state is ProcessState.BACKOFF and change.name not in self._failing:
            self._failing.add(change.name)
            self._keep_few(change.name, Symptom.BACKOFF, {})
        if change.state is ProcessState.RUNNING:
            self._failing.discard(change.name)
            self.prober.forget(change.name)

    def processes(self) -> list[ProcessInfo]:
        """All programs; none where supervisord does not answer."""
        try:
            found = self._supervisor.processes()
        except SupervisorError as error:
            logger.warning("%s", error)
            return []
        self.answered = time.monotonic()
        self._states = {each.name: each.state for each in found}
        self._pids = {each.name: each.pid for each in found}
        return found

    def is_supervisord_well(self) -> bool:
        """Whether it answers, and does not spin: what the service manager wants to know."""
        return not self._is_supervisord_ill

    def facts(self) -> dict[str, Fact]:
        """For the heartbeat."""
        facts: dict[str, Fact] = {"restarts": self.healer.restarts, **self.prober.facts()}
        if self._supervisord is not None:
            facts["supervisord_cpu"] = round(self._supervisord.cpu, 1)
            facts["supervisord_mb"] = round(self._supervisord.memory / MEGABYTE, 1)
        problems = []
        if not self.is_supervisord_well():
            problems.append(Symptom.SUPERVISORD.value)
        if why := facts.get("way_failed"):
            problems.append(f"{Symptom.NO_WAY_THROUGH.value}: {why}")
        return {**facts, "problems": problems} if problems else facts

    # --- a round -----------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        processes = self.processes()
        self._look_at_supervisord()
        running = [each for each in processes if program_of(each.name) in WATCHED and each.pid]
        self._sampler.forget_all_but({os.getppid(), *(each.pid for each in running)})
        self._judges = {each.pid: self._judges.get(each.pid) or self._judge_of(each.name) for each in running}
        self._repaired = {each.pid: self._repaired.get(each.pid, 0.0) for each in running}
        self._starts = {each.pid: self._starts.get(each.pid) or start_of(each.pid) for each in running}
        given_up = {each.name for each in processes if each.state in (ProcessState.FATAL, ProcessState.EXITED)}
        for process in processes:
            # Seen once, an exit is about to be followed by a start.
            if process.name in given_up & self._given_up or process.state is ProcessState.FATAL:
                self.healer.start(process, Symptom[process.state.value])
        self._given_up = given_up
        for process in running:
            if process.state is ProcessState.RUNNING:
                self._examine(process)
        self.healer.turn({each.name: each for each in processes})

    def _examine(self, process: ProcessInfo) -> None:
        usage = self._sampler.sample(process.pid)
        if usage is None:
            return
        beat = read_beat(self._config.beat_path(process.name))
        beat = beat if beat is not None and beat.pid == process.pid else None
        judge = self._judges[process.pid]
        sample = _sample(usage, beat, process, can_beat=self._can_beat())
        symptom = judge.observe(sample)
        if process.name == "delivery":
            symptom = symptom or self._look_at_spool(judge)
        self._look_at_watch(process, beat)
        symptom = self._climb(process, sample, judge) or symptom or self.prober.symptom(process.name)
        if symptom is not None and self.healer.heal(process, symptom, self._evidence(process, judge, symptom)):
            self._judges[process.pid] = self._judge_of(process.name)  # judged: its last moments are not a second case

    def _judge_of(self, program: str) -> Judge:
        return Judge(self._config.health, self._paces[program])

    def _can_beat(self) -> bool:
        """Where our own heartbeat is not on disk, the disk is at fault (full, read-only), and not the program."""
        ours = read_beat(self._config.beat_path("health"))
        return ours is not None and ours.age() < rule_of(Symptom.STALE).bound(self._config.health)

    def _evidence(self, process: ProcessInfo, judge: Judge, symptom: Symptom) -> Mapping[str, Any]:
        figures = self._trend.figures(process.name, symptom)
        return {"samples": judge.evidence(), "trend": figures, "probes": self.prober.facts()}

    def _climb(self, process: ProcessInfo, sample: Sample, judge: Judge) -> Symptom | None:
        before = self._trend.hours(process.name)
        interval = self._config.health.interval
        is_quiet = not judge.has_just_worked()
        found = self._trend.observe(process.name, self._starts[process.pid], interval, sample, is_quiet=is_quiet)
        if self._trend.hours(process.name) != before:
            with contextlib.suppress(OSError):  # the next figure is written with it
                remember(self._config.trend, self._trend.as_document())
        return found

    def _look_at_spool(self, judge: Judge) -> Symptom | None:
        now = time.monotonic()
        try:
            new = self._spool.entries(State.NEW)
        except OSError:  # gone, perhaps: delivery makes it anew
            new = []
        return self._strand.observe(now, min(new, default=""), judge.still_for(now))

    def _look_at_watch(self, process: ProcessInfo, beat: Beat | None) -> None:
        """What a program has repaired by itself is kept as an incident all the same."""
        repaired = beat.facts.get("watched_anew") if beat is not None else None
        if not isinstance(repaired, int | float):
            return
        if repaired > self._repaired[process.pid]:
            self._keep_few(process.name, Symptom.WATCH_DEAD, {}, pid=process.pid)
        self._repaired[process.pid] = repaired

    def _look_at_supervisord(self) -> None:
        rule = rule_of(Symptom.SUPERVISORD)
        self._supervisord = usage = self._sampler.sample(os.getppid(), alone=True)
        settings = self._config.health
        if usage is not None:
            self._loud.append(usage.cpu > rule.bound(settings) or usage.memory / MEGABYTE > settings.memory_limit)
        silence = time.monotonic() - self.answered
        was_ill = self._is_supervisord_ill
        self._is_supervisord_ill = sum(self._loud) >= rule.window.above or silence > SILENT_ROUNDS * settings.interval
        if self._is_supervisord_ill and not was_ill:
            facts = {"usage": asdict(usage) if usage is not None else None, "silent_for": round(silence, 1)}
            evidence.keep(self._config, SUPERVISORD, Symptom.SUPERVISORD, facts=facts)

    # --- the rest ----------------------------------------------------------------------------------

    def _keep_few(self, program: str, symptom: Symptom, facts: dict[str, Any], *, pid: int = 0) -> None:
        """An incident that costs no restart; a program that does it all the time must not push out all others."""
        now = time.monotonic()
        times = self._ended.setdefault(f"{program} {symptom.value}", deque(maxlen=STORM))
        if len(times) < STORM or now - times[0] > STORM_SECONDS:
            times.append(now)
            evidence.keep(self._config, program, symptom, pid=pid, facts=facts, tick=self._tick)

    def _at_work(self, program: str) -> list[str]:
        """The processes of a program that may be asked something."""
        return [each for each in processes_of(program, self._states.copy()) if self._is_at_work(each)]

    def _is_at_work(self, program: str) -> bool:
        """Whether a program may be asked something: running, to supervisord, is to have lived for a second."""
        beat = read_beat(self._config.beat_path(program))
        is_its_own = beat is not None and beat.pid == self._pids.get(program)
        return is_its_own and self._states.get(program) is ProcessState.RUNNING

    def _progress_of(self, program: str) -> int:
        beat = read_beat(self._config.beat_path(program))
        return beat.progress if beat is not None else 0


def _sample(usage: Usage, beat: Beat | None, process: ProcessInfo, *, can_beat: bool) -> Sample:
    """A process without a heartbeat of its own is as silent as it is old, unless nobody can write one."""
    told = {name: value for name, value in beat.facts.items() if isinstance(value, int)} if beat is not None else {}
    return Sample(
        moment=time.monotonic(),
        cpu=usage.cpu,
        progress=beat.progress if beat is not None else 0,
        beat_age=0.0 if not can_beat else beat.age() if beat is not None else max(0.0, process.uptime),
        memory=usage.memory,
        descriptors=beat.descriptors if beat is not None else usage.descriptors,
        threads=usage.threads,
        explained_descriptors=DESCRIPTORS_OF_CONNECTION * told.get("connections", 0) + told.get("in_hand", 0),
        explained_threads=told.get("workers", 0),
        is_waiting=usage.is_waiting,
        has_begun=beat is not None or not can_beat,
    )
