"""The spool: what moves where, and that nothing is ever put in place of something else."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsrv.model.identity import derived_id, new_entry_id
from mailsrv.store.entry import FormatError
from mailsrv.store.spool import MAX_BAD_NAME, READ_AHEAD, Spool, State, is_left_alone

ID = new_entry_id(datetime.now(UTC))
ENTRY = b"X-Sender: <>\r\nX-Receiver: <bob@example.org>\r\nX-EndOfInjectedXHeaders: 0\r\ncontent\r\n"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.create_folders()
    return spool


def set_aside(spool: Spool, name: str | bytes, octets: bytes) -> Path:
    """Drop, claim and set aside a file."""
    path = Path(os.fsdecode(os.fsencode(spool.root) + b"/" + os.fsencode(name)))
    path.write_bytes(octets)
    return spool.set_aside(spool.claim(path, new_entry_id(datetime.now(UTC))), f"reason of {path.name}")


def reason_of(place: Path) -> str:
    return place.with_name(f"{place.name}.txt").read_text("utf-8")


def test_an_entry_is_opened_at_its_message(spool: Spool) -> None:
    spool.path(State.NEW, ID).write_bytes(ENTRY)
    file, block = spool.open(State.NEW, ID)
    with file:
        assert file.read() == b"content\r\n"
    assert [str(each.forward_path) for each in block.envelope.recipients] == ["bob@example.org"]


def test_a_file_without_an_envelope_is_no_entry(spool: Spool) -> None:
    spool.path(State.NEW, ID).write_bytes(b"From: x\r\n")
    with pytest.raises(FormatError):
        spool.open(State.NEW, ID)


def test_entries_come_in_order_of_arrival_and_nothing_else_counts(spool: Spool) -> None:
    later = new_entry_id(datetime.now(UTC))
    for name in (later, derived_id(ID, "report"), ID, f"{ID}.retry", f"{ID}.txt", ".hidden"):
        (spool.folder(State.DEFERRED) / name).touch()
    assert spool.entries(State.DEFERRED) == sorted([ID, derived_id(ID, "report"), later])


def test_an_entry_is_held_with_its_reason(spool: Spool) -> None:
    spool.path(State.NEW, ID).write_bytes(ENTRY)
    spool.hold(State.NEW, ID, "because \ud800")
    assert spool.path(State.HOLD, ID).read_bytes() == ENTRY
    assert spool.reason(ID) == "because \\ud800"
    assert spool.entries(State.NEW) == []


def test_an_entry_that_is_gone_cannot_be_held(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.hold(State.NEW, ID, "because")


@pytest.mark.parametrize("name", [".x", "x.tmp", "x.part", ".x.swp", "x.swp", "x~", ".tmp"])
def test_unfinished_work_of_others_is_left_alone(spool: Spool, name: str) -> None:
    (spool.root / name).touch()
    assert is_left_alone(name)
    assert list(spool.dropped()) == []


def test_what_is_dropped_is_every_visible_name_that_is_no_folder(spool: Spool) -> None:
    (spool.root / "a.eml").touch()
    (spool.root / "b").symlink_to("a.eml")
    (spool.root / "to-the-folder").symlink_to("new")
    os.mkfifo(spool.root / "c")
    assert {each.name for each in spool.dropped()} == {"a.eml", "b", "to-the-folder", "c"}


def test_a_file_that_was_taken_back_cannot_be_claimed_and_leaves_no_claim(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.claim(spool.root / "gone", ID)
    assert list(spool.tmp.iterdir()) == []


def test_a_claim_is_found_again_and_an_empty_one_is_removed(spool: Spool) -> None:
    (spool.root / "a").touch()
    claim = spool.claim(spool.root / "a", ID)
    (spool.tmp / f"{derived_id(ID, 'empty')}.claim").mkdir()
    assert spool.claims() == [claim]
    assert len(list(spool.tmp.iterdir())) == 1
    spool.finish_claim(claim)
    assert list(spool.tmp.iterdir()) == []


@pytest.mark.parametrize("name", [b"a.eml", b"two words", b"caf\xc3\xa9", b"\xff\xfe", b"new\nline", b"a" * 255, b"-"])
def test_a_file_of_any_name_is_set_aside_with_its_reason(spool: Spool, name: bytes) -> None:
    place = set_aside(spool, name, b"octets")
    assert place.read_bytes() == b"octets"
    assert reason_of(place).startswith("reason of")
    assert (os.fsencode(place.name) == name) == (len(name) <= MAX_BAD_NAME)
    assert list(spool.tmp.iterdir()) == []


def test_a_second_bad_file_of_the_same_name_gets_another(spool: Spool) -> None:
    places = [set_aside(spool, "a.eml", b"octets %d" % number) for number in range(3)]
    assert [place.read_bytes() for place in places] == [b"octets 0", b"octets 1", b"octets 2"]
    assert len({place.name for place in places}) == 3
    assert {place.suffix for place in places} == {".eml"}


@pytest.mark.parametrize("names", [("a", "a.txt"), ("a.txt", "a"), ("a", "a.txt", "a.txt.txt"), ("a.txt.txt", "a.txt")])
def test_no_reason_is_written_over_a_bad_file_nor_a_file_over_a_reason(spool: Spool, names: tuple[str, ...]) -> None:
    places = {name: set_aside(spool, name, name.encode()) for name in names}
    for name, place in places.items():
        assert place.read_bytes() == name.encode()
        assert reason_of(place) == f"reason of {name}\n"


def test_a_broken_link_is_not_written_through(spool: Spool) -> None:
    (spool.bad / "a").symlink_to("nowhere")
    assert set_aside(spool, "a", b"octets").name != "a"
    assert (spool.bad / "a").is_symlink()


def test_the_drafts_of_dead_processes_are_swept(spool: Spool) -> None:
    child = _dead_process()
    for name in (f"{ID}.{child}", f"{ID}-report.{child}", f"{ID}.{os.getpid()}", "batch.json", f"{ID}.claim", "other"):
        (spool.tmp / name).touch()
    assert spool.sweep_drafts() == 2
    left = {f"{ID}.{os.getpid()}", "batch.json", f"{ID}.claim", "other"}
    assert {path.name for path in spool.tmp.iterdir()} == left


def _dead_process() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    return pid


@pytest.mark.parametrize("octets", [100, READ_AHEAD - 1, READ_AHEAD, READ_AHEAD + 1, 200_000])
@pytest.mark.parametrize("in_memory", [True, False])
def test_an_entry_of_any_size_is_opened_at_its_message(spool: Spool, octets: int, in_memory: bool) -> None:
    block = b"X-Sender: <>\r\nX-Receiver: <alice@example.org>\r\nX-EndOfInjectedXHeaders: 0\r\n"
    message = b"x" * (octets - len(block))
    spool.path(State.NEW, ID).write_bytes(block + message)
    file, found = spool.open(State.NEW, ID, in_memory=in_memory)
    with file:
        assert found.length == len(block)
        assert file.read() == message
