"""Lanes: one a destination, with what is to go there, a few connections, and a rest while it cannot be reached.

A connection is kept for the next message as long as there is one, and for a moment after. A destination that cannot
be reached is tried once for everything that waits for it, and then rests; what comes meanwhile is told so at once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.model.reply import Reply
from mailsrv.protocol.smtp_transaction import Transaction
from mailsrv.store.journal import Journal, Told
from mailsrv.work.job import Errand, Job
from mailsrv.work.line import Line, Unreachable, open_line
from mailsrv.work.routes import Route
from mailsrv.work.signing import NotSignedError, Signer

logger = logging.getLogger(__name__)

LINGER: Final = 1.0  # seconds that a connection is kept for the next message
MOST_MESSAGES: Final = 100  # on one connection: some hosts hang up behind so many
FIRST_REST: Final = 30.0  # seconds, doubled for each further failure
LONGEST_REST: Final = 1800.0

Heard = Callable[[Job, dict[str, Told]], None]


@dataclass(slots=True)
class Lane:
    """One destination; all of it is guarded by the condition of `Lanes`."""

    route: Route
    waiting: deque[Errand] = field(default_factory=deque)
    lines: int = 0
    failures: int = 0
    rests_until: float = 0.0  # monotonic
    told: Told = field(default_factory=lambda: Told(outcome.NO_CONNECTION))


class Lanes:
    """All destinations. `heard` is called, by any thread, with what has become of an errand."""

    def __init__(self, config: Config, journal: Journal, heard: Heard) -> None:
        self._config = config
        self._journal = journal
        self._heard = heard
        self.signer = Signer(config)
        self._changed = threading.Condition()
        self._lanes: dict[Route, Lane] = {}
        self._lines = 0
        self._is_stopping = False
        self.ticks = 0

    def put(self, route: Route, errand: Errand) -> None:
        """Have an errand be done."""
        with self._changed:
            lane = self._lanes.setdefault(route, Lane(route))
            if time.monotonic() >= lane.rests_until:
                lane.waiting.append(errand)
                self._man(lane)
                self._changed.notify_all()
                return
            told = lane.told
        self._heard(errand.job, dict.fromkeys(errand.recipients, told))

    def wake(self) -> None:
        """No destination rests any more: somebody wants to see it tried."""
        with self._changed:
            for lane in self._lanes.values():
                lane.rests_until, lane.failures = 0.0, 0

    def resting(self) -> list[str]:
        """The destinations that cannot be reached, and why."""
        now = time.monotonic()
        with self._changed:
            return [
                f"{lane.route} cannot be used: {lane.told.reply.text} ({lane.told.where})"
                for lane in self._lanes.values()
                if lane.rests_until > now
            ]

    def stop(self) -> None:
        """Begin nothing more; what is under way goes on."""
        with self._changed:
            self._is_stopping = True
            for lane in self._lanes.values():
                lane.waiting.clear()
            self._changed.notify_all()

    @property
    def lines(self) -> int:
        """Connections, or attempts at one."""
        return self._lines

    def tick(self) -> None:
        """Something moves on a connection."""
        self.ticks += 1

    # --- threads -----------------------------------------------------------------------------------

    def _man(self, lane: Lane) -> None:
        """Have somebody work on a lane, as far as that may be; within the condition."""
        settings = self._config.relay
        wanted = min(len(lane.waiting), 1 if lane.failures else settings.max_connections_per_destination)
        if lane.lines < wanted and self._lines < settings.max_connections and not self._is_stopping:
            lane.lines += 1
            self._lines += 1
            threading.Thread(target=self._work, args=[lane], name=f"relay {lane.route}", daemon=True).start()

    def _work(self, lane: Lane) -> None:
        line: Line | None = None
        try:
            while (errand := self._take(lane, LINGER if line else 0.0)) is not None:
                line = self._do(lane, errand, line)
                if line is not None and (not line.is_open or line.messages >= MOST_MESSAGES):
                    line.close()
                    line = None
        finally:
            if line is not None:
                line.close()
            with self._changed:
                lane.lines -= 1
                self._lines -= 1
                for each in self._lanes.values():  # there is room for somebody else
                    self._man(each)

    def _take(self, lane: Lane, patience: float) -> Errand | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(lane.waiting) or self._is_stopping, patience)
            return lane.waiting.popleft() if lane.waiting and not self._is_stopping else None

    def _do(self, lane: Lane, errand: Errand, line: Line | None) -> Line | None:
        """Do an errand; gives the connection, where it is of further use."""
        told = Told(outcome.CONNECTION_LOST)
        try:
            errand.job.sign(self._front)
            if line is not None:
                found = self._send(line, errand)
                if line.is_open or not _is_stale(found):
                    self._heard(errand.job, found)
                    return line
                line.close()  # the host had grown tired of it: that is no answer to this message
            line = open_line(self._config, lane.route, self.tick)
            with self._changed:
                lane.failures, lane.rests_until = 0, 0.0
            self._heard(errand.job, self._send(line, errand))
            return line
        except Unreachable as unreachable:
            told = Told(unreachable.reason, unreachable.where)
            self._rest(lane, told)
        except NotSignedError as error:
            logger.warning("%s is not sent: %s", errand.job.entry_id, error)
            self._heard(errand.job, dict.fromkeys(errand.recipients, Told(outcome.NOT_SIGNED, str(error))))
            return line
        except Exception as error:  # a fault of ours with one message must not stand in the way of the others
            logger.exception("%s could not be sent", errand.job.entry_id)
            told = Told(outcome.CONNECTION_LOST, f"a fault of mailsrv: {error!r}")
        self._heard(errand.job, dict.fromkeys(errand.recipients, told))
        return None

    def _rest(self, lane: Lane, told: Told) -> None:
        """It cannot be reached: all that waits for it learns so."""
        with self._changed:
            pause = min(LONGEST_REST, FIRST_REST * 2**lane.failures)
            lane.failures = min(lane.failures + 1, 10)
            lane.rests_until, lane.told = time.monotonic() + pause, told
            errands, lane.waiting = lane.waiting, deque()
        logger.warning("%s cannot be used, for %.0f s: %s (%s)", lane.route, pause, told.reply, told.where)
        for errand in errands:
            self._heard(errand.job, dict.fromkeys(errand.recipients, told))

    def _front(self, job: Job) -> bytes:
        return self.signer.front(job.entry_id, job.arrival, job.stored())

    # --- transactions ------------------------------------------------------------------------------

    def _send(self, line: Line, errand: Errand) -> dict[str, Told]:
        """As many transactions as the host needs for the recipients."""
        found: dict[str, Told] = {}
        content = errand.job.content()
        left = list(errand.recipients.items())
        while left:
            batch, left = left[: line.max_recipients], left[line.max_recipients :]
            keys = [key for key, _ in batch]
            transaction = Transaction(errand.job.sender, tuple(each for _, each in batch), content)
            outcomes = line.send(transaction, errand.job.pieces(), self._noter(errand.job, keys))
            told = {key: Told(each, line.where, line.reports) for key, each in zip(keys, outcomes, strict=True)}
            if line.is_open and any(each.code == 250 for each in outcomes):
                # RFC 5321 §4.5.3.1.10: those that were too many go in the next transaction.
                again = [key for key, each in told.items() if _is_too_many(each.reply)]
                left = [(key, each) for key, each in batch if key in again] + left
                told = {key: each for key, each in told.items() if key not in again}
            try:
                self._journal.told(errand.job.entry_id, told)
            except OSError as error:  # we know it: only where we are killed before it is acted on, it is asked again
                logger.warning("%s: what was heard cannot be written: %s", errand.job.entry_id, error.strerror)
            found |= told
            if not line.is_open:
                lost = Told(outcome.CONNECTION_LOST, line.where)
                return found | {key: lost for key, _ in left}
        return found

    def _noter(self, job: Job, keys: list[str]) -> Callable[[tuple[int, ...]], None]:
        return lambda accepted: self._journal.sent(job.entry_id, [keys[index] for index in accepted])


def _is_too_many(answer: Reply) -> bool:
    return answer.code == 452 and answer.subject == "5.3"


def _is_stale(found: dict[str, Told]) -> bool:
    """Whether a connection that was kept broke before anything was said of the message."""
    return all(each.reply.code == 421 or each.reply == outcome.CONNECTION_LOST for each in found.values())
