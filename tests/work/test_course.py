"""What comes back is healed further each time, later each time, and told of once."""

from mailsrv.work.course import AGAIN_SECONDS, FIRST_PAUSE, STORM, STORM_SECONDS, Course, Step
from mailsrv.work.symptoms import Symptom

SLOW = 300.0


def _healed(times: int, apart: float = 1.0) -> tuple[Course, float]:
    course, now = Course(SLOW), 1000.0
    for _ in range(times):
        course.begin("smtp", Symptom.STALE, now)
        now += apart
    return course, now - apart


def test_the_step_is_raised_each_time_that_the_same_symptom_comes_back_within_an_hour() -> None:
    assert [_healed(times)[0].step("smtp", Symptom.STALE, 1010) for times in range(5)] == [
        Step.PROCESS,
        Step.NEIGHBOURS,
        Step.LOUD,
        Step.LOUD,
        Step.LOUD,
    ]


def test_another_symptom_or_an_hour_later_is_another_case() -> None:
    course, now = _healed(2)
    assert course.step("smtp", Symptom.MEMORY, now) is Step.PROCESS
    assert course.step("pop3", Symptom.STALE, now) is Step.PROCESS
    assert course.step("smtp", Symptom.STALE, now + AGAIN_SECONDS) is Step.PROCESS


def test_restarts_back_off_and_a_storm_makes_the_clock_slow() -> None:
    pauses = []
    for times in range(1, STORM + 1):
        course, last = _healed(times)
        pauses.append(course.ready_at("smtp", last) - last)
    assert pauses == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8, SLOW]
    course, last = _healed(STORM)
    assert course.is_storm("smtp", last)
    assert not course.is_storm("pop3", last)
    assert course.ready_at("pop3", last) == last
    assert not course.is_storm("smtp", last + STORM_SECONDS)


def test_postmaster_is_told_once_until_there_was_an_hour_without_it() -> None:
    course = Course(SLOW)
    assert course.is_to_be_told("smtp", Symptom.STALE, 0)
    assert not course.is_to_be_told("smtp", Symptom.STALE, AGAIN_SECONDS - 1)
    assert not course.is_to_be_told("smtp", Symptom.STALE, 2 * AGAIN_SECONDS - 2)
    assert course.is_to_be_told("smtp", Symptom.STALE, 3 * AGAIN_SECONDS)


def test_what_was_healed_is_known_after_a_restart_of_health_but_not_of_the_machine() -> None:
    course, now = _healed(STORM)
    course.is_to_be_told("smtp", Symptom.STALE, now)
    later = Course(SLOW)
    later.read(course.as_document(), now)
    assert later.is_storm("smtp", now)
    assert not later.is_to_be_told("smtp", Symptom.STALE, now)
    rebooted = Course(SLOW)
    rebooted.read(course.as_document(), 5)  # the machine's own clock began anew
    assert not rebooted.is_storm("smtp", 5)
    documents: tuple[object, ...] = (None, [], {"healed": 1}, {"healed": [[1]], "told": []})
    for nonsense in documents:
        later.read(nonsense, now)
    assert later.is_storm("smtp", now)
