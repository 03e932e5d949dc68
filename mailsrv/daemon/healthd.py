"""mailsrv-healthd, the supervisor's `health`: judges the programs by their work, heals, keeps the listening sockets.

An event listener of supervisord: standard output belongs to its protocol. Touches no mail; audits the books; tells the
service manager, where there is one, that supervisord is well.
"""

import logging
import threading
import time
from typing import Final

from mailsrv.config import Config
from mailsrv.daemon import service
from mailsrv.host import listening, service_manager
from mailsrv.host.listening import Lender
from mailsrv.host.supervisor import Events, StateChange, Supervisor, SupervisorError
from mailsrv.store.heartbeat import BEAT_INTERVAL, Heart
from mailsrv.work.audit import Auditor
from mailsrv.work.keeper import Keeper
from mailsrv.work.rounds import Rounds

logger = logging.getLogger(__name__)

LISTENING: Final = ("smtp", "pop3")
SETTLING_PAUSE: Final = 0.1  # seconds between looks at sockets that are about to be closed


class Health:
    """The loop: supervisord's events, samples on a clock, healing."""

    def __init__(self, config: Config, heart: Heart) -> None:
        self._config = config
        self._heart = heart
        self._events = Events()
        self._keeper = Keeper(LISTENING, lambda program: listening.borrow(config.sockets_path(program)))
        self._rounds = Rounds(config, Supervisor(config.supervisor_socket), self._beat)
        self._turns = 0

    def run(self) -> None:
        """Until supervisord is gone."""
        Lender(self._config.sockets_path("health"), self._keeper.sockets)
        threading.Thread(target=Auditor(self._config).run, name="auditor", daemon=True).start()
        self._rounds.prober.start()
        service_manager.notify(service_manager.READY)
        try:
            self._learn_states()
            while True:
                self._turn()
        except SupervisorError as error:
            logger.info("ending: %s", error)

    def _turn(self) -> None:
        pause = SETTLING_PAUSE if self._keeper.is_settling() else BEAT_INTERVAL
        change = self._events.wait(min(pause, self._rounds.pause()))
        if change is not None:
            self._keeper.take(change, time.monotonic())
            self._rounds.take(change)
        self._keeper.turn(time.monotonic())
        self._rounds.turn()
        self._beat()

    def _learn_states(self) -> None:
        """At our own start, programs may be running already."""
        for process in self._rounds.processes():
            self._keeper.take(StateChange(process.name, process.state), time.monotonic())

    def _beat(self) -> None:
        self._turns += 1
        self._heart.beat(self._turns, {"sockets": list(self._keeper.sockets()), **self._rounds.facts()})
        if self._rounds.is_supervisord_well():
            service_manager.notify(service_manager.WATCHDOG)


def main() -> None:
    """The console script."""
    config, heart, _ = service.start("health", lambda _config: None)
    Health(config, heart).run()


if __name__ == "__main__":
    main()
