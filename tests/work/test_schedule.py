"""When deferred entries are due: by the machine's own clock, whatever people set theirs to, and cheaply."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.store.retry import Retry
from mailsrv.work import schedule
from mailsrv.work.schedule import JITTER, Schedule

HOUR = 3600.0


class Clocks:
    """The machine's own clock, which only goes on, and the one that people set."""

    def __init__(self) -> None:
        self.own, self.set_by_people = 1000.0, 1_700_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.own += seconds
        self.set_by_people += seconds

    def monotonic(self) -> float:
        return self.own

    def time(self) -> float:
        return self.set_by_people


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(schedule, "time", made)
    return made


def ids(number: int) -> list[EntryId]:
    return sorted(new_entry_id(datetime.now(UTC)) for _ in range(number))


def schedule_of(sidecars: dict[EntryId, Retry]) -> Schedule:
    made = Schedule(sidecars.get, HOUR)
    made.learn(sidecars)
    made.read_some()
    return made


def test_what_is_due_comes_in_its_order_and_nothing_before_its_time(clocks: Clocks) -> None:
    first, second, third = ids(3)
    now = clocks.time()
    made = schedule_of({first: Retry(1, now + 30), second: Retry(1, now + 10), third: Retry(1, now + 20)})
    assert made.take(64) == []
    assert made.seconds_until_due() == pytest.approx(10)
    clocks.pass_by(25)
    assert made.take(64) == [second, third]
    clocks.pass_by(10)
    assert made.take(64) == [first]
    assert made.take(64) == []


def test_at_most_so_many_are_taken_at_once(clocks: Clocks) -> None:
    made = schedule_of(dict.fromkeys(ids(10), Retry(1, clocks.time() - 1)))
    assert (len(made.take(4)), len(made.take(4)), len(made.take(4))) == (4, 4, 2)


@pytest.mark.parametrize("step", [-10 * 365 * 86400, -2 * HOUR, 2 * HOUR, 10 * 365 * 86400])
def test_a_clock_that_is_set_while_we_run_changes_no_pause(clocks: Clocks, step: float) -> None:
    (entry,) = ids(1)
    made = schedule_of({entry: Retry(1, clocks.time() + 60)})
    clocks.set_by_people += step
    assert made.take(64) == []
    assert made.seconds_until_due() == pytest.approx(60)
    clocks.pass_by(60)
    assert made.take(64) == [entry]


@pytest.mark.parametrize(
    ("step", "most"), [(-10 * 365 * 86400, HOUR * (1 + JITTER)), (-600, 660), (600, 0), (10 * 365 * 86400, 0)]
)
def test_a_clock_that_is_set_between_two_processes_lengthens_no_pause_beyond_the_schedule(
    clocks: Clocks, step: float, most: float
) -> None:
    (entry,) = ids(1)
    sidecar = Retry(1, clocks.time() + 60)
    clocks.set_by_people += step
    assert schedule_of({entry: sidecar}).seconds_until_due() == pytest.approx(most, abs=0.001)


def test_what_was_put_anew_counts_once(clocks: Clocks) -> None:
    (entry,) = ids(1)
    made = schedule_of({entry: Retry(1, clocks.time())})
    assert made.take(64) == [entry]
    made.defer(entry, 60)
    made.defer(entry, 30)
    clocks.pass_by(100)
    assert made.take(64) == [entry]
    assert made.take(64) == []
    assert made.waited(entry) == pytest.approx(100)


def test_what_a_person_has_taken_away_or_changed_is_seen(clocks: Clocks) -> None:
    gone, changed, kept = ids(3)
    sidecars = {each: Retry(1, clocks.time() + 60) for each in (gone, changed, kept)}
    made = schedule_of(sidecars)
    sidecars[changed] = Retry(1, clocks.time())
    made.look_again(changed)
    made.learn({changed, kept})
    assert len(made) == 2
    made.read_some()
    assert made.take(64) == [changed]
    clocks.pass_by(60)
    assert made.take(64) == [kept]


def test_sidecars_are_read_a_few_at_a_time() -> None:
    reads = 0

    def read(_entry_id: EntryId) -> Retry:
        nonlocal reads
        reads += 1
        time.sleep(0.001)
        return Retry(1, time.time() + HOUR)

    made = Schedule(read, HOUR)
    made.learn(ids(100))
    assert (reads, len(made)) == (0, 100)
    made.read_some()
    assert 0 < reads <= 3
    assert made.seconds_until_due() == 0.0  # there is more to read
    while made.seconds_until_due() == 0.0:
        made.read_some()
    assert (reads, len(made)) == (100, 100)


@pytest.mark.parametrize(
    ("now", "pause", "waited"),
    [
        (1060.0, None, 160.0),  # as long as it was to be
        (1_000_000.0, None, 160.0),  # the machine was off, or the clock was set: no longer than that
        (0.0, None, 100.0),  # the clock was set back
        (1030.0, None, 130.0),  # a person has asked for an attempt before its time
        (5.0, 77.0, 177.0),  # the process that has deferred it knows by itself
    ],
)
def test_only_the_time_counts_in_which_it_could_have_been_tried(now: float, pause: float | None, waited: float) -> None:
    assert Retry(2, 1060.0, waited=100.0, since=1000.0).waited_until(now, pause) == waited


def test_a_hundred_thousand_cost_nothing_while_they_wait(clocks: Clocks) -> None:
    made = Schedule(lambda _entry_id: Retry(1, clocks.time() + HOUR), HOUR)
    made.learn(ids(100_000))
    while made.seconds_until_due() == 0.0:
        clocks.own += 1  # a turn of the loop: the budget of each is a moment of this clock
        made.read_some()
    assert fastest(lambda: (made.take(64), made.seconds_until_due())) < 0.001


def fastest(work: Callable[[], object]) -> float:
    """Seconds, of several tries: what else the machine does must not count."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def test_of_what_was_taken_only_what_nothing_has_become_of_is_due_again(clocks: Clocks) -> None:
    entries = ids(4)
    made = schedule_of({each: Retry(1, clocks.time()) for each in entries})
    served, deferred, *broken_off = made.take(64)
    made.forget(served)
    made.defer(deferred, HOUR)
    made.give_back(entries, 5.0)
    assert made.take(64) == []
    clocks.pass_by(6)
    assert made.take(64) == broken_off
