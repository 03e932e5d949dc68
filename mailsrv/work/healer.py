"""Healing without harm: one program at a time, the evidence first, time to finish before it is killed.

A process is ended by a signal and started again by supervisord, never stopped: what is STOPPED was stopped by a person.
Its listening sockets are kept meanwhile.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mailsrv.config import Config
from mailsrv.host.processes import is_there
from mailsrv.host.supervisor import ProcessInfo, ProcessState, SupervisorError
from mailsrv.model.program import processes_of, program_of
from mailsrv.store import incidents
from mailsrv.store.heartbeat import read_beat
from mailsrv.store.remembered import recall, remember
from mailsrv.work import evidence, letter
from mailsrv.work.course import NEIGHBOURS, Course, Step
from mailsrv.work.symptoms import Action, Symptom, rule_of

logger = logging.getLogger(__name__)

MARGIN: Final = 2.0  # seconds beyond drain_seconds, for what ends by itself to be gone
COMING_BACK: Final = 30.0  # seconds until a program that does not come back no longer keeps others from being healed


class Manager(Protocol):
    """What is asked of supervisord; each may raise SupervisorError."""

    def finish(self, name: str) -> None: ...

    def kill(self, name: str) -> None: ...

    def start(self, name: str, *, waits: bool = True) -> None: ...


@dataclass(slots=True)
class Restart:
    """One process that is to end and to come back; `kill_at` and `give_up_at` in monotonic seconds."""

    program: str
    symptom: Symptom
    action: Action
    pid: int = 0
    kill_at: float = 0.0
    give_up_at: float = 0.0
    place: Path | None = None  # of the incident
    began: float = 0.0


class Healer:
    """What is being healed, and what is to be next; `turn` is called again and again and never waits long."""

    def __init__(self, config: Config, manager: Manager, tick: Callable[[], None]) -> None:
        self._config = config
        self._manager = manager
        self._tick = tick  # called while evidence is waited for
        self._course = Course(config.health.slow_clock)
        self._course.read(recall(config.courses), time.monotonic())
        self._current: Restart | None = None
        self._next: deque[Restart] = deque()
        self._started: dict[str, float] = {}  # programs that were started because nobody else did, and when
        self.restarts = 0
        self.ended: dict[int, float] = {}  # processes that we have ended, and when

    @property
    def is_busy(self) -> bool:
        """Whether something is being healed."""
        return self._current is not None or bool(self._next)

    def heal(self, process: ProcessInfo, symptom: Symptom, facts: Mapping[str, Any]) -> bool:
        """Begin to heal; False where it is not the time for it."""
        now = time.monotonic()
        if self.is_busy or now < self._course.ready_at(process.name, now):
            return False
        rule, step = rule_of(symptom), self._course.step(process.name, symptom, now)
        logger.warning("%s is restarted: %s (step %d: %s)", process.name, symptom.value, step, step.name.lower())
        facts = {"step": step.name.lower(), **facts}
        place = evidence.keep(self._config, process.name, symptom, pid=process.pid, facts=facts, tick=self._tick)
        self._course.begin(process.name, symptom, now)
        self._next.append(Restart(process.name, symptom, rule.action, place=place))
        if step >= Step.NEIGHBOURS:
            self._next += [
                Restart(each, symptom, Action.DRAIN) for each in NEIGHBOURS.get(program_of(process.name), ())
            ]
        if step is Step.LOUD or self._course.is_storm(process.name, now):
            self._tell(process.name, symptom, place)
        self._remember()
        return True

    def start(self, process: ProcessInfo, symptom: Symptom) -> None:
        """Start what supervisord has given up, on the slow clock, for ever."""
        now = time.monotonic()
        if now - self._started.get(process.name, float("-inf")) < self._config.health.slow_clock:
            return
        self._started[process.name] = now
        logger.warning("%s is started: %s", process.name, symptom.value)
        evidence.keep(self._config, process.name, symptom)
        self._tell(process.name, symptom, None)
        try:
            self._manager.start(process.name, waits=False)
        except SupervisorError as error:
            logger.warning("%s could not be started: %s", process.name, error)

    def turn(self, processes: Mapping[str, ProcessInfo]) -> None:
        """Go on with what is being healed."""
        now = time.monotonic()
        self.ended = {pid: then for pid, then in self.ended.items() if now - then < COMING_BACK}
        if self._current is None and self._next:
            self._begin(self._next.popleft(), processes, now)
        if self._current is None:
            return
        current, process = self._current, processes.get(self._current.program)
        if process is not None and process.pid == current.pid and is_there(current.pid):
            if now >= current.kill_at:
                self._end(current, self._manager.kill, now)
                current.kill_at = now + MARGIN
        elif self._is_back(current, process) or now >= current.give_up_at:
            self._finish(current, process)

    def _begin(self, restart: Restart, processes: Mapping[str, ProcessInfo], now: float) -> None:
        process = processes.get(restart.program)
        if process is None:  # one of several, and the next after it
            copies = processes_of(restart.program, processes)
            self._next.extendleft(Restart(each, restart.symptom, restart.action) for each in reversed(copies))
        if process is None or not process.pid or process.state is not ProcessState.RUNNING:
            return  # stopped by a person, say: a neighbour that is not there needs no restart
        self._current = restart
        restart.pid, restart.began = process.pid, now
        config = self._config
        drain = max(each.drain_seconds for each in (config.smtp, config.pop3, config.relay)) + MARGIN
        restart.kill_at = now + drain if restart.action is Action.DRAIN else now
        restart.give_up_at = now + drain + COMING_BACK
        self.restarts += 1
        if restart.action is Action.DRAIN:
            self._end(restart, self._manager.finish, now)

    def _end(self, restart: Restart, how: Callable[[str], None], now: float) -> None:
        self.ended[restart.pid] = now
        try:
            how(restart.program)
        except SupervisorError as error:
            logger.warning("%s could not be restarted: %s", restart.program, error)

    def _is_back(self, restart: Restart, process: ProcessInfo | None) -> bool:
        """Whether a new process runs and does its work."""
        if process is None or process.state is not ProcessState.RUNNING or process.pid == restart.pid:
            return process is not None and process.state is ProcessState.STOPPED
        beat = read_beat(self._config.beat_path(restart.program))
        return beat is not None and beat.pid == process.pid

    def _finish(self, restart: Restart, process: ProcessInfo | None) -> None:
        self._current = None
        seconds = round(time.monotonic() - restart.began, 3)
        logger.info("%s is back after %.1f s", restart.program, seconds)
        if restart.place is not None:
            outcome = process.state.value if process is not None else "gone"
            try:
                incidents.note(restart.place, seconds=seconds, outcome=outcome)
            except (OSError, ValueError) as error:
                logger.warning("%s: %s", restart.place, error)

    def _tell(self, program: str, symptom: Symptom, place: Path | None) -> None:
        """Postmaster, once for each case."""
        if not self._course.is_to_be_told(program, symptom, time.monotonic()):
            return
        try:
            letter.drop(self._config, program, symptom, str(place or ""))
            self._remember()
        except OSError as error:
            logger.warning("postmaster could not be told of %s: %s", program, error.strerror)

    def _remember(self) -> None:
        try:
            remember(self._config.courses, self._course.as_document())
        except OSError as error:  # the disk is full, say: what was healed is known as long as we run
            logger.warning("what was healed cannot be written: %s", error.strerror)
