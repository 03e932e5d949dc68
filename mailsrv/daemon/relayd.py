"""mailsrv-relayd, the supervisor's `relay`: sends on what lies in `spool/remote/`.

Connects out, and listens nowhere. Owns `spool/remote/` and `spool/tmp/relay/`; its reports go into `spool/new/`.
"""

import logging
import os
import signal
import time
from typing import Final

from mailsrv.config import Config
from mailsrv.daemon import faults, service
from mailsrv.host import resolver
from mailsrv.host.bell import Bell
from mailsrv.store.heartbeat import BEAT_INTERVAL, Fact, Heart
from mailsrv.store.ledger import Ledger
from mailsrv.store.spool import State
from mailsrv.work.routes import NO_WAYS, Ways, ways_of
from mailsrv.work.sending import PROGRAM, Sender
from mailsrv.work.watching import Watch

logger = logging.getLogger(__name__)

DRAIN_PAUSE: Final = 0.05  # seconds between looks at what is still under way
LEAST_PAUSE: Final = 0.001


class Relay:
    """The loop: a ring or the clock, what is due, what was heard, a heartbeat."""

    def __init__(self, config: Config, heart: Heart, ways: Ways, problem: str) -> None:
        self._settings = config.delivery
        self._drain_seconds = config.relay.drain_seconds
        self._ledger = Ledger(config.books, PROGRAM, config.ledger.keep_days)
        self._bell = Bell()
        self._sender = Sender(config, ways, self._ledger, self._beat, self._bell.ring)
        # Tested where nobody else looks: among its own drafts.
        spool = self._sender.spool
        self._watch = Watch(config.delivery, self._bell, [spool.drafts, spool.folder(State.REMOTE)])
        self._problem = problem
        self._key_problems: list[str] = []
        self._heart = heart
        self._has_recovered = False
        self._is_out_of_reach = False
        self._next_scan = 0.0
        self._is_stopping = False

    @property
    def bell(self) -> Bell:
        return self._bell

    def stop(self, *_signal: object) -> None:
        """Finish what is under way, then end."""
        self._is_stopping = True
        self._bell.ring()

    def run(self) -> None:
        """Until stopped."""
        while not self._is_stopping:
            self._bell.wait(self._pause())
            self._look()
            self._watch.turn()
            self._beat("")
        self._sender.stop()
        self._drain()
        self._bell.stop()

    def _look(self) -> None:
        try:
            if not self._has_recovered:
                self._sender.spool.create_folders()
                self._sender.recover()
                self._sender.spool.sweep_drafts()
                self._has_recovered = True
            if time.monotonic() >= self._next_scan:
                self._next_scan = time.monotonic() + self._settings.scan_interval
                self._sender.spool.create_folders()
                self._key_problems = self._sender.lanes.signer.problems()
            self._sender.relearn()
            self._sender.turn()
            self._is_out_of_reach = False
        except OSError as error:
            logger.warning("the spool cannot be worked on now: %s: %s", error.strerror, error.filename)
            self._is_out_of_reach = True

    def _drain(self) -> None:
        """What is under way may finish."""
        end = time.monotonic() + self._drain_seconds
        try:
            while self._sender.lanes.lines and time.monotonic() < end:
                self._bell.wait(DRAIN_PAUSE)
                self._sender.turn()
                self._beat("")
            self._sender.turn()
            self._sender.close()
        except OSError as error:  # the journal has it
            logger.warning("the spool cannot be worked on now: %s: %s", error.strerror, error.filename)

    def _pause(self) -> float:
        if self._is_out_of_reach:
            return BEAT_INTERVAL
        due = self._sender.seconds_until_due() if self._sender.has_route else BEAT_INTERVAL
        if self._sender.is_full:
            due = BEAT_INTERVAL
        return max(LEAST_PAUSE, min(BEAT_INTERVAL, due, self._next_scan - time.monotonic()))

    def _beat(self, in_hand: str) -> None:
        self._ledger.retry()
        problems = [each for each in (self._problem, self._watch.problem, self._ledger.problem) if each]
        problems += [*self._key_problems, *self._sender.problems()]
        facts: dict[str, Fact] = {"problems": problems, "watched_anew": self._watch.anew, **self._sender.facts()}
        self._heart.beat(self._sender.progress + self._sender.lanes.ticks, facts, in_hand)


def main() -> None:
    """The console script."""
    config, heart, _ = service.start(PROGRAM, lambda _config: resolver.load())
    lock = service.be_the_only_one(PROGRAM, config.run)  # two relays would send the same entries
    ways, problem = NO_WAYS, ""
    try:
        ways = ways_of(config)
    except OSError as error:
        problem = f"{error.filename}: expected the password to log in with: {error.strerror}"
        logger.error("%s", problem)
    relay = Relay(config, heart, ways, problem)
    faults.add_faults_of(relay.bell)
    signal.signal(signal.SIGTERM, relay.stop)
    signal.signal(signal.SIGINT, relay.stop)
    relay.run()
    os.close(lock)


if __name__ == "__main__":
    main()
