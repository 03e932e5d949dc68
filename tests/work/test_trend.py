"""What climbs over days is told from a level that is high, from noise, from a jump, and from load."""

import json
import random
from collections.abc import Sequence

import pytest

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom
from mailsrv.work.trend import KINDS, Trend, rise
from mailsrv.work.vitals import MEGABYTE, Sample

HEALTH = Health()
SAMPLES = 4  # an hour


def _sample(cpu: float = 0.0, memory: float = 50.0, descriptors: float = 20, threads: float = 5) -> Sample:
    return Sample(0.0, cpu, 0, memory=int(memory * MEGABYTE), descriptors=int(descriptors), threads=int(threads))


def _hours(trend: Trend, samples: Sequence[Sequence[Sample]], process: str = "1") -> list[Symptom | None]:
    """What is found at the end of each hour; each has the samples that are given for it, in turn."""
    found = []
    for each in samples:
        for number in range(SAMPLES):
            sample = each[number % len(each)]
            symptom = trend.observe("smtp", process, HEALTH.trend_hour / SAMPLES, sample, is_quiet=True)
        found.append(symptom)
    return found


def _cpu(trend: Trend, course: Sequence[float], process: str = "1") -> list[Symptom | None]:
    return _hours(trend, [[_sample(cpu)] for cpu in course], process)


def test_a_climb_of_a_tenth_of_a_core_in_days_is_seen() -> None:
    found = _cpu(Trend(HEALTH), [0.5 + hour * 0.15 for hour in range(100)])
    assert 65 < found.index(Symptom.CLIMBING) < 75  # a rise of 10 % takes 67 hours


def test_a_day_is_waited_for_whatever_is_seen() -> None:
    assert set(_cpu(Trend(HEALTH), [hour * 4.0 for hour in range(23)])) == {None}


def test_a_high_level_noise_and_a_fall_are_no_climb() -> None:
    chance = random.Random(1)
    assert set(_cpu(Trend(HEALTH), [40.0] * 200)) == {None}
    assert set(_cpu(Trend(HEALTH), [chance.uniform(0, 30) for _ in range(200)])) == {None}
    assert set(_cpu(Trend(HEALTH), [60 - hour * 0.3 for hour in range(200)])) == {None}


def test_a_jump_from_one_level_to_another_is_no_climb_wherever_it_lies_among_the_figures() -> None:
    chance = random.Random(1)
    for low in (1, 10, 24, 60, 100, 170):
        course = [chance.uniform(1, 3) for _ in range(low)] + [chance.uniform(21, 23) for _ in range(250)]
        assert set(_cpu(Trend(HEALTH), course)) == {None}, low


def test_a_climb_that_grows_faster_and_faster_is_one() -> None:
    assert Symptom.CLIMBING in _cpu(Trend(HEALTH), [hour**2 / 400 for hour in range(100)])


@pytest.mark.parametrize(
    ("symptom", "samples"),
    [
        (Symptom.MEMORY_SLOWLY, lambda hour: [_sample(memory=50 + hour * 2), _sample(memory=700)]),
        (Symptom.DESCRIPTORS_SLOWLY, lambda hour: [_sample(descriptors=20 + hour * 2), _sample(descriptors=450)]),
        (Symptom.THREADS_SLOWLY, lambda hour: [_sample(threads=5 + hour // 3), _sample(threads=90)]),
    ],
    ids=lambda value: value.value if isinstance(value, Symptom) else "",
)
def test_what_stays_when_work_is_over_is_seen_to_climb(symptom: Symptom, samples) -> None:  # type: ignore[no-untyped-def]
    found = _hours(Trend(HEALTH), [samples(hour) for hour in range(100)])
    assert set(found) == {None, symptom}
    assert 45 < found.index(symptom) < 70


def test_memory_files_and_threads_that_come_and_go_with_ever_more_work_are_no_climb() -> None:
    course = [
        [_sample(), _sample(memory=50 + hour * 8, descriptors=20 + hour * 8, threads=5 + hour)] for hour in range(100)
    ]
    assert set(_hours(Trend(HEALTH), course)) == {None}


def test_descriptors_and_threads_that_work_explains_count_for_nothing() -> None:
    course = [
        [Sample(0.0, 0.0, 0, descriptors=20 + n, threads=5 + n, explained_descriptors=n, explained_threads=n)]
        for n in range(100)
    ]
    assert set(_hours(Trend(HEALTH), course)) == {None}


def test_a_memory_that_fills_up_in_hours_and_then_stays_is_no_climb_of_days() -> None:
    course = [[_sample(memory=50 + min(hour, 4) * 60)] for hour in range(200)]
    assert set(_hours(Trend(HEALTH), course)) == {None}


def test_cpu_in_samples_with_work_counts_for_nothing() -> None:
    trend = Trend(HEALTH)
    for hour in range(100):
        for number in range(SAMPLES):
            sample = _sample(cpu=hour * 1.0)
            seconds = HEALTH.trend_hour / SAMPLES
            assert trend.observe("smtp", "1", seconds, sample, is_quiet=number == 0) is None
    assert trend.figures("smtp", Symptom.CLIMBING) == []
    assert len(trend.figures("smtp", Symptom.MEMORY_SLOWLY)) == 100


def test_the_course_outlives_health_and_ends_with_the_process() -> None:
    trend, later = Trend(HEALTH), Trend(HEALTH)
    climb = [hour * 0.5 for hour in range(100)]
    _cpu(trend, climb[:20])
    later.read(json.loads(json.dumps(trend.as_document())))
    assert all(later.figures("smtp", kind) == trend.figures("smtp", kind) for kind in KINDS)
    assert Symptom.CLIMBING in _cpu(later, climb[20:30])
    assert set(_cpu(later, climb[:10], process="2")) == {None}
    kept = later.as_document()
    later.read({"smtp": {"process": "1", "hours": 3.0, "figures": [[1.0, 2.0]]}})  # as an earlier version wrote it
    later.read({"smtp": {"process": 1}, "pop3": 7})
    later.read(None)
    assert later.as_document() == kept


def test_no_line_fits_what_does_not_change() -> None:
    assert rise([(1.0, 5.0), (2.0, 5.0)]) == 0
