"""mailsrv-healthd, the supervisor's `health`: judges the programs by their work, heals, keeps the listening sockets.

An event listener of supervisord: standard output belongs to its protocol. Touches no mail; audits the books.
"""

import logging
import threading
import time
from typing import Final

from mailsrv.config import Config
from mailsrv.daemon import service
from mailsrv.host import listening, stacks
from mailsrv.host.listening import Lender
from mailsrv.host.processes import Sampler, open_files
from mailsrv.host.supervisor import Events, ProcessInfo, ProcessState, StateChange, Supervisor, SupervisorError
from mailsrv.store import incidents
from mailsrv.store.heartbeat import BEAT_INTERVAL, Heart, read_beat
from mailsrv.work.audit import Auditor
from mailsrv.work.keeper import Keeper
from mailsrv.work.vitals import Judge, Sample, Symptom

logger = logging.getLogger(__name__)

WATCHED: Final = ("smtp", "delivery", "pop3")
LISTENING: Final = ("smtp", "pop3")
SETTLING_PAUSE: Final = 0.1  # seconds between looks at sockets that are about to be closed
STACKS_TIMEOUT: Final = 3.0  # seconds


class Health:
    """The loop: supervisord's events, samples on a clock, healing."""

    def __init__(self, config: Config, heart: Heart) -> None:
        self._config = config
        self._heart = heart
        self._supervisor = Supervisor(config.supervisor_socket)
        self._events = Events()
        self._keeper = Keeper(LISTENING, lambda program: listening.borrow(config.sockets_path(program)))
        self._sampler = Sampler()
        self._judges: dict[int, Judge] = {}  # by pid: a new process begins anew
        self._restarts = 0
        self._turns = 0

    def run(self) -> None:
        """Until supervisord is gone."""
        Lender(self._config.sockets_path("health"), self._keeper.sockets)
        threading.Thread(target=Auditor(self._config).run, name="auditor", daemon=True).start()
        next_sample = time.monotonic()
        try:
            self._learn_states()
            while True:
                pause = SETTLING_PAUSE if self._keeper.is_settling() else BEAT_INTERVAL
                change = self._events.wait(min(pause, max(0.0, next_sample - time.monotonic())))
                if change is not None:
                    self._keeper.take(change, time.monotonic())
                self._keeper.turn(time.monotonic())
                if time.monotonic() >= next_sample:
                    next_sample = time.monotonic() + self._config.health.interval
                    self._sample_all()
                self._beat()
        except SupervisorError as error:
            logger.info("ending: %s", error)

    def _learn_states(self) -> None:
        """At our own start, programs may be running already."""
        for process in self._processes():
            self._keeper.take(StateChange(process.name, process.state), time.monotonic())

    def _sample_all(self) -> None:
        running = [each for each in self._processes() if each.name in WATCHED and each.pid]
        self._sampler.forget_all_but({each.pid for each in running})
        self._judges = {each.pid: self._judges.get(each.pid) or Judge(self._config.health) for each in running}
        for process in running:
            if process.state is ProcessState.RUNNING:
                self._examine(process)

    def _examine(self, process: ProcessInfo) -> None:
        usage = self._sampler.sample(process.pid)
        beat = read_beat(self._config.beat_path(process.name))
        if usage is None:
            return
        progress = beat.progress if beat is not None and beat.pid == process.pid else 0
        symptom = self._judges[process.pid].observe(Sample(time.monotonic(), usage.cpu, progress))
        if symptom is not None:
            self._heal(process, symptom)

    def _heal(self, process: ProcessInfo, symptom: Symptom) -> None:
        """Keep the evidence, then have supervisord end the process and start it again."""
        logger.warning("%s is restarted: %s", process.name, symptom.value)
        try:
            place = self._keep_evidence(process, symptom)
            logger.warning("%s: the evidence is in %s", process.name, place)
        except OSError as error:  # a full disk must not keep a process spinning
            logger.warning("%s: the evidence could not be kept: %s", process.name, error.strerror)
        self._judges[process.pid] = Judge(self._config.health)  # judged: its last moments are not a second case
        try:
            self._supervisor.kill(process.name)
            self._restarts += 1
        except SupervisorError as error:
            logger.warning("%s could not be restarted: %s", process.name, error)

    def _keep_evidence(self, process: ProcessInfo, symptom: Symptom) -> str:
        beat = read_beat(self._config.beat_path(process.name))
        where = stacks.request(process.pid, self._config.stacks_path(process.name), STACKS_TIMEOUT)
        report = {
            "symptom": symptom.value,
            "pid": process.pid,
            "in_hand": beat.in_hand if beat else "",
            "facts": dict(beat.facts) if beat else {},
            "open_files": open_files(process.pid),
            "samples": self._judges[process.pid].evidence(),
        }
        return str(incidents.keep(self._config.incidents, process.name, report, where))

    def _processes(self) -> list[ProcessInfo]:
        try:
            return self._supervisor.processes()
        except SupervisorError as error:
            logger.warning("%s", error)
            return []

    def _beat(self) -> None:
        self._turns += 1
        self._heart.beat(self._turns, {"restarts": self._restarts, "sockets": list(self._keeper.sockets())})


def main() -> None:
    """The console script."""
    config, heart, _ = service.start("health", lambda _config: None)
    Health(config, heart).run()


if __name__ == "__main__":
    main()
