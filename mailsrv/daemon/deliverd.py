"""mailsrv-deliverd, the supervisor's `delivery`: watches the spool and decides every entry.

Reads no network. Owns the spool but the drafts of others; writes mailboxes (tmp to new).
"""

import logging
import os
import signal
import time
from typing import Final

from mailsrv.config import Config
from mailsrv.daemon import faults, service
from mailsrv.host.bell import Bell
from mailsrv.host.privileges import Capability
from mailsrv.store.heartbeat import BEAT_INTERVAL, COUNT_INTERVAL, Fact, Heart
from mailsrv.store.ledger import Ledger
from mailsrv.store.spool import Spool, State
from mailsrv.work.decide import Decider
from mailsrv.work.gathering import Gathering
from mailsrv.work.overseer import Overseer
from mailsrv.work.pickup import Pickup, Scan
from mailsrv.work.routing import Directory
from mailsrv.work.watching import Watch

logger = logging.getLogger(__name__)

# Seconds between looks at files that are being written: from the first to the last, doubling. The kernel tells of
# a close a moment before the file counts as closed, so the first look again comes soon.
FIRST_PAUSE: Final = 0.002
LAST_PAUSE: Final = 0.25


class Delivery:
    """The loop: a ring or the clock, the drop box, the entries, a heartbeat."""

    def __init__(self, config: Config, heart: Heart) -> None:
        self._settings = config.delivery
        self._spool = Spool(config.spool)
        self._directory = Directory(config)
        self._ledger = Ledger(config.books, "delivery", config.ledger.keep_days)
        self._decider = Decider(config, self._spool, self._directory, self._ledger, self._beat)
        self._pickup = Pickup(config, self._spool, self._ledger, self._decider.hand, self._decider.tick)
        self._bell = Bell()
        self._watch = Watch(config.delivery, self._bell, [self._spool.root, self._spool.folder(State.NEW)])
        self._overseer = Overseer(config)
        self._gathering = Gathering()
        self._heart = heart
        self._scan = Scan(0, 0, (), is_cut_short=False)
        self._taken = 0
        self._next_scan = 0.0
        self._unsettled_pause = FIRST_PAUSE
        self._has_recovered = False
        self._is_out_of_reach = False  # the spool, when it was last looked at
        self._is_stopping = False
        self._mistakes: list[str] = []  # in the files that people edit
        self._looked = float("-inf")  # when they were looked for (monotonic)

    @property
    def bell(self) -> Bell:
        return self._bell

    def stop(self, *_signal: object) -> None:
        """Finish what is in hand, then end."""
        self._is_stopping = True
        self._decider.stop()
        self._bell.ring()

    def run(self) -> None:
        """Until stopped."""
        while not self._is_stopping:
            self._watch.turn()
            rings = self._bell.wait(self._pause())
            if rings.has_rung or self._has_something_to_do():
                if (pause := self._gathering.pause()) > 0:
                    time.sleep(pause)
                before = self._decider.progress
                self._look(rings.closed)
                self._gathering.decided(self._decider.progress - before)
            self._beat("")
            self._overseer.turn()
        self._bell.stop()

    def _has_something_to_do(self) -> bool:
        """Whether it is time to look, though nobody has rung."""
        is_unfinished = self._is_out_of_reach or self._scan.is_cut_short or self._scan.waiting > 0
        return is_unfinished or time.monotonic() >= self._next_scan or self._decider.seconds_until_due() <= 0

    def _look(self, closed: frozenset[str]) -> None:
        """One look at everything. What the disk refuses now is tried again in the next turn."""
        try:
            if not self._has_recovered:
                self._recover()
            if time.monotonic() >= self._next_scan:
                self._next_scan = time.monotonic() + self._settings.scan_interval
                self._spool.create_folders()  # somebody may have removed one
                self._spool.sweep_drafts()
                self._spool.spares.sweep()
                self._decider.relearn()
            self._scan = self._pickup.scan(closed)
            self._taken += self._scan.taken
            is_fresh = closed or not self._scan.waiting
            self._unsettled_pause = FIRST_PAUSE if is_fresh else min(LAST_PAUSE, self._unsettled_pause * 2)
            self._decider.decide()
            self._is_out_of_reach = False
        except OSError as error:
            logger.warning("the spool cannot be worked on now: %s: %s", error.strerror, error.filename)
            self._is_out_of_reach = True

    def _recover(self) -> None:
        """Finish what an earlier process began: the batch before the drafts, which it may need."""
        self._spool.create_folders()
        self._decider.recover()
        self._pickup.recover()
        self._has_recovered = True

    def _pause(self) -> float:
        """Seconds to wait for a ring: never past the next scan, retry or heartbeat."""
        if self._is_out_of_reach:
            return BEAT_INTERVAL
        if self._scan.is_cut_short:
            return 0.0
        pauses = [BEAT_INTERVAL, self._decider.seconds_until_due(), self._next_scan - time.monotonic()]
        if self._scan.waiting:
            pauses.append(self._unsettled_pause)
        return max(0.0, min(pauses))

    def _beat(self, in_hand: str) -> None:
        if in_hand:
            self._heart.steps.note("in hand", in_hand)
        if time.monotonic() - self._looked >= COUNT_INTERVAL:
            self._looked = time.monotonic()
            self._ledger.retry()
            self._mistakes = [str(mistake) for mistake in self._directory.mistakes()]
        facts: dict[str, Fact] = {
            "taken": self._taken,
            "waiting": self._scan.waiting,
            "stuck": list(self._scan.stuck[:10]),
            "problems": self._mistakes + [each for each in (self._watch.problem, self._ledger.problem) if each],
            "watched_anew": self._watch.anew,
            "health_replaced": self._overseer.replaced,
            **self._decider.facts(),
        }
        self._heart.beat(self._taken + self._decider.progress + self._decider.ticks, facts, in_hand)


def main() -> None:
    """The console script."""
    config, heart, _ = service.start("delivery", lambda _config: None, keep=(Capability.LEASE,))
    lock = service.be_the_only_one("delivery", config.run)  # two deliveries would decide the same entries
    delivery = Delivery(config, heart)
    faults.add_faults_of(delivery.bell)
    signal.signal(signal.SIGTERM, delivery.stop)
    signal.signal(signal.SIGINT, delivery.stop)
    delivery.run()
    os.close(lock)


if __name__ == "__main__":
    main()
