"""Listening sockets that outlive their process."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsrv.host import listening
from mailsrv.host.listening import Lender


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening.bind("127.0.0.1", 0) as bound:
        yield bound


def test_a_borrowed_socket_accepts_what_came_while_its_owner_was_away(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("smtp.sockets")
    lender = Lender(path, lambda: {"smtp": listener})
    borrowed = listening.borrow(path)["smtp"]
    address = listener.getsockname()
    lender.stop()
    listener.close()
    with socket.create_connection(address, 5) as client, borrowed:
        accepted, peer = borrowed.accept()
        with accepted:
            assert peer == client.getsockname()


def test_borrowing_from_nobody_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert listening.borrow(Path("nobody.sockets")) == {}
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind("abandoned.sockets")
    assert listening.borrow(Path("abandoned.sockets")) == {}


def test_a_lender_with_nothing_to_lend_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lender = Lender(Path("health.sockets"), dict)
    assert listening.borrow(Path("health.sockets")) == {}
    lender.stop()


def test_the_port_is_closed_when_the_last_duplicate_is(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lender = Lender(Path("smtp.sockets"), lambda: {"smtp": listener})
    borrowed = listening.borrow(Path("smtp.sockets"))
    address = listener.getsockname()
    lender.stop()
    listener.close()
    listening.close_all(borrowed.values())
    with socket.socket() as probe:
        assert probe.connect_ex(address) != 0
