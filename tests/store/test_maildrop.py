"""Maildir, both sides: what delivery names and POP3 lists, with other Maildir programs beside us."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsrv.model.address import Mailbox
from mailsrv.model.identity import new_entry_id
from mailsrv.store.maildir import Maildir, mailbox_path, unique_name, unique_part
from mailsrv.store.maildrop import LOCK_NAME, Maildrop, MaildropInUseError
from tests import killing

ID = new_entry_id(datetime.now(UTC))


@pytest.fixture
def box(tmp_path: Path) -> Path:
    Maildir(tmp_path / "box").create()
    return tmp_path / "box"


def test_a_mailbox_lies_below_its_domain_in_small_letters() -> None:
    assert mailbox_path(Path("mail"), Mailbox("Bob.B", "Example.ORG")) == Path("mail/example.org/bob.b")


def test_the_name_tells_entry_and_sizes_and_is_the_same_each_time(box: Path) -> None:
    move = Maildir(box).move_of(ID, 100, 7)
    assert move == Maildir(box).move_of(ID, 100, 7)
    assert move.draft == box / "tmp" / unique_name(ID)
    assert move.final.parent == box / "new"
    assert move.final.name == f"{unique_name(ID)},S=100,W=107"
    assert unique_part(f"{move.final.name}:2,RS") == unique_name(ID)


def test_what_is_in_new_and_cur_is_in_the_mailbox(box: Path) -> None:
    (box / "new" / "1.a,S=1").touch()
    (box / "cur" / "2.b:2,S").touch()
    (box / "tmp" / "3.c").touch()
    assert Maildir(box).uniques() == {"1.a", "2.b"}


def test_messages_come_in_order_of_arrival_with_their_size_on_the_wire(box: Path) -> None:
    (box / "new" / "30.c,S=2,W=3").write_bytes(b"c\n")
    (box / "cur" / "10.a,S=2,W=3:2,S").write_bytes(b"a\n")
    (box / "new" / "20.b").write_bytes(b"\nb\r\nb")
    (box / "new" / ".hidden").touch()
    maildrop = Maildrop(box)
    assert [(message.uidl, message.octets) for message in maildrop.messages] == [("10.a", 3), ("20.b", 8), ("30.c", 3)]
    maildrop.close()


@pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"\xff", b"two words", b"a" * 200])
def test_a_foreign_name_gets_a_uidl_that_may_be_sent(box: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(box) + b"/new/" + name)).write_bytes(b"x\n")
    for _ in range(2):
        maildrop = Maildrop(box)
        (message,) = maildrop.messages
        assert message.uidl.isascii()
        assert message.uidl.isalnum()
        assert 1 <= len(message.uidl) <= 70
        with maildrop.open(0) as file:
            assert file.read() == b"x\n"
        maildrop.close()


@pytest.mark.parametrize(
    "octets", [b"", b"x", b"x\n", b"x\r\n", b"x\r", b"\r\r\n", b"\n" * 300_000, b"x\r\n" * 100_001]
)
def test_a_size_that_the_name_does_not_tell_is_measured(box: Path, octets: bytes) -> None:
    (box / "new" / "1").write_bytes(octets)
    maildrop = Maildrop(box)
    lines = octets.replace(b"\r\n", b"\n")
    unfinished = 2 if lines and not lines.endswith(b"\n") else 0
    assert maildrop.messages[0].octets == len(lines.replace(b"\n", b"\r\n")) + unfinished
    maildrop.close()


def test_a_maildrop_is_for_one_session_at_a_time(box: Path) -> None:
    maildrop = Maildrop(box)
    with pytest.raises(MaildropInUseError):
        Maildrop(box)
    maildrop.close()
    Maildrop(box).close()


def test_the_lock_goes_with_the_process_that_holds_it(box: Path) -> None:
    assert killing.answer_of(lambda: str(len(Maildrop(box).messages))) == "0"
    Maildrop(box).close()


def test_a_mailbox_that_cannot_be_listed_is_not_locked(box: Path) -> None:
    (box / "cur").rmdir()
    with pytest.raises(FileNotFoundError):
        Maildrop(box)
    (box / "cur").mkdir()
    Maildrop(box).close()


def test_a_message_that_another_program_moved_is_found_and_removed(box: Path) -> None:
    for number in range(3):
        (box / "new" / f"{number}.x,S=2,W=3").write_bytes(b"%d\n" % number)
    maildrop = Maildrop(box)
    (box / "new" / "1.x,S=2,W=3").rename(box / "cur" / "1.x,S=2,W=3:2,S")
    (box / "new" / "2.x,S=2,W=3").unlink()
    with maildrop.open(1) as file:
        assert file.read() == b"1\n"
    with pytest.raises(FileNotFoundError):
        maildrop.open(2)
    maildrop.remove(frozenset({1, 2}))
    maildrop.close()
    assert [path.name for path in (box / "new").iterdir()] == ["0.x,S=2,W=3"]
    assert list((box / "cur").iterdir()) == []
    assert (box / LOCK_NAME).exists()


def test_what_is_not_ours_to_read_is_left_out_and_the_others_are_listed(box: Path) -> None:
    (box / "new" / "1.a").mkdir()  # as a file that may not be read: its octets cannot be measured
    (box / "new" / "2.b").write_bytes(b"b\n")
    maildrop = Maildrop(box)
    assert [message.uidl for message in maildrop.messages] == ["2.b"]
    maildrop.close()
