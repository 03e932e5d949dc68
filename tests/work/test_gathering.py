"""Waiting for more mail: only where it comes in fast."""

import pytest

from mailsrv.work.gathering import ENOUGH, LONGEST, LONGEST_WAIT, Gathering


class Clock:
    """Seconds, as they are set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Mail:
    """A look every so many seconds, which finds so many messages."""

    def __init__(self) -> None:
        self._clock = Clock()
        self.gathering = Gathering(self._clock)

    def rests(self, seconds: float) -> None:
        self._clock.now += seconds

    def comes(self, seconds: float, number: int, times: int = 20) -> None:
        for _ in range(times):
            self._clock.now += seconds
            self.gathering.decided(number)


def test_the_first_message_is_decided_at_once() -> None:
    assert Gathering().pause() == 0.0


@pytest.mark.parametrize("seconds", [0.004, 0.05, 3.0])
def test_messages_one_after_another_are_each_decided_at_once(seconds: float) -> None:
    mail = Mail()
    mail.comes(seconds, 1)
    assert mail.gathering.pause() == 0.0


@pytest.mark.parametrize(("seconds", "waited"), [(0.0005, 0.004), (0.001, 0.008), (0.0024, LONGEST_WAIT)])
def test_where_messages_come_faster_so_many_are_waited_for_but_not_for_long(seconds: float, waited: float) -> None:
    mail = Mail()
    mail.comes(seconds, 1, times=30)
    assert mail.gathering.pause() == pytest.approx(waited, rel=0.01)


def test_a_batch_that_is_large_already_needs_no_more() -> None:
    mail = Mail()
    mail.comes(0.01, ENOUGH)
    assert mail.gathering.pause() == 0.0


def test_after_a_rest_the_next_one_is_decided_at_once() -> None:
    mail = Mail()
    mail.comes(0.001, 1)
    mail.rests(LONGEST * 2)
    assert mail.gathering.pause() == 0.0
    mail.comes(0.001, 1, times=1)
    assert mail.gathering.pause() == 0.0


def test_looks_that_find_nothing_are_no_mail() -> None:
    mail = Mail()
    mail.comes(0.001, 0)
    assert mail.gathering.pause() == 0.0
