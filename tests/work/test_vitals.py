"""High CPU is a fault only where nothing comes of it, or where it never ends."""

from collections.abc import Sequence

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom
from mailsrv.work.vitals import Judge, Pace, Sample

SETTINGS = Health(interval=5, cpu_limit=90, busy_limit=600)


def _judge(samples: Sequence[tuple[float, int]], settings: Health = SETTINGS) -> list[Symptom | None]:
    judge = Judge(settings)
    return [
        judge.observe(Sample(number * settings.interval, cpu, progress))
        for number, (cpu, progress) in enumerate(samples)
    ]


def test_a_spin_without_progress_is_found_at_the_fifth_high_sample() -> None:
    assert _judge([(100, 7)] * 5) == [None] * 4 + [Symptom.SPINNING]


def test_one_low_sample_among_six_does_not_hide_a_spin() -> None:
    assert _judge([(100, 7), (100, 7), (3, 7), (100, 7), (100, 7), (100, 7)])[-1] is Symptom.SPINNING


def test_threads_that_a_program_knows_to_be_at_work_are_no_leak() -> None:
    assert Sample(0, 0, 0, threads=130, explained_threads=60).measure(Symptom.THREADS) == 70


def test_two_low_samples_among_six_are_no_spin() -> None:
    assert _judge([(100, 7), (3, 7), (100, 7), (3, 7), (100, 7), (100, 7)] * 4) == [None] * 24


def test_work_that_makes_progress_is_left_alone_until_the_busy_limit() -> None:
    found = _judge([(100, number) for number in range(130)])
    assert found[:120] == [None] * 120
    assert Symptom.BUSY_TOO_LONG in found[120:]


def test_hard_work_at_its_usual_pace_is_left_alone_however_long_it_lasts() -> None:
    assert _judge([(100, number * 500) for number in range(1000)]) == [None] * 1000


def test_work_that_becomes_far_more_costly_is_found_after_the_busy_limit() -> None:
    before = [(10.0, number * 500) for number in range(20)]
    found = _judge([*before, *((100.0, 10_000 + number * 100) for number in range(130))])
    assert found[:140] == [None] * 140
    assert Symptom.BUSY_TOO_LONG in found[140:]


def test_the_pace_of_a_program_outlives_its_process() -> None:
    slow = [Sample(number * 5.0, 100, number * 250) for number in range(130)]  # from its start
    known = Pace()
    before = Judge(SETTINGS, known)
    for number in range(6):
        before.observe(Sample(number * 5.0, 10, number * 500))
    assert {Judge(SETTINGS, Pace()).observe(each) for each in slow} == {None}
    later = Judge(SETTINGS, known)
    assert {later.observe(each) for each in slow} == {None, Symptom.BUSY_TOO_LONG}


def test_progress_that_stops_while_the_cpu_stays_high_is_a_spin() -> None:
    found = _judge([(100, number) for number in range(20)] + [(100, 20)] * 6)
    assert found[:24] == [None] * 24
    assert Symptom.SPINNING in found[24:]


def test_a_start_that_takes_a_core_is_no_spin_until_its_heart_beats() -> None:
    judge = Judge(SETTINGS)
    starting = [Sample(number * 5.0, 100, 0, has_begun=False) for number in range(20)]
    begun = [Sample(100 + number * 5.0, 100, 0) for number in range(6)]
    assert [judge.observe(each) for each in starting] == [None] * 20
    assert [judge.observe(each) for each in begun].index(Symptom.SPINNING) == 4


def test_an_idle_process_is_well() -> None:
    assert _judge([(0.3, 7)] * 100) == [None] * 100


def test_samples_faster_than_heartbeats_do_not_make_work_look_still() -> None:
    quick = Health(interval=0.2, cpu_limit=90)
    found = _judge([(100, number // 5) for number in range(100)], quick)
    assert found == [None] * 100
