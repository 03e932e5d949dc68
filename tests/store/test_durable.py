"""The one primitive: octets, then name, then folder; and one outcome for each item of a batch."""

import errno
import os
import resource
from pathlib import Path

import pytest

from mailsrv.store import durable
from mailsrv.store.durable import SPILL_OCTETS, SYNCFS_FROM, Draft, Move
from tests import killing
from tests.killing import Call


def written(path: Path, octets: bytes = b"octets") -> Draft:
    draft = Draft(path)
    draft.write(octets)
    return draft


def batch_in(folder: Path, count: int) -> list[tuple[Draft, Path]]:
    """Drafts in `tmp`, to be published in `new`."""
    for name in ("tmp", "new"):
        (folder / name).mkdir(exist_ok=True)
    return [(written(folder / "tmp" / str(n), b"octets %d" % n), folder / "new" / str(n)) for n in range(count)]


def index_of(calls: list[Call], name: str, path: Path) -> int:
    return next(index for index, call in enumerate(calls) if call.name == name and str(path) in call.paths)


# --- order -----------------------------------------------------------------------------------------


@pytest.fixture
def unordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no journal kept the order of names."""
    monkeypatch.setattr(durable, "is_ordered", lambda _fd: False)
    monkeypatch.setattr(durable, "has_honest_syncfs", lambda _fd: True)


@pytest.mark.parametrize("count", [1, 2, SYNCFS_FROM + 2])
def test_where_a_journal_keeps_the_order_octets_are_written_out_before_the_name_and_only_the_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(durable, "is_ordered", lambda _fd: True)
    calls = killing.calls_of(lambda: durable.publish(batch_in(tmp_path, count)))
    names = [call.name for call in calls if call.name in (*killing.SYNCS, "write", "rename")]
    assert names == ["write"] * count + ["write_out"] * count + ["rename"] * count + ["fsync"]
    index_of(calls, "fsync", tmp_path / "new")


@pytest.mark.usefixtures("unordered")
@pytest.mark.parametrize("count", [1, 2])
def test_octets_are_synced_before_the_name_and_the_folder_after_it(tmp_path: Path, count: int) -> None:
    calls = killing.calls_of(lambda: durable.publish(batch_in(tmp_path, count)))
    folder_synced = index_of(calls, "fsync", tmp_path / "new")
    for number in range(count):
        draft = tmp_path / "tmp" / str(number)
        assert index_of(calls, "write", draft) < index_of(calls, "fsync", draft)
        assert index_of(calls, "fsync", draft) < index_of(calls, "rename", draft) < folder_synced
    assert [call.name for call in calls].count("fsync") == count + 1


@pytest.mark.usefixtures("unordered")
def test_all_of_a_batch_is_synced_before_the_first_name_appears(tmp_path: Path) -> None:
    count = SYNCFS_FROM + 2
    calls = killing.calls_of(lambda: durable.publish(batch_in(tmp_path, count)))
    names = [call.name for call in calls if call.name in ("write", "syncfs", "fsync", "rename")]
    assert names == ["write"] * count + ["syncfs"] + ["rename"] * count + ["fsync"]


def test_each_folder_is_synced_once(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    def work() -> None:
        batch = batch_in(tmp_path, 4)
        durable.publish(
            [(draft, tmp_path / "other" / path.name if path.name == "3" else path) for draft, path in batch]
        )

    synced = [call.paths for call in killing.calls_of(work) if call.name == "fsync"][-2:]
    assert synced == [(str(tmp_path / "new"),), (str(tmp_path / "other"),)]


def test_a_removal_is_synced_after_the_name_is_gone(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    calls = killing.calls_of(lambda: durable.remove([tmp_path / "a", tmp_path / "b", tmp_path / "gone"]))
    assert [call.name for call in calls] == ["unlink"] * 3 + ["open", "fsync"]
    assert list(tmp_path.iterdir()) == []


def test_a_volatile_write_waits_for_no_disk_but_is_whole(tmp_path: Path) -> None:
    calls = killing.calls_of(lambda: durable.write_volatile(tmp_path / "batch", b"octets"))
    assert [call.name for call in calls] == ["open", "write", "rename"]
    assert (tmp_path / "batch").read_bytes() == b"octets"


# --- outcomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, SYNCFS_FROM + 1])
def test_one_that_cannot_be_written_does_not_keep_the_others_back(tmp_path: Path, count: int) -> None:
    batch = batch_in(tmp_path, count)
    batch[1] = (written(tmp_path / "no such folder" / "draft"), batch[1][1])
    outcomes = durable.publish(batch)
    assert [outcome is None for outcome in outcomes] == [number != 1 for number in range(count)]
    assert isinstance(outcomes[1], FileNotFoundError)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [str(n) for n in range(count) if n != 1]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("count", [2, SYNCFS_FROM + 1])
def test_one_that_cannot_be_renamed_does_not_keep_the_others_back_and_is_aborted(tmp_path: Path, count: int) -> None:
    batch = batch_in(tmp_path, count)
    batch[0] = (batch[0][0], tmp_path / "no such folder" / "0")
    outcomes = durable.publish(batch)
    assert [outcome is None for outcome in outcomes] == [False] + [True] * (count - 1)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_draft_too_big_for_the_disk_fails_alone(tmp_path: Path) -> None:
    def work() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # EFBIG, as a full disk gives ENOSPC
        batch = batch_in(tmp_path, 3)
        batch[1][0].write(bytes(200_000))
        return " ".join(str(outcome and outcome.errno) for outcome in durable.publish(batch))

    assert killing.answer_of(work) == f"None {errno.EFBIG} None"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["0", "2"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_that_is_gone_promises_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    outcomes = durable.reveal([Move(tmp_path / "a", tmp_path / "gone" / "a"), Move(tmp_path / "b", tmp_path / "c")])
    assert all(isinstance(outcome, FileNotFoundError) for outcome in outcomes)
    assert (tmp_path / "a").exists()


def test_nothing_to_do_is_done() -> None:
    assert durable.publish([]) == durable.remove([]) == durable.forget([]) == []
    durable.raise_first([None, None])


def test_the_first_error_is_raised() -> None:
    first, second = OSError(1, "first"), OSError(2, "second")
    with pytest.raises(OSError, match="first"):
        durable.raise_first([None, first, second])


# --- drafts ----------------------------------------------------------------------------------------


def test_a_draft_that_a_crash_left_linked_to_a_message_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"delivered")
    os.link(tmp_path / "message", tmp_path / "draft")
    assert durable.publish([(written(tmp_path / "draft", b"another"), tmp_path / "final")]) == [None]
    assert (tmp_path / "message").read_bytes() == b"delivered"
    assert (tmp_path / "final").read_bytes() == b"another"


def test_a_draft_is_not_written_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"delivered")
    (tmp_path / "draft").symlink_to(tmp_path / "message")
    assert durable.publish([(written(tmp_path / "draft", b"another"), tmp_path / "final")]) == [None]
    assert (tmp_path / "message").read_bytes() == b"delivered"
    assert not (tmp_path / "final").is_symlink()


def test_a_draft_that_is_not_published_aborts_itself(tmp_path: Path) -> None:
    with Draft(tmp_path / "draft") as draft:
        draft.write(b"x" * (SPILL_OCTETS + 1))
        assert draft.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_published_draft_stays_when_its_context_ends(tmp_path: Path) -> None:
    with written(tmp_path / "draft") as draft:
        durable.publish([(draft, tmp_path / "final")])
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_draft_keeps_little_in_memory_and_knows_its_size(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "draft")
    for _ in range(10):
        draft.write(b"x" * (SPILL_OCTETS // 2))
    assert draft.path.stat().st_size >= 3 * SPILL_OCTETS
    assert durable.publish([(draft, tmp_path / "final")]) == [None]
    assert (tmp_path / "final").stat().st_size == draft.size == 5 * SPILL_OCTETS


def test_an_empty_draft_becomes_an_empty_file(tmp_path: Path) -> None:
    assert durable.publish([(Draft(tmp_path / "draft"), tmp_path / "final")]) == [None]
    assert (tmp_path / "final").read_bytes() == b""


def test_what_is_written_can_be_read_by_nobody_else(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "file", b"secret")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


# --- files -----------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a long old text")
    durable.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError):
        durable.write_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_second_name_replaces_what_stood_there(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"octets")
    (tmp_path / "link").write_bytes(b"old")
    assert durable.copy_name(tmp_path / "source", tmp_path / "link")
    assert (tmp_path / "link").samefile(tmp_path / "source")


def test_a_second_name_on_another_filesystem_is_told_to_be_impossible(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second filesystem here")
    (tmp_path / "source").write_bytes(b"octets")
    link = other / f"mailsrv-test-{os.getpid()}"
    assert not durable.copy_name(tmp_path / "source", link)
    assert not link.exists()


def test_a_second_name_in_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    with pytest.raises(FileNotFoundError):
        durable.copy_name(tmp_path / "source", tmp_path / "gone" / "link")


def test_what_is_noted_between_renames_and_syncs_is_told_which_renames_were_made(tmp_path: Path) -> None:
    (tmp_path / "draft").write_bytes(b"octets")
    notes = os.open(tmp_path / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told: list[list[bool]] = []

    def note(outcomes: list[durable.Outcome]) -> int:
        told.append([outcome is None for outcome in outcomes])
        assert (tmp_path / "final").exists()
        os.write(notes, b"a line\n")
        return notes

    moves = [Move(tmp_path / "draft", tmp_path / "final"), Move(tmp_path / "gone", tmp_path / "other")]
    outcomes = durable.reveal(moves, note)
    os.close(notes)
    assert told == [[True, False]]
    assert [outcome is None for outcome in outcomes] == [True, False]


def test_notes_that_cannot_be_synced_keep_back_no_mail(tmp_path: Path) -> None:
    (tmp_path / "draft").write_bytes(b"octets")
    reading, writing = os.pipe()
    outcomes = durable.reveal([Move(tmp_path / "draft", tmp_path / "final")], lambda _outcomes: writing)
    os.close(reading)
    os.close(writing)
    assert outcomes == [None]
