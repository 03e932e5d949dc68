"""Listening sockets that outlive their process."""

import errno
import os
import socket
import stat
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


def test_a_unix_socket_is_for_everybody_whom_its_folder_lets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("lmtp")
    before = os.umask(0o077)
    try:
        listener = listening.bind_unix(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with listener, socket.socket(socket.AF_UNIX) as client:
        client.connect("lmtp")
        listener.accept()[0].close()
    assert listening.unix_label("lmtp", path) == "lmtp unix:lmtp"


def test_a_unix_socket_that_nobody_listens_at_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("lmtp")
    listening.bind_unix(path).close()
    with listening.bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect("lmtp")


@pytest.mark.parametrize("backlog", [0, 8])
def test_a_unix_socket_that_somebody_listens_at_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backlog: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listening, "TIMEOUT", 0.01)
    path = Path("lmtp")
    with listening.bind_unix(path) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.listen(backlog)
        waiting.connect("lmtp")  # with a backlog of none, the next must wait
        with pytest.raises(OSError, match="lmtp") as refused:
            listening.bind_unix(path)
        assert refused.value.errno == errno.EADDRINUSE
        assert path.is_socket()


def test_what_is_no_socket_is_never_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listening.bind_unix(Path("stale")).close()
    Path("file").write_bytes(b"octets")
    Path("folder").mkdir()
    Path("link").symlink_to("stale")
    for name in ("file", "folder", "link"):
        with pytest.raises(OSError, match=name) as refused:
            listening.bind_unix(Path(name))
        assert refused.value.errno == errno.EEXIST
    assert Path("file").read_bytes() == b"octets"
    assert Path("link").is_symlink()


def test_a_path_that_is_too_long_for_a_socket_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as refused:
        listening.bind_unix(tmp_path / ("x" * 200))
    assert refused.value.errno == errno.ENAMETOOLONG


def test_a_unix_socket_whose_path_was_removed_is_told_from_one_that_clients_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening.bind_unix(Path("lmtp")) as bound:
        assert listening.is_reachable(bound)
        Path("lmtp").unlink()
        assert not listening.is_reachable(bound)
        Path("lmtp").touch()
        assert not listening.is_reachable(bound)
    assert listening.is_reachable(listener)


def test_sockets_of_both_families_are_borrowed(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening.bind_unix(Path("lmtp")) as unix:
        lender = Lender(Path("smtp.sockets"), lambda: {"smtp [127.0.0.1]:25": listener, "lmtp unix:lmtp": unix})
        borrowed = listening.borrow(Path("smtp.sockets"))
        lender.stop()
    assert [each.family for each in borrowed.values()] == [socket.AF_INET, socket.AF_UNIX]
    with borrowed["lmtp unix:lmtp"] as kept, socket.socket(socket.AF_UNIX) as client:
        client.connect("lmtp")
        kept.accept()[0].close()
    listening.close_all(borrowed.values())
