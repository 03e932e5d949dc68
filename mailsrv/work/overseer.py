"""Who watches the watcher: `delivery` looks at the heartbeat of `health`, and replaces it when it is silent.

A look is a small file read. What is done about it asks supervisord and takes seconds, so it is done in a thread: mail
goes on. The new `health` borrows the listening sockets again by itself.
"""

import logging
import threading
import time
from typing import Final

from mailsrv.config import Config
from mailsrv.host.supervisor import ProcessState, Supervisor, SupervisorError
from mailsrv.store.heartbeat import read_beat
from mailsrv.work import evidence
from mailsrv.work.course import Course
from mailsrv.work.symptoms import Symptom, rule_of

logger = logging.getLogger(__name__)

HEALTH: Final = "health"


class Overseer:
    """`turn` is called in every turn of the loop of `delivery`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._limit = rule_of(Symptom.HEALTH).bound(config.health)
        self._course = Course(config.health.slow_clock)
        self._born = time.monotonic()
        self._next_look = self._born + config.health.interval
        self._thread: threading.Thread | None = None
        self.replaced = 0

    def turn(self) -> None:
        """Look, when it is time to."""
        now = time.monotonic()
        if now < self._next_look or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_look = now + self._config.health.interval
        if self._silence(now) > self._limit:
            self._thread = threading.Thread(target=self._replace, name="overseer", daemon=True)
            self._thread.start()

    def _silence(self, now: float) -> float:
        """Seconds since the last heartbeat, or since we are here to see one."""
        beat = read_beat(self._config.beat_path(HEALTH))
        return min(now - self._born, beat.age() if beat is not None else float("inf"))

    def _replace(self) -> None:
        """End it, or start it: supervisord tells which. A person's `stop` is left alone."""
        now = time.monotonic()
        if now < self._course.ready_at(HEALTH, now):
            return
        try:
            supervisor = Supervisor(self._config.supervisor_socket)
            health = next(each for each in supervisor.processes() if each.name == HEALTH)
            if health.state is ProcessState.RUNNING and health.uptime > self._limit:
                logger.warning("health is silent, and is replaced")
                self._course.begin(HEALTH, Symptom.HEALTH, now)
                evidence.keep(self._config, HEALTH, Symptom.HEALTH, pid=health.pid)
                supervisor.kill(HEALTH)
                self.replaced += 1
            elif health.state in (ProcessState.FATAL, ProcessState.EXITED):
                logger.warning("health is %s, and is started", health.state.value)
                self._course.begin(HEALTH, Symptom.FATAL, now)
                supervisor.start(HEALTH, waits=False)
                self.replaced += 1
        except (SupervisorError, StopIteration) as error:
            logger.warning("health is silent, and cannot be replaced: %s", error)
