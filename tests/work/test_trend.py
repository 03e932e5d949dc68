"""CPU use that climbs over days is told from a level that is high, from noise, and from load."""

import json
import random

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom
from mailsrv.work.trend import Trend, rise

HEALTH = Health()


def _days(trend: Trend, hours: int, cpu_of: list[float], process: str = "1") -> list[Symptom | None]:
    """So many hours with four samples each, `cpu_of` each hour."""
    found = []
    for hour in range(hours):
        for _ in range(4):
            found.append(trend.observe("smtp", process, HEALTH.trend_hour / 4, cpu_of[hour]))
    return found


def test_a_climb_of_a_tenth_of_a_core_in_days_is_seen() -> None:
    trend = Trend(HEALTH)
    found = _days(trend, 100, [0.5 + hour * 0.15 for hour in range(100)])
    assert Symptom.CLIMBING in found
    assert 65 < found.index(Symptom.CLIMBING) / 4 < 75  # a rise of 10 % takes 67 hours


def test_a_day_is_waited_for_whatever_is_seen() -> None:
    assert set(_days(Trend(HEALTH), 23, [hour * 4.0 for hour in range(23)])) == {None}


def test_a_high_level_noise_and_a_fall_are_no_climb() -> None:
    chance = random.Random(1)
    assert set(_days(Trend(HEALTH), 200, [40.0] * 200)) == {None}
    assert set(_days(Trend(HEALTH), 200, [chance.uniform(0, 30) for _ in range(200)])) == {None}
    assert set(_days(Trend(HEALTH), 200, [60 - hour * 0.3 for hour in range(200)])) == {None}


def test_samples_with_work_count_for_nothing() -> None:
    trend = Trend(HEALTH)
    for hour in range(100):
        for cpu in (None, None, None, hour * 1.0):
            assert trend.observe("smtp", "1", HEALTH.trend_hour / 4, cpu) is None
    assert trend.figures("smtp") == []


def test_the_course_outlives_health_and_ends_with_the_process() -> None:
    trend, later = Trend(HEALTH), Trend(HEALTH)
    climb = [hour * 0.5 for hour in range(100)]
    _days(trend, 20, climb)
    later.read(json.loads(json.dumps(trend.as_document())))
    assert Symptom.CLIMBING in _days(later, 10, climb[20:])
    assert set(_days(later, 10, climb, process="2")) == {None}
    later.read({"smtp": {"process": 1}, "pop3": 7})
    later.read(None)


def test_no_line_fits_what_does_not_change() -> None:
    assert rise([(1.0, 5.0), (2.0, 5.0)]) == 0
