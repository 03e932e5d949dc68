"""A connection without a network: what it makes of what asyncio tells it."""

import socket
from typing import Any, cast
from unittest.mock import Mock

import pytest

from mailsrv.daemon.connection import Connection
from mailsrv.model.peer import LOCAL
from mailsrv.protocol.smtp import Session


class Plain(Connection[Session]):
    """One that answers nothing."""

    def greet(self, unwelcome: Any) -> None:
        """Not asked for here."""

    secured = answer = cast(Any, greet)


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
    server, session, transport = Mock(), Mock(), Mock()
    server.is_proxy.return_value = server.is_tls.return_value = server.is_draining = False
    session.next_event.return_value = None
    session.is_overfull = session.is_closed = False
    session.replies.return_value = b""
    session.buffered = 0
    transport.is_closing.return_value = False
    transport.get_extra_info = {"peername": name, "socket": Mock(family=family)}.get
    connection = Plain(server, session, "smtp")
    connection.connection_made(transport)
    assert connection.peer == peer
    assert server.arrived.called is is_let_in
    assert transport.abort.called is not is_let_in
