"""Lanes: one a destination, with what is to go there, a few connections, and a rest while it cannot be reached.

A connection is kept for the next message as long as there is one, and for a moment after. A destination is tried once,
for everything that waits for it; where that fails it rests, and what comes meanwhile is told so at once.

No destination holds up another: one that waits for its first connection comes before the further ones of others, and
a connection on which nothing moves gives its place away, though it goes on.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.store.journal import Journal, Told
from mailsrv.work.dialing import MOST_HOSTS, Dialer, Place
from mailsrv.work.handing import hand_over
from mailsrv.work.job import Errand, Job
from mailsrv.work.line import Line, Unreachable
from mailsrv.work.routes import Route
from mailsrv.work.signing import NotSignedError, Signer

logger = logging.getLogger(__name__)

LINGER: Final = 1.0  # seconds that a connection is kept for the next message
MOST_MESSAGES: Final = 100  # on one connection: some hosts hang up behind so many
FIRST_REST: Final = 30.0  # seconds, doubled for each further failure
LONGEST_REST: Final = 1800.0
SLOW: Final = 2.0  # seconds without a move after which a connection does not count
MOST_SLOW: Final = 2  # times as many as may be at once, of those that do not count
FAIR_SHARE: Final = 20  # messages after which the only connection of a destination gives way to one that has none
STALLED: Final = 60.0  # seconds without a message that got through, after which what waits is deferred
MOST_LOSSES: Final = 3  # one message alone may have broken one or two
LOOK_INTERVAL: Final = 0.5

Heard = Callable[[Job, dict[str, Told]], None]


@dataclass(slots=True)
class Lane:
    """One destination; all of it is guarded by the condition of `Lanes`. Moments are monotonic."""

    route: Route
    waiting: deque[Errand] = field(default_factory=deque)
    workers: int = 0
    is_proven: bool = False  # a connection came about, and no attempt has failed since
    failures: int = 0
    losses: int = 0  # in a row, of connections that broke off before anything was said of a message
    rests_until: float = 0.0
    rests_since: float = 0.0
    told: Told = field(default_factory=lambda: Told(outcome.NO_CONNECTION))
    advanced: float = 0.0  # when the first worker came, or a message last got on


@dataclass(slots=True, eq=False)
class Worker:
    """A thread that works on a lane, with a connection or an attempt at one."""

    lane: Lane
    is_pressed: Callable[[], bool]
    moved: float = field(default_factory=time.monotonic)
    messages: int = 0
    ticks: int = 0

    def tick(self) -> None:
        """Something moves."""
        self.moved = time.monotonic()
        self.ticks += 1


class Lanes:
    """All destinations. `heard` is called, by any thread, with what has become of an errand."""

    def __init__(self, config: Config, dialer: Dialer, journal: Journal, heard: Heard) -> None:
        self._settings = config.relay
        self._dialer = dialer
        self._journal = journal
        self._heard = heard
        self.signer = Signer(config)
        self._changed = threading.Condition()
        self._lanes: dict[Route, Lane] = {}
        self._unmanned: dict[Route, Lane] = {}  # those with something to do and no worker, as they came
        self._workers: set[Worker] = set()
        self._next_look = 0.0
        self._names_known = 0.0  # when the DNS last had an answer (monotonic)
        self._is_stopping = False
        self._ticks = 0  # of workers that have gone

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

    def look(self, *, is_full: bool) -> None:
        """Use places that slow connections leave; where nothing more can be taken in hand, defer what is stalled."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        with self._changed:
            self._man_others()
            lanes = list(self._lanes.values())
            for lane in lanes:
                if (
                    not lane.waiting
                    and not lane.workers
                    and now >= lane.rests_until + LONGEST_REST * bool(lane.failures)
                ):
                    del self._lanes[lane.route]
        for lane in lanes:
            if is_full and lane.waiting and lane.workers and now - lane.advanced > STALLED:
                self._rest(lane, Told(outcome.STALLED, str(lane.route)))

    def resting(self) -> list[tuple[Route, Told]]:
        """The destinations that cannot be reached, and why."""
        return [(lane.route, lane.told) for lane in self._resting()]

    def _resting(self) -> list[Lane]:
        now = time.monotonic()
        with self._changed:
            return [lane for lane in self._lanes.values() if lane.rests_until > now]

    def unknown_names(self) -> list[str]:
        """Why destinations rest of which the DNS said nothing, since it last said something of any other."""
        return [
            lane.told.where
            for lane in self._resting()
            if lane.told.reply == outcome.DNS_TROUBLE and lane.rests_since > self._names_known
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
        return len(self._workers)

    @property
    def ticks(self) -> int:
        """How often something has moved."""
        with self._changed:
            return self._ticks + sum(each.ticks for each in self._workers)

    # --- workers -----------------------------------------------------------------------------------

    def _slow(self) -> int:
        """Connections on which nothing moves; within the condition."""
        now = time.monotonic()
        return sum(1 for each in self._workers if now - each.moved > SLOW)

    def _has_place(self) -> bool:
        """Whether there may be one connection more; within the condition."""
        most = self._settings.max_connections
        return len(self._workers) < most or len(self._workers) - min(self._slow(), MOST_SLOW * most) < most

    def _is_pressed(self) -> bool:
        """Whether a destination waits for its first connection, and slow ones keep it from that."""
        with self._changed:
            return bool(self._unmanned) and self._slow() > MOST_SLOW * self._settings.max_connections

    def _man(self, lane: Lane) -> None:
        """Have somebody work on a lane, as far as that may be; within the condition."""
        most = self._settings.max_connections_per_destination if lane.is_proven else 1
        if self._is_stopping or not lane.waiting or lane.workers >= min(len(lane.waiting), most):
            return
        if (lane.workers and self._unmanned) or not self._has_place():
            if not lane.workers:
                self._unmanned[lane.route] = lane
            return
        self._unmanned.pop(lane.route, None)
        if not lane.workers:
            lane.advanced = time.monotonic()
        worker = Worker(lane, self._is_pressed)
        lane.workers += 1
        self._workers.add(worker)
        threading.Thread(target=self._work, args=[worker], name=f"relay {lane.route}", daemon=True).start()

    def _man_others(self) -> None:
        """Whoever waits for a first worker; within the condition."""
        for lane in list(self._unmanned.values()):
            if not self._has_place():
                return
            del self._unmanned[lane.route]
            self._man(lane)

    def _work(self, worker: Worker) -> None:
        line: Line | None = None
        try:
            while (errand := self._take(worker, LINGER if line else 0.0)) is not None:
                line = self._do(worker, errand, line)
                if line is not None and (not line.is_open or line.messages >= MOST_MESSAGES):
                    line.close()
                    line = None
        finally:
            if line is not None:
                line.close()
            with self._changed:
                worker.lane.workers -= 1
                self._workers.remove(worker)
                self._ticks += worker.ticks
                self._man_others()
                self._man(worker.lane)

    def _take(self, worker: Worker, patience: float) -> Errand | None:
        """What is to be done next; nothing where a place is wanted elsewhere."""
        lane = worker.lane
        with self._changed:
            if worker.messages and self._unmanned and (lane.workers > 1 or worker.messages >= FAIR_SHARE):
                return None
            self._changed.wait_for(lambda: bool(lane.waiting or self._unmanned) or self._is_stopping, patience)
            if self._is_stopping or not lane.waiting:
                return None
            worker.messages += 1
            return lane.waiting.popleft()

    def _do(self, worker: Worker, errand: Errand, line: Line | None) -> Line | None:
        """Do an errand; gives the connection, where it is of further use."""
        told = Told(outcome.CONNECTION_LOST)
        try:
            errand.job.sign(self._front)
            if line is not None:
                found = self._send(worker, line, errand)
                if line.is_open or not _is_stale(found):
                    self._heard(errand.job, found)
                    self._note_loss(worker.lane, found)
                    return line
                line.close()  # the host had grown tired of it: that is no answer to this message
            tried: set[Place] = set()
            line = self._dialer.open(worker.lane.route, worker, tried)
            with self._changed:
                worker.lane.rests_until, worker.lane.is_proven = 0.0, True
                self._note_names(worker.lane, None)
                self._man(worker.lane)
            line, found = self._send_to_any(worker, line, errand, tried)
            self._heard(errand.job, found)
            self._note_loss(worker.lane, found)
            return line
        except Unreachable as unreachable:
            told = Told(unreachable.reason, unreachable.where)
            self._rest(worker.lane, told)
        except NotSignedError as error:
            logger.warning("%s is not sent: %s", errand.job.entry_id, error)
            self._heard(errand.job, dict.fromkeys(errand.recipients, Told(outcome.NOT_SIGNED, str(error))))
            return line
        except Exception as error:  # a fault of ours with one message must not stand in the way of the others
            logger.exception("%s could not be sent", errand.job.entry_id)
            told = Told(outcome.CONNECTION_LOST, f"a fault of mailsrv: {error!r}")
        self._heard(errand.job, dict.fromkeys(errand.recipients, told))
        return None

    def _send_to_any(
        self, worker: Worker, line: Line, errand: Errand, tried: set[Place]
    ) -> tuple[Line, dict[str, Told]]:
        """RFC 5321 §5.1: where a host breaks off before it has said anything of the message, the next one is asked."""
        found = self._send(worker, line, errand)
        while not line.is_open and _is_stale(found) and len(tried) < MOST_HOSTS:
            try:
                following = self._dialer.open(worker.lane.route, worker, tried)
            except Unreachable:  # what the one before has said counts
                break
            line.close()
            line = following
            found = self._send(worker, line, errand)
        return line, found

    def _note_loss(self, lane: Lane, found: dict[str, Told]) -> None:
        """A destination that lets us in and breaks off each time is as dead as one that does not let us in."""
        with self._changed:
            if not _is_stale(found):
                lane.losses = lane.failures = 0
                return
            lane.losses += 1
            is_dead = lane.losses % MOST_LOSSES == 0
        if is_dead:
            self._rest(lane, next(iter(found.values())))

    def _send(self, worker: Worker, line: Line, errand: Errand) -> dict[str, Told]:
        def pieces() -> Iterator[bytes]:
            for each in errand.job.pieces():
                yield each
                worker.lane.advanced = time.monotonic()

        found = hand_over(line, errand, pieces, self._journal)
        worker.lane.advanced = time.monotonic()
        return found

    def _note_names(self, lane: Lane, told: Told | None) -> None:
        if lane.route.domain and (told is None or told.reply != outcome.DNS_TROUBLE):
            self._names_known = time.monotonic()

    def _front(self, job: Job) -> bytes:
        return self.signer.front(job.entry_id, job.arrival, job.stored())

    def _rest(self, lane: Lane, told: Told) -> None:
        """It cannot be reached: all that waits for it learns so. What is final needs no rest: nobody is asked again."""
        pause = 0.0
        with self._changed:
            lane.is_proven = False
            if not told.reply.is_permanent:
                pause = min(LONGEST_REST, FIRST_REST * 2**lane.failures)
                lane.failures = min(lane.failures + 1, 10)
            self._note_names(lane, told)
            lane.rests_since = time.monotonic()
            lane.rests_until, lane.told = lane.rests_since + pause, told
            errands, lane.waiting = lane.waiting, deque()
            self._unmanned.pop(lane.route, None)
        logger.warning("%s cannot be used, for %.0f s: %s (%s)", lane.route, pause, told.reply, told.where)
        for errand in errands:
            self._heard(errand.job, dict.fromkeys(errand.recipients, told))


def _is_stale(found: dict[str, Told]) -> bool:
    """Whether a connection broke before anything was said of the message."""
    return all(each.reply.code == 421 or each.reply == outcome.CONNECTION_LOST for each in found.values())
