"""What bench/run --quick says of two results."""

from bench.quick import changes
from bench.result import Result, Row, Sample


def row(rate: float, cpu: float, peer_rate: float = 1000, peer_cpu: float = 0.001) -> Row:
    ours, its = Sample(rate, cpu, 0.0001, 2), Sample(peer_rate, peer_cpu, 0.0001, 2)
    return Row("4 KB messages", "message", "Postfix", 3, 5, {"mailsrv": [ours], "Postfix": [its]})


def told(now: Row, before: Row, calibration: float = 0.005) -> list[str]:
    result = Result("2026-11-25T12:00:00+00:00", 1, {"calibration": 0.005}, [before])
    return [str(change) for change in changes([now], calibration, result)]


def test_a_machine_that_is_slow_for_both_changes_nothing() -> None:
    lines = told(row(1500, 0.001, peer_rate=500, peer_cpu=0.002), row(3000, 0.0005))
    assert [line.endswith("as before") for line in lines] == [True, True]


def test_a_server_that_is_slower_than_it_was_beside_its_peer_is_told_so() -> None:
    speed, cpu = told(row(2000, 0.00075), row(3000, 0.0005))
    assert speed.endswith("as part of those of Postfix 0.50, kept 0.33: WORSE by 50 %")
    assert cpu.endswith("as part of that of Postfix 0.75, kept 0.50: WORSE by 50 %")


def test_a_server_that_is_faster_than_it_was_is_told_so() -> None:
    assert told(row(6000, 0.00025), row(3000, 0.0005))[0].endswith("better by 50 %")


def test_without_a_peer_cpu_is_compared_by_the_speed_of_the_machine() -> None:
    alone = Row("4 KB messages", "message", "Postfix", 3, 5, {"mailsrv": [Sample(1500, 0.001, 0.0001, 2)]})
    (line,) = told(alone, row(3000, 0.0005), calibration=0.010)
    assert line.endswith("500, kept 500: as before")


def test_a_work_that_was_not_measured_before_is_left_out() -> None:
    result = Result("2026-11-25T12:00:00+00:00", 1, {"calibration": 0.005}, [])
    assert not list(changes([row(1, 1)], 0.005, result))
