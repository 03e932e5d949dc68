"""Sockets are kept through a restart and let go of after a stop."""

import socket
from collections.abc import Mapping

from mailsrv.host import listening
from mailsrv.host.supervisor import ProcessState, StateChange
from mailsrv.work.keeper import GRACE, Keeper


def _keeper() -> Keeper:
    def borrow(program: str) -> Mapping[str, socket.socket]:
        return {f"{program} socket": listening.bind("127.0.0.1", 0)}

    return Keeper(("smtp", "pop3"), borrow)


def _tell(keeper: Keeper, name: str, *states: ProcessState, now: float) -> None:
    for state in states:
        keeper.take(StateChange(name, state), now)


def _running(keeper: Keeper) -> Keeper:
    for name in ("smtp", "pop3"):
        _tell(keeper, name, ProcessState.STARTING, ProcessState.RUNNING, now=0)
    keeper.turn(0)
    return keeper


def test_a_program_that_has_just_started_is_borrowed_from_as_soon_as_it_lends() -> None:
    lent: dict[str, socket.socket] = {}
    keeper = Keeper(("smtp",), lambda _program: lent)
    _tell(keeper, "smtp", ProcessState.STARTING, now=0)
    keeper.turn(0)
    assert keeper.sockets() == {}
    assert keeper.is_settling()
    lent["smtp socket"] = listening.bind("127.0.0.1", 0)
    keeper.turn(0.1)
    assert set(keeper.sockets()) == {"smtp socket"}
    assert not keeper.is_settling()
    listening.close_all(keeper.sockets().values())


def test_what_runs_is_borrowed_from() -> None:
    keeper = _running(_keeper())
    assert set(keeper.sockets()) == {"smtp socket", "pop3 socket"}
    listening.close_all(keeper.sockets().values())


def test_a_stop_closes_after_the_grace_and_below_two_seconds() -> None:
    keeper = _running(_keeper())
    _tell(keeper, "smtp", ProcessState.STOPPING, ProcessState.STOPPED, now=100)
    keeper.turn(100 + GRACE - 0.01)
    assert "smtp socket" in keeper.sockets()
    kept = keeper.sockets()["smtp socket"]
    keeper.turn(100 + GRACE + 0.01)
    assert set(keeper.sockets()) == {"pop3 socket"}
    assert kept.fileno() == -1
    assert GRACE < 2
    listening.close_all(keeper.sockets().values())


def test_a_restart_keeps() -> None:
    keeper = _running(_keeper())
    _tell(keeper, "smtp", ProcessState.STOPPING, ProcessState.STOPPED, now=100)
    _tell(keeper, "smtp", ProcessState.STARTING, now=100.5)
    keeper.turn(200)
    assert "smtp socket" in keeper.sockets()
    listening.close_all(keeper.sockets().values())


def test_a_restart_of_both_keeps_the_first_while_the_second_drains() -> None:
    keeper = _running(_keeper())
    _tell(keeper, "pop3", ProcessState.STOPPING, ProcessState.STOPPED, now=100)
    _tell(keeper, "smtp", ProcessState.STOPPING, now=100.1)
    keeper.turn(105)
    assert "pop3 socket" in keeper.sockets()
    _tell(keeper, "smtp", ProcessState.STOPPED, now=106)
    keeper.turn(106 + GRACE - 0.01)
    assert set(keeper.sockets()) == {"smtp socket", "pop3 socket"}
    _tell(keeper, "pop3", ProcessState.STARTING, ProcessState.RUNNING, now=107)
    _tell(keeper, "smtp", ProcessState.STARTING, ProcessState.RUNNING, now=107)
    keeper.turn(200)
    assert set(keeper.sockets()) == {"smtp socket", "pop3 socket"}
    listening.close_all(keeper.sockets().values())


def test_a_crash_keeps_for_ever() -> None:
    keeper = _running(_keeper())
    _tell(keeper, "smtp", ProcessState.EXITED, ProcessState.BACKOFF, ProcessState.FATAL, now=100)
    keeper.turn(100_000)
    assert "smtp socket" in keeper.sockets()
    listening.close_all(keeper.sockets().values())


def test_a_program_that_comes_back_is_borrowed_from_anew_and_the_old_duplicates_are_closed() -> None:
    keeper = _running(_keeper())
    old = keeper.sockets()["smtp socket"]
    _tell(keeper, "smtp", ProcessState.EXITED, ProcessState.STARTING, ProcessState.RUNNING, now=100)
    keeper.turn(100)
    assert old.fileno() == -1
    assert keeper.sockets()["smtp socket"].fileno() != -1
    listening.close_all(keeper.sockets().values())


def test_of_several_processes_each_is_borrowed_from_and_one_that_is_stopped_takes_nothing_from_the_others() -> None:
    shared = listening.bind("127.0.0.1", 0)
    keeper = Keeper(("smtp",), lambda _process: {"smtp socket": shared.dup()})
    for name in ("smtp_00", "smtp_01"):
        _tell(keeper, name, ProcessState.STARTING, ProcessState.RUNNING, now=0)
    keeper.turn(0)
    shared.close()
    _tell(keeper, "smtp_00", ProcessState.STOPPING, ProcessState.STOPPED, now=100)
    keeper.turn(100 + GRACE + 0.01)
    (left,) = keeper.sockets().values()
    assert left.getsockname()
    _tell(keeper, "smtp_01", ProcessState.STOPPING, ProcessState.STOPPED, now=200)
    keeper.turn(200 + GRACE + 0.01)
    assert keeper.sockets() == {}
    assert left.fileno() == -1
