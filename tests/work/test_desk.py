"""How a desk learns what waits: by its folder, whatever the clock, the disk and other people do to it."""

import os
import time
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.store.spool import Spool, State
from mailsrv.work import desk
from mailsrv.work.decide import Decider
from mailsrv.work.routing import Directory
from tests.work.instance import accept, ledger_of, letters, make, unfinished


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make(tmp_path)


def decider_of(config: Config) -> Decider:
    return Decider(config, Spool(config.spool), Directory(config), ledger_of(config), lambda _in_hand: None)


def test_what_comes_in_the_same_tick_of_the_clock_as_a_look_is_seen_by_the_next_look(config: Config) -> None:
    decider = decider_of(config)
    decider.recover()
    spool = Spool(config.spool)
    folder = spool.folder(State.DEFERRED)
    os.utime(folder)
    before = folder.stat()
    decider.relearn()
    entry_id = accept(config, "bob@example.org")
    spool.path(State.NEW, entry_id).rename(spool.path(State.DEFERRED, entry_id))
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    decider.relearn()
    decider.decide()
    assert len(letters(config, "bob")) == 1


def test_a_folder_that_changes_all_the_time_and_is_slow_to_list_is_let_be_between(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    decider = decider_of(config)
    decider.recover()
    listed: list[State] = []

    def entries(_self: Spool, state: State) -> list[EntryId]:
        listed.append(state)
        time.sleep(0.03)
        return []

    monkeypatch.setattr(Spool, "entries", entries)
    start = time.monotonic()
    while time.monotonic() - start < 0.5:
        decider.relearn()
    assert len(listed) == 1
    while len(listed) < 2:
        decider.relearn()


def test_a_sidecar_that_cannot_be_read_keeps_back_its_own_entry_only_and_not_for_good(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "FAULT_PAUSE", 0.0)
    spool = Spool(config.spool)
    for name in ("bob", "carol"):
        entry_id = accept(config, f"{name}@example.org")
        spool.path(State.NEW, entry_id).rename(spool.path(State.DEFERRED, entry_id))
        if name == "bob":
            spool.retry_path(entry_id).mkdir()  # a fault that also root meets
            broken = entry_id
    decider = decider_of(config)
    decider.recover()
    for _ in range(2):
        decider.decide()
    assert (len(letters(config, "bob")), len(letters(config, "carol"))) == (0, 1)
    assert spool.entries(State.DEFERRED) == [broken]
    spool.retry_path(broken).rmdir()
    decider.decide()
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []
