"""The power fails while mail is committed, on a real disk: what was acknowledged is there, and all that is, whole."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.store import filesystems
from mailsrv.store.durable import Outcome
from mailsrv.store.groupcommit import GroupCommit
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.spares import Stock
from mailsrv.store.spool import Spool, State
from tests import killing
from tests.disk import Disk, a_disk
from tests.turns import Loop

AT_ONCE = 12  # messages, as of so many sessions


@pytest.fixture(params=[True, False], ids=["with a journal", "without a journal"])
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    filesystems._has_journal.cache_clear()  # the device had another filesystem a moment ago
    with a_disk(has_journal=request.param) as disk:
        assert filesystems.promises_of(disk.place).is_ordered is request.param
        yield disk


class Committer:
    """Commits messages as `smtp` does, and retires every second one of them as `delivery` does, until it cannot."""

    def __init__(self, place: Path, told: int) -> None:
        """`told` is a descriptor for a line of each that was acknowledged, and of each before it is retired."""
        self._told = told
        self._loop = Loop()
        self._spool = Spool(place / "spool")
        self._spool.create_folders()
        self._stock = Stock(self._spool.spares.folder)
        self._acknowledged = 0
        self._has_failed = False
        self._commits = GroupCommit(self._loop, Ledger(place / "ledger", "smtp", 30), self._stock)

    def run(self) -> None:
        for _ in range(AT_ONCE):
            self._submit()
        self._loop.run_until(lambda: self._has_failed)

    def _submit(self) -> None:
        entry_id = new_entry_id(datetime.now(UTC))
        draft = self._spool.draft(entry_id, self._stock)
        try:
            draft.write(content_of(entry_id))
        except OSError:
            self._has_failed = True
            return
        final = self._spool.path(State.NEW, entry_id)
        self._commits.submit(draft, final, line(Kind.ACCEPTED, entry_id), partial(self._done, entry_id))

    def _done(self, entry_id: EntryId, outcome: Outcome) -> None:
        if outcome is not None:
            self._has_failed = True
            return
        self._tell("acknowledged", entry_id)
        self._acknowledged += 1
        if self._acknowledged % 2:
            self._tell("retired", entry_id)
            self._spool.spares.count()
            self._spool.spares.give(self._spool.path(State.NEW, entry_id))
        self._submit()

    def _tell(self, what: str, entry_id: EntryId) -> None:
        os.write(self._told, f"{what} {entry_id}\n".encode())


def content_of(entry_id: EntryId) -> bytes:
    """Of its own for each: from one line to 300 KB, which is more than waits in memory."""
    lines = [1, 3, 50, 200, 15_000][int(entry_id[-1], 36) % 5]
    return f"{entry_id}\r\n".encode() * lines


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7])
def test_the_power_fails_while_mail_is_committed(disk: Disk, seconds: float) -> None:
    reading, writing = os.pipe()
    pid = killing.start(lambda: Committer(disk.place, writing).run())
    os.close(writing)
    with open(reading) as told:
        first = told.readline()
        time.sleep(seconds)  # at any instant
        disk.lose_power()
        lines = [first, *told]
    os.waitpid(pid, 0)
    disk.start_again()
    acknowledged, retired = (
        {EntryId(each.split()[1]) for each in lines if each.startswith(what)} for what in ("acknowledged", "retired")
    )
    there = {EntryId(name) for name in os.listdir(disk.place / "spool" / "new")}
    assert acknowledged
    assert acknowledged - retired <= there
    for entry_id in there:
        assert (disk.place / "spool" / "new" / entry_id).read_bytes() == content_of(entry_id)
