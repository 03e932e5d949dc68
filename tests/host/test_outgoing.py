"""Connecting: of several addresses, the one that answers first, and a dead one holds up nobody (RFC 8305)."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator

import pytest

from mailsrv.host.outgoing import HEAD_START, Outgoing, interleaved, is_of_this_machine


@pytest.fixture
def port() -> Iterator[int]:
    """127.0.0.1 answers there, 127.0.0.2 says nothing at all, 127.0.0.3 refuses."""
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        place: int = good.getsockname()[1]
        silent = stack.enter_context(socket.create_server(("127.0.0.2", place), backlog=0))
        for _ in range(4):  # the kernel drops what does not fit into the queue of those that are not accepted
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        yield place


def connected(addresses: list[str], port: int, seconds: float = 10, source: str = "") -> tuple[str, float]:
    began = time.monotonic()
    wire = Outgoing.connect(addresses, port, seconds, source)
    wire.close()
    return wire.address, time.monotonic() - began


def test_an_address_that_is_silent_holds_up_the_next_for_a_moment_only(port: int) -> None:
    address, seconds = connected(["127.0.0.2", "127.0.0.1"], port)
    assert address == "127.0.0.1"
    assert HEAD_START <= seconds < 5


def test_those_that_refuse_hold_up_nobody(port: int) -> None:
    many = 40
    address, seconds = connected([*["127.0.0.3"] * many, "127.0.0.1"], port, seconds=30)
    assert address == "127.0.0.1"
    assert seconds < many * HEAD_START / 2


def test_all_that_are_silent_are_waited_for_together(port: int) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connected(["127.0.0.2"] * 4, port, seconds=1)
    assert time.monotonic() - began < 4


def test_where_all_refuse_the_last_reason_is_told(port: int) -> None:
    with pytest.raises(OSError) as caught:
        connected(["127.0.0.3"], port)
    assert caught.value.errno == errno.ECONNREFUSED


def test_a_source_is_connected_from_and_leaves_out_the_other_family(port: int) -> None:
    wire = Outgoing.connect(["::1", "127.0.0.1"], port, 10, "127.0.0.9")
    assert wire._socket.getsockname()[0] == "127.0.0.9"
    wire.close()
    with pytest.raises(OSError, match="no address"):
        connected(["::1"], port, source="127.0.0.9")


def test_families_alternate_and_each_address_comes_once() -> None:
    assert interleaved(["a", "b", "c"], ["d", "a"]) == ["a", "d", "b", "c"]


def test_an_address_of_this_machine_is_known() -> None:
    assert is_of_this_machine("127.0.0.1")
    assert not is_of_this_machine("192.0.2.1")
