"""A connection without a network: what it makes of what asyncio tells it."""

import itertools
import socket
import time
from typing import Any, cast
from unittest.mock import Mock

import pytest

from mailsrv.daemon.connection import TURN_SECONDS, Connection
from mailsrv.model.peer import LOCAL
from mailsrv.protocol.smtp import Session


class Plain(Connection[Session]):
    """One that answers nothing."""

    def greet(self, unwelcome: Any) -> None:
        """Not asked for here."""

    secured = answer = cast(Any, greet)


def session_of() -> Mock:
    session = Mock(is_overfull=False, is_closed=False, is_waiting=False, is_in_transaction=False, buffered=0)
    session.next_event.return_value = None
    session.replies.return_value = b""
    return session


def test_a_client_that_sends_much_at_once_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) * TURN_SECONDS / 10)
    server, session, transport = Mock(is_draining=False, progress=0), session_of(), Mock()
    transport.is_closing.return_value = False
    connection = Plain(server, session, "pop3")
    connection.transport = transport
    connection.eof_received()  # nothing more comes, which is no reason to hang up while there is something to do
    transport.close.reset_mock()
    session.next_event.side_effect = [*[object()] * 100, *[None] * 100]
    connection.pump()
    assert 0 < session.next_event.call_count < 20
    connection.pump()  # more has come meanwhile
    assert server.loop.call_soon.call_count == 1
    assert not transport.close.called
    taken = 0
    while taken < server.loop.call_soon.call_count:
        taken += 1
        server.loop.call_soon.call_args.args[0]()
    assert session.next_event.call_count > 100
    assert transport.close.called


@pytest.mark.parametrize(
    ("family", "name", "peer", "is_let_in"),
    [
        (socket.AF_INET, ("192.0.2.1", 40000), "192.0.2.1", True),
        (socket.AF_INET, None, LOCAL, False),  # reset before it was accepted: the system has forgotten who it was
        (socket.AF_UNIX, "", LOCAL, True),
    ],
)
def test_a_client_of_the_network_without_an_address_is_nobody(
    family: socket.AddressFamily, name: object, peer: str, is_let_in: bool
) -> None:
    server, session, transport = Mock(), session_of(), Mock()
    server.is_proxy.return_value = server.is_tls.return_value = server.is_draining = False
    transport.is_closing.return_value = False
    transport.get_extra_info = {"peername": name, "socket": Mock(family=family)}.get
    connection = Plain(server, session, "smtp")
    connection.connection_made(transport)
    assert connection.peer == peer
    assert server.arrived.called is is_let_in
    assert transport.abort.called is not is_let_in
