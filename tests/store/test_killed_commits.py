"""Commits killed at every step: whole or absent; acknowledged means present; nothing left but what a sweep removes."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from mailsrv.model.address import Mailbox
from mailsrv.model.identity import EntryId, derived_id, new_entry_id
from mailsrv.store import durable
from mailsrv.store.durable import SPILL_OCTETS, Outcome
from mailsrv.store.groupcommit import GroupCommit
from mailsrv.store.ledger import Kind, Ledger, Reader, line
from mailsrv.store.lines import put_line
from mailsrv.store.maildir import Maildir
from mailsrv.store.maildrop import LOCK_NAME, Maildrop
from mailsrv.store.spool import Spool, State
from tests import killing
from tests.turns import Loop

ID: Final = new_entry_id(datetime.now(UTC))
SMALL: Final = b"a small message\r\n"
BIG: Final = b"a line of a message that does not wait in memory\r\n" * (SPILL_OCTETS // 40)


def ids(count: int) -> list[EntryId]:
    return [derived_id(ID, "abcdefgh"[number]) for number in range(count)]


def content_of(number: int) -> bytes:
    return BIG if number == 0 else SMALL * (number + 1)


def make_spool(place: Path) -> None:
    Spool(place / "spool").create_folders()


def commit(place: Path, count: int) -> None:
    """Commit a batch; a folder `ack-N` is the 250 of message N."""
    spool = Spool(place / "spool")
    batch = [(spool.draft(entry_id), spool.path(State.NEW, entry_id)) for entry_id in ids(count)]
    for number, (draft, _) in enumerate(batch):
        for start in range(0, len(content_of(number)), 100_000):
            draft.write(content_of(number)[start : start + 100_000])
    for number, outcome in enumerate(durable.publish(batch)):
        assert outcome is None
        (place / f"ack-{number}").mkdir()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_killed_spool_commit_leaves_each_message_whole_or_absent(tmp_path: Path, count: int) -> None:
    for place in killing.deaths(tmp_path, make_spool, partial(commit, count=count)):
        spool = Spool(place / "spool")
        spool.sweep_drafts()
        assert list(spool.tmp.iterdir()) == []
        for number, entry_id in enumerate(ids(count)):
            path = spool.path(State.NEW, entry_id)
            if path.exists():
                assert path.read_bytes() == content_of(number)
            else:
                assert not (place / f"ack-{number}").exists()
    assert (place / f"ack-{count - 1}").exists()


def test_a_killed_group_commit_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    def work(place: Path) -> None:
        spool, loop, told = Spool(place / "spool"), Loop(), list[int]()

        def acknowledge(number: int, outcome: Outcome) -> None:
            assert outcome is None
            (place / f"ack-{number}").mkdir()
            told.append(number)

        commits = GroupCommit(loop, Ledger(place / "ledger", "smtp", 30), most=2)
        for number, entry_id in enumerate(ids(3)):
            draft = spool.draft(entry_id)
            draft.write(content_of(number))
            note = line(Kind.ACCEPTED, entry_id)
            commits.submit(draft, spool.path(State.NEW, entry_id), note, partial(acknowledge, number))
        loop.run_until(lambda: len(told) == 3)
        commits.stop()

    for place in killing.deaths(tmp_path, make_spool, work):
        spool = Spool(place / "spool")
        spool.sweep_drafts()
        assert list(spool.tmp.iterdir()) == []
        for number, entry_id in enumerate(ids(3)):
            path = spool.path(State.NEW, entry_id)
            assert not path.exists() or path.read_bytes() == content_of(number)
            assert path.exists() or not (place / f"ack-{number}").exists()
        noted = {each["id"] for each in Reader(place / "ledger").read()}
        assert all(spool.path(State.NEW, EntryId(entry_id)).exists() for entry_id in noted)
        acknowledged = {entry_id for number, entry_id in enumerate(ids(3)) if (place / f"ack-{number}").exists()}
        assert acknowledged <= noted


def test_the_drafts_of_a_living_process_are_not_swept(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.create_folders()
    draft = spool.draft(ID)
    draft.write(SMALL)
    draft.flush()
    assert spool.sweep_drafts() == 0
    assert draft.path.exists()
    draft.abort()


def test_a_killed_edit_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    old = "# people\nalice@example.org $argon2id$old\n"
    new = "# people\nalice@example.org $argon2id$new\n"

    def work(place: Path) -> None:
        put_line(place / "accounts", Mailbox("alice", "example.org"), "alice@example.org $argon2id$new")

    for place in killing.deaths(tmp_path, lambda place: (place / "accounts").write_text(old), work):
        assert (place / "accounts").read_text() in (old, new)
        work(place)
        assert (place / "accounts").read_text() == new
        assert {path.name for path in place.iterdir()} == {"accounts", ".accounts.lock"}


def test_a_killed_update_removes_only_what_was_marked(tmp_path: Path) -> None:
    names = [f"{number}.unique.mailsrv,S=6,W=7" for number in range(5)]
    marked = frozenset({0, 2, 4})

    def prepare(place: Path) -> None:
        Maildir(place).create()
        for number, name in enumerate(names):
            path = place / "cur" / f"{name}:2,S" if number == 4 else place / "new" / name
            path.write_bytes(f"mail{number}\n".encode())

    def update(place: Path) -> None:
        maildrop = Maildrop(place)
        maildrop.remove(marked)
        (place / "ack").mkdir()

    for place in killing.deaths(tmp_path, prepare, update):
        left = {path.read_bytes() for folder in ("new", "cur") for path in (place / folder).iterdir()}
        kept = {f"mail{number}\n".encode() for number in range(5) if number not in marked}
        assert kept <= left <= kept | {f"mail{number}\n".encode() for number in marked}
        assert left == kept or not (place / "ack").exists()
        maildrop = Maildrop(place)  # the lock went with the process
        maildrop.remove(frozenset(range(len(maildrop.listing.octets))))
        maildrop.close()
        assert [path.name for path in place.rglob("*") if path.is_file()] == [LOCK_NAME]
