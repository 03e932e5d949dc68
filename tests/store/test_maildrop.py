"""Maildir, both sides: what delivery names and POP3 lists, with other Maildir programs beside us."""

import os
import random
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsrv.model.address import Mailbox
from mailsrv.model.identity import new_entry_id
from mailsrv.store.listing import Listing
from mailsrv.store.listings import Listings, NotListedError
from mailsrv.store.maildir import Maildir, mailbox_path, unique_name, unique_part
from mailsrv.store.maildrop import (
    LOCK_NAME,
    ChangedError,
    LoginTooSoonError,
    Maildrop,
    MaildropInUseError,
    is_header_ascii,
)
from mailsrv.store.measured import SIZES_NAME
from tests import killing

ID = new_entry_id(datetime.now(UTC))


@pytest.fixture
def box(tmp_path: Path) -> Path:
    Maildir(tmp_path / "box").create()
    return tmp_path / "box"


def listed(maildrop: Maildrop) -> list[tuple[str, int]]:
    """Unique ids and sizes of all messages."""
    return [(maildrop.listing.uidl(index), octets) for index, octets in enumerate(maildrop.listing.octets)]


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
    assert listed(maildrop) == [("10.a", 3), ("20.b", 8), ("30.c", 3)]
    maildrop.close()


@pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"\xff", b"two words", b"a" * 200])
def test_a_foreign_name_gets_a_uidl_that_may_be_sent(box: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(box) + b"/new/" + name)).write_bytes(b"x\n")
    for _ in range(2):
        maildrop = Maildrop(box)
        ((uidl, _),) = listed(maildrop)
        assert uidl.isascii()
        assert uidl.isalnum()
        assert 1 <= len(uidl) <= 70
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
    assert maildrop.listing.octets[0] == len(lines.replace(b"\n", b"\r\n")) + unfinished
    maildrop.close()


def test_a_maildrop_is_for_one_session_at_a_time(box: Path) -> None:
    maildrop = Maildrop(box)
    with pytest.raises(MaildropInUseError):
        Maildrop(box)
    maildrop.close()
    Maildrop(box).close()


def test_the_lock_goes_with_the_process_that_holds_it(box: Path) -> None:
    assert killing.answer_of(lambda: str(len(Maildrop(box).listing.octets))) == "0"
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


def test_what_was_removed_is_told_also_where_something_else_could_not_be(box: Path) -> None:
    for number in range(3):
        (box / "new" / f"{number}.x,S=2,W=3").write_bytes(b"%d\n" % number)
    maildrop = Maildrop(box)
    (box / "new" / "0.x,S=2,W=3").unlink()
    (box / "new" / "1.x,S=2,W=3").unlink()
    (box / "new" / "1.x,S=2,W=3").mkdir()
    told: list[Path] = []
    with pytest.raises(IsADirectoryError):
        maildrop.remove(frozenset({0, 1, 2}), told.append)
    assert [path.name for path in told] == ["0.x,S=2,W=3", "2.x,S=2,W=3"]
    maildrop.close()


def test_what_is_not_ours_to_read_is_left_out_and_the_others_are_listed(box: Path) -> None:
    (box / "new" / "1.a").mkdir()  # as a file that may not be read: its octets cannot be measured
    (box / "new" / "2.b").write_bytes(b"b\n")
    maildrop = Maildrop(box)
    assert listed(maildrop) == [("2.b", 3)]
    maildrop.close()


def test_what_is_no_file_is_no_message_and_holds_nobody_up(box: Path) -> None:
    os.mkfifo(box / "new" / "1.pipe")
    os.mkfifo(box / "new" / "2.pipe,S=2,W=3")
    (box / "secret").write_bytes(b"of somebody else\n")
    (box / "new" / "3.link").symlink_to(box / "secret")
    (box / "new" / "4.link,S=17,W=18").symlink_to(box / "secret")
    (box / "new" / "5.lost").symlink_to(box / "nothing")
    os.mkfifo(box / SIZES_NAME)
    (box / "new" / "6.file").write_bytes(b"x\n")
    maildrop = Maildrop(box)
    assert listed(maildrop) == [("2.pipe", 3), ("4.link", 18), ("6.file", 3)]  # a name is believed until it is opened
    for index in (0, 1):
        with pytest.raises(OSError, match=r"not a file|symbolic links"):
            maildrop.open(index)
    assert content_of(maildrop, 2) == (b"x\n", 3)
    maildrop.close()
    (box / LOCK_NAME).unlink()
    (box / LOCK_NAME).symlink_to(box / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        Maildrop(box)


def content_of(maildrop: Maildrop, index: int) -> tuple[bytes, int]:
    """What lies on disk of a message, and how many octets RETR will say."""
    with maildrop.open(index) as file:
        octets = maildrop.octets_of(index, file)
        return file.read(), octets


LONG = b"x" * 79 + b"\n"


@pytest.mark.parametrize("body", [b"", LONG * 2000], ids=["small", "large"])
def test_the_line_end_that_a_foreign_name_does_not_count_is_counted_when_it_is_sent_and_then_remembered(
    box: Path, body: bytes
) -> None:
    message = b"Subject: x\n\n" + body + b"unfinished"
    told = len(message) + message.count(b"\n")
    (box / "cur" / f"1.a,S={len(message)},W={told}:2,S").write_bytes(message)
    listings = Listings(10)
    settle(box)
    maildrop = Maildrop(box, listings=listings)
    assert listed(maildrop) == [("1.a", told)]
    assert content_of(maildrop, 0) == (message, told + 2)
    maildrop.close()
    for kept in (listings, Listings(10)):  # by the next session, and after a restart
        maildrop = Maildrop(box, listings=kept)
        assert listed(maildrop) == [("1.a", told + 2)]
        assert content_of(maildrop, 0) == (message, told + 2)
        maildrop.close()


def test_a_name_that_lies_is_found_out_and_the_next_session_knows_better(box: Path) -> None:
    (box / "cur" / "1.a,W=5").write_bytes(b"Subject: x\n\nmore\n")
    (box / "cur" / "2.b,W=3").write_bytes(b"x\n")
    listings = Listings(10)
    maildrop = Maildrop(box, listings=listings)
    assert listed(maildrop) == [("1.a", 5), ("2.b", 3)]
    with pytest.raises(ChangedError):
        content_of(maildrop, 0)
    assert content_of(maildrop, 1) == (b"x\n", 3)
    maildrop.close()
    maildrop = Maildrop(box, listings=listings)
    assert content_of(maildrop, 0) == (b"Subject: x\n\nmore\n", 20)
    maildrop.close()
    assert len(sizes_known(box)) == 2  # the other one is still believed


@pytest.mark.parametrize("name", ["1.a", "1.a,S=4,W=5"])
@pytest.mark.parametrize("is_moved_in", [False, True])
def test_a_file_that_has_become_another_message_is_not_sent_for_the_one_that_was_listed(
    box: Path, name: str, *, is_moved_in: bool
) -> None:
    path = box / "new" / name
    path.write_bytes(b"one\n")
    settle(box)
    listings = Listings(10)
    maildrop = Maildrop(box, listings=listings)
    other = box / "tmp" / "other" if is_moved_in else path
    other.write_bytes(b"another one\n")
    other.rename(path)
    with pytest.raises(ChangedError):
        content_of(maildrop, 0)
    maildrop.close()
    maildrop = Maildrop(box, listings=listings)
    assert content_of(maildrop, 0) == (b"another one\n", 13)
    maildrop.close()


def listed_folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders as they are listed from now on."""
    seen: list[Path] = []
    real = os.listdir

    def counted(path: Path) -> list[str]:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", counted)
    return seen


def settle(box: Path, seconds: float = 10) -> None:
    """As if nothing had changed in the folders for so long."""
    for folder in ("new", "cur"):
        os.utime(box / folder, (0, time.time() - seconds))


def sizes_known(box: Path) -> list[bytes]:
    return (box / SIZES_NAME).read_bytes().splitlines()


def test_a_measured_size_is_remembered_across_sessions_and_flags_and_forgotten_when_the_file_changes(box: Path) -> None:
    path = box / "new" / "1.a"
    path.write_bytes(b"one\n")
    Maildrop(box).close()
    kept = sizes_known(box)
    # What is remembered counts, so that a wrong memory shows whether it is used.
    (box / SIZES_NAME).write_bytes((box / SIZES_NAME).read_bytes().replace(b" 5 1.a", b" 999 1.a"))
    path.rename(box / "cur" / "1.a:2,S")
    maildrop = Maildrop(box)
    assert listed(maildrop) == [("1.a", 999)]
    maildrop.close()
    (box / "cur" / "1.a:2,S").write_bytes(b"changed\n")
    maildrop = Maildrop(box)
    assert listed(maildrop) == [("1.a", 9)]
    maildrop.close()
    assert sizes_known(box) != kept


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_torn_memory_of_sizes_counts_as_none(box: Path, cut: int) -> None:
    for number in range(3):
        (box / "new" / f"{number}.a").write_bytes(b"x\n" * number)
    Maildrop(box).close()
    (box / SIZES_NAME).write_bytes((box / SIZES_NAME).read_bytes()[:cut])
    maildrop = Maildrop(box)
    assert listed(maildrop) == [("0.a", 0), ("1.a", 3), ("2.a", 6)]
    maildrop.close()
    assert len(sizes_known(box)) == 4


def test_sizes_that_cannot_be_remembered_keep_nobody_from_the_mail(box: Path) -> None:
    (box / "new" / "1.a").write_bytes(b"one\n")
    (box / SIZES_NAME).mkdir()
    maildrop = Maildrop(box)
    assert listed(maildrop) == [("1.a", 5)]
    maildrop.close()


def test_a_name_with_a_line_end_in_it_is_a_name(box: Path) -> None:
    for number in range(2):
        (box / "new" / f"{number}\n 2 3 4 x").write_bytes(b"x\n" * number)
        maildrop = Maildrop(box)
        assert [octets for _, octets in listed(maildrop)] == [0, 3][: number + 1]
        maildrop.close()


def test_messages_of_one_unique_part_have_ids_of_their_own_that_stay(box: Path) -> None:
    (box / "new" / "1.a,S=2,W=3").write_bytes(b"a\n")
    (box / "cur" / "1.a,S=3,W=4:2,S").write_bytes(b"ab\n")
    (box / "cur" / "2.b,S=2,W=3:2,").write_bytes(b"b\n")
    (box / "new" / "2.b,S=2,W=3").hardlink_to(box / "cur" / "2.b,S=2,W=3:2,")  # as while it is moved
    maildrop = Maildrop(box)
    before = listed(maildrop)
    assert len({uidl for uidl, _ in before}) == len(before) == 3
    assert [octets for _, octets in before] == [3, 4, 3]
    (box / "new" / "1.a,S=2,W=3").rename(box / "cur" / "1.a,S=2,W=3:2,R")
    (box / "cur" / "1.a,S=3,W=4:2,S").rename(box / "cur" / "1.a,S=3,W=4:2,RS")
    for index, octets in enumerate([b"a\n", b"ab\n", b"b\n"]):
        with maildrop.open(index) as file:
            assert file.read() == octets
    assert listed(maildrop) == before
    maildrop.close()
    again = Maildrop(box)
    assert listed(again) == before
    again.close()


def test_the_id_of_a_message_stays_when_another_one_of_its_unique_part_goes(box: Path) -> None:
    for number in (1, 2, 3):
        (box / "cur" / f"1.a,S={number}").write_bytes(b"x\n" * number)
    maildrop = Maildrop(box)
    (_, second, third) = (uidl for uidl, _ in listed(maildrop))
    maildrop.remove(frozenset({1}))
    maildrop.close()
    maildrop = Maildrop(box)
    assert [uidl for uidl, _ in listed(maildrop)] == ["1.a", third]
    assert second != third
    maildrop.close()


def test_a_message_that_might_be_either_of_two_is_told_as_gone(box: Path) -> None:
    (box / "new" / "1.a").write_bytes(b"a\n")
    maildrop = Maildrop(box)
    (box / "new" / "1.a").unlink()
    for size in (7, 8):
        (box / "cur" / f"1.a,S={size}").write_bytes(b"other\n")
    with pytest.raises(FileNotFoundError):
        maildrop.open(0)
    maildrop.close()


def test_many_that_moved_are_found_by_one_more_listing(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (box / "new" / f"{number:02}.x,S=3,W=4").write_bytes(b"%02d\n" % number)
    maildrop = Maildrop(box)
    for path in list((box / "new").iterdir()):
        path.rename(box / "cur" / f"{path.name}:2,S")
    seen = listed_folders(monkeypatch)
    for index in range(50):
        with maildrop.open(index) as file:
            assert file.read() == b"%02d\n" % index
    assert len(seen) == 2  # new and cur
    maildrop.close()


def test_sessions_that_are_not_exclusive_share_a_maildrop_and_keep_an_exclusive_one_out(box: Path) -> None:
    one, two = Maildrop(box, is_exclusive=False), Maildrop(box, is_exclusive=False)
    with pytest.raises(MaildropInUseError):
        Maildrop(box)
    one.close()
    two.close()
    Maildrop(box).close()


def test_a_login_too_soon_after_the_last_one_is_refused_and_does_not_count(box: Path) -> None:
    Maildrop(box, login_delay=60).close()  # the first one
    os.utime(box / LOCK_NAME, (0, time.time() - 59))
    with pytest.raises(LoginTooSoonError):
        Maildrop(box, login_delay=60)
    Maildrop(box).close()  # no login, and no lock was left
    os.utime(box / LOCK_NAME, (0, time.time() - 61))
    Maildrop(box, login_delay=60).close()
    with pytest.raises(LoginTooSoonError):
        Maildrop(box, login_delay=60)


def test_a_login_that_fails_by_our_fault_and_a_sweep_are_no_logins(box: Path) -> None:
    Maildrop(box).close()  # makes the lock, as a sweep does
    (box / "cur").rename(box / "away")
    with pytest.raises(FileNotFoundError):
        Maildrop(box, login_delay=60)
    (box / "away").rename(box / "cur")
    Maildrop(box, login_delay=60).close()


def test_a_clock_that_was_set_back_keeps_nobody_waiting(box: Path) -> None:
    Maildrop(box, login_delay=60).close()
    os.utime(box / LOCK_NAME, (0, time.time() + 3600))
    Maildrop(box, login_delay=60).close()


@pytest.mark.parametrize(
    ("octets", "is_ascii"),
    [
        (b"", True),
        (b"\nb\xc3\xa9", True),
        (b"\r\nb\xc3\xa9", True),
        (b"Subject: a\n\nb\xc3\xa9", True),
        (b"Subject: \xc3\xa9\n\nb", False),
        (b"A: " + b"x" * 65530 + b"\r\n\r\nb\xc3\xa9", True),
        (b"A: " + b"x" * 65531 + b"\r\n\r\nb\xc3\xa9", True),
        (b"A: " + b"x" * 65532 + b"\n\nb\xc3\xa9", True),
        (b"A: " + b"x" * 70000 + b"\nB: \xe9", False),
    ],
)
def test_whether_a_header_is_ascii_is_told_wherever_it_is_parted(box: Path, octets: bytes, *, is_ascii: bool) -> None:
    path = box / "new" / "1"
    path.write_bytes(octets)
    with path.open("rb") as file:
        assert is_header_ascii(file) == is_ascii
        assert file.read() == octets


def test_a_mailbox_that_has_not_changed_is_not_listed_again(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (box / "new" / "1.a").write_bytes(b"one\n")
    settle(box)
    listings = Listings(10)
    Maildrop(box, listings=listings).close()
    seen = listed_folders(monkeypatch)
    for _ in range(2):
        again = Maildrop(box, listings=listings)
        assert listed(again) == [("1.a", 5)]
        again.close()
    assert seen == []


@pytest.mark.parametrize("seconds", [10.0, 0.0])
def test_whatever_changes_between_two_sessions_is_seen(box: Path, seconds: float) -> None:
    """Also within the same tick of the filesystem's clock: a folder that changed just now is listed again."""
    listings = Listings(10)
    (box / "new" / "1.a").write_bytes(b"one\n")
    settle(box, seconds)
    Maildrop(box, listings=listings).close()
    stamps = [(box / folder).stat().st_mtime_ns for folder in ("new", "cur")]
    (box / "new" / "2.b").write_bytes(b"two\n")
    if not seconds:
        for folder, stamp in zip(("new", "cur"), stamps, strict=True):
            os.utime(box / folder, ns=(stamp, stamp))
    maildrop = Maildrop(box, listings=listings)
    assert [uidl for uidl, _ in listed(maildrop)] == ["1.a", "2.b"]
    maildrop.remove(frozenset({0}))
    maildrop.close()
    maildrop = Maildrop(box, listings=listings)
    assert [uidl for uidl, _ in listed(maildrop)] == ["2.b"]
    maildrop.close()


def test_a_change_after_which_the_time_of_the_folder_was_set_back_is_seen(box: Path) -> None:
    (box / "new" / "1.a").write_bytes(b"one\n")
    settle(box)
    listings = Listings(10)
    Maildrop(box, listings=listings).close()
    stamp = (box / "new").stat().st_mtime_ns
    (box / "new" / "2.b").write_bytes(b"two\n")
    os.utime(box / "new", ns=(stamp, stamp))  # as a backup that is restored does
    maildrop = Maildrop(box, listings=listings)
    assert [uidl for uidl, _ in listed(maildrop)] == ["1.a", "2.b"]
    maildrop.close()


@pytest.mark.parametrize(("nanoseconds", "is_listed_again"), [(0, True), (123_456_789, False)])
def test_a_folder_whose_time_is_in_whole_seconds_counts_as_changed_for_longer(
    box: Path, monkeypatch: pytest.MonkeyPatch, nanoseconds: int, *, is_listed_again: bool
) -> None:
    (box / "new" / "1.a").write_bytes(b"one\n")
    stamp = (time.time_ns() // 10**9 - 1) * 10**9 + nanoseconds
    for folder in ("new", "cur"):
        os.utime(box / folder, ns=(stamp, stamp))
    listings = Listings(10)
    Maildrop(box, listings=listings).close()
    seen = listed_folders(monkeypatch)
    Maildrop(box, listings=listings).close()
    assert bool(seen) is is_listed_again


def test_the_memory_for_a_huge_mailbox_is_bounded(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = 50_000
    names = [f"{1_700_000_000 + each}.{unique_name(ID)},S=4000,W=4060:2,S" for each in range(number)]
    earlier = Listing(box)
    settle(box)  # what changes just now is looked at several times
    monkeypatch.setattr(os, "listdir", lambda folder: names if folder.name == "cur" else [])
    tracemalloc.start()
    listing = Listing(box, earlier)
    peaks = [tracemalloc.get_traced_memory()[1]]
    names.append(f"1800000000.{unique_name(ID)},S=4000,W=4060")
    settle(box, 9)
    tracemalloc.reset_peak()
    grown = Listing(box, listing)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert len(grown.octets) == len(listing.octets) + 1 == number + 1
    assert [each < 350 * number for each in peaks] == [True, True], peaks  # 60 MB for 100,000 would be 600


def known(listing: Listing) -> list[tuple[str, int, str]]:
    """All that a session asks of a listing."""
    number = len(listing.octets)
    assert listing.total == sum(listing.octets)
    return [(listing.uidl(index), listing.octets[index], listing.path(index).name) for index in range(number)]


MORE = [
    [],
    ["9.d,S=2,W=3"],
    ["3.c,S=3,W=4", "9.d,S=2,W=3", "9.e,S=2,W=3"],  # one that shares the unique part of another
    ["9.d,S=2,W=3", "9.d,S=3,W=4"],
    ["3.c"],  # likewise, and tells nothing
    ["3.c:2,S"],
    ["9.d"],
    ["2.bb,S=2,W=3"],  # in the middle
    ["3.c-d,S=2,W=3", "3.c.d,S=2,W=3"],
]


@pytest.mark.parametrize("most", [-1, 1000])
@pytest.mark.parametrize("gone", [None, "1.a,S=2,W=3", "3.c,S=2,W=3"])
@pytest.mark.parametrize("more", MORE, ids=" ".join)
def test_a_mailbox_that_has_grown_is_listed_as_if_for_the_first_time(
    box: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], gone: str | None, most: int
) -> None:
    monkeypatch.setattr("mailsrv.store.listing._MANY", most)
    for name in ("1.a,S=2,W=3", "2.b,S=2,W=3", "3.c,S=2,W=3"):
        (box / "cur" / name).write_bytes(b"x\n")
    settle(box)
    earlier = Listing(box)
    earlier.memo["made"] = [b"of 1\nand 2\n", b"of 3\n"]
    for name in more:
        (box / "new" / name).write_bytes(b"y\n")
    if gone:
        (box / "cur" / gone).unlink()
    settle(box, 9)
    grown = Listing(box, earlier)
    assert known(grown) == known(Listing(box))
    same = next((number for number in (3, 2, 1) if known(grown)[:number] == known(earlier)[:number]), 0)
    assert len(b"".join(grown.memo.get("made", [])).splitlines()) <= same
    if most < 0:
        assert not grown.memo  # too much is new to take anything over
    elif more == ["9.d,S=2,W=3"]:
        assert grown.memo["made"] == [b"of 1\nand 2\n", b"of 3\n"][: {3: 2, 2: 1, 0: 0}[same]]
        (box / "cur" / "9.e,S=2,W=3").write_bytes(b"z\n")  # just now: other programs may be at it
        assert known(Listing(box, grown)) == known(Listing(box))


def test_a_folder_that_has_not_changed_is_not_looked_at_again(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name in (("new", "2.b,S=2,W=3"), ("cur", "1.a,S=2,W=3:2,S")):
        (box / folder / name).write_bytes(b"x\n")
    settle(box)
    earlier = Listing(box)
    (box / "new" / "3.c,S=2,W=3").write_bytes(b"x\n")
    (box / "new" / "2.b,S=2,W=3").unlink()
    seen = listed_folders(monkeypatch)
    grown = Listing(box, earlier)
    assert seen == [box / "new"]
    assert known(grown) == known(Listing(box))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_other_programs_do_a_listing_that_follows_another_is_as_if_for_the_first_time(
    box: Path, seed: int
) -> None:
    chance, listing = random.Random(seed), Listing(box)
    for step in range(1, 12):
        before = {folder: os.listdir(box / folder) for folder in ("new", "cur")}
        for number in range(chance.randrange(4)):
            (box / "new" / f"{chance.randrange(50)}.{step}-{number},S=2,W=3").write_bytes(b"x\n")
        for path in [*box.glob("new/*"), *box.glob("cur/*")]:
            match chance.randrange(8):
                case 0:
                    path.unlink()
                case 1:
                    path.rename(box / "cur" / f"{path.name.partition(':')[0]}:2,{chance.choice('FRS')}")
        for folder, names in before.items():
            if os.listdir(box / folder) != names:  # the other one stays as it was, to the last nanosecond
                os.utime(box / folder, (0, time.time() - 1000 + step))
        listing = Listing(box, listing)
        assert known(listing) == known(Listing(box))
        assert [listing.path(index).exists() for index in range(len(listing.octets))] == [True] * len(listing.octets)


def test_a_listing_in_which_messages_were_found_again_is_not_used_again(box: Path) -> None:
    listings = Listings(10)
    (box / "new" / "1.a").write_bytes(b"one\n")
    maildrop = Maildrop(box, listings=listings)
    (box / "new" / "1.a").rename(box / "cur" / "1.a:2,S")
    (box / "new" / "2.b").write_bytes(b"two\n")
    maildrop.open(0).close()
    settle(box)
    maildrop.close()
    again = Maildrop(box, listings=listings)
    assert [uidl for uidl, _ in listed(again)] == ["1.a", "2.b"]
    again.close()


def test_no_more_messages_are_kept_than_that_and_the_longest_unused_go_first(tmp_path: Path) -> None:
    listings = Listings(5)
    boxes = [tmp_path / str(number) for number in range(3)]
    made = []
    for each in boxes:
        Maildir(each).create()
        for number in range(2):
            (each / "new" / f"{number}.a").write_bytes(b"x\n")
        settle(each)
        maildrop = Maildrop(each, listings=listings)
        made.append(maildrop.listing)
        maildrop.close()
    assert [listings.take(each) is one for each, one in zip(boxes, made, strict=True)] == [False, True, True]
    assert listings.take(boxes[1]) is not made[1]  # it is taken


def test_what_would_have_to_be_listed_is_not_where_that_may_not_be_and_is_not_locked(box: Path) -> None:
    (box / "new" / "1.a").write_bytes(b"one\n")
    settle(box)
    listings = Listings(10)
    with pytest.raises(NotListedError):
        Maildrop(box, listings=listings, may_list=False)
    first = Maildrop(box, listings=listings)
    first.close()
    again = Maildrop(box, listings=listings, may_list=False)
    assert again.listing is first.listing
    again.close()
    (box / "new" / "2.b").write_bytes(b"two\n")
    with pytest.raises(NotListedError):
        Maildrop(box, listings=listings, may_list=False)
    grown = Maildrop(box, listings=listings)
    assert [uidl for uidl, _ in listed(grown)] == ["1.a", "2.b"]
    grown.close()
