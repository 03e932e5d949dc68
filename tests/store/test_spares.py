"""Spare files: the file of a decided entry is overwritten by the next one, and never seen as what it was or half is."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from mailsrv.model.identity import EntryId, derived_id, new_entry_id
from mailsrv.store import durable
from mailsrv.store.spares import MOST_OCTETS, MOST_SPARES, Spares, Stock
from mailsrv.store.spool import Spool, State
from tests import killing

ID: Final = new_entry_id(datetime.now(UTC))
OLD: Final = b"a decided message that was longer than the next one\r\n"
NEW: Final = b"the next message\r\n"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return spool_with_spare(tmp_path)


def spool_with_spare(place: Path) -> Spool:
    """A spool with a decided entry, whose file was kept."""
    spool = Spool(place / "spool")
    spool.create_folders()
    spool.spares.count()
    spool.path(State.NEW, ID).write_bytes(OLD)
    assert spool.spares.give(spool.path(State.NEW, ID))
    assert spool.entries(State.NEW) == []
    return spool


def stocked(spool: Spool) -> Stock:
    stock = Stock(spool.spares.folder)
    stock.add(stock.look(1))
    return stock


def others() -> Iterator[EntryId]:
    return (derived_id(ID, letter) for letter in "abc")


def publish(spool: Spool, stock: Stock, entry_id: EntryId, octets: bytes) -> Path:
    draft = spool.draft(entry_id, stock)
    draft.write(octets)
    final = spool.path(State.NEW, entry_id)
    assert durable.publish([(draft, final)]) == [None]
    return final


@pytest.mark.parametrize("octets", [NEW, OLD, OLD * 10_000, b""])
def test_an_entry_written_into_a_spare_file_is_what_it_would_be_in_a_new_one(spool: Spool, octets: bytes) -> None:
    inode = (spool.spares.folder / ID).stat().st_ino
    final = publish(spool, stocked(spool), next(others()), octets)
    assert final.read_bytes() == octets
    assert final.stat().st_ino == inode
    assert os.listdir(spool.spares.folder) == []


def test_each_spare_file_is_used_once_and_then_new_ones_are_made(spool: Spool) -> None:
    stocks = [stocked(spool), stocked(spool)]  # of two processes that have seen the same
    finals = [
        publish(spool, stock, each, f"{each}\r\n".encode()) for stock, each in zip(stocks, others(), strict=False)
    ]
    assert [final.read_text().strip() for final in finals] == [final.name for final in finals]


def test_a_spare_file_is_not_taken_before_new_was_synced(spool: Spool) -> None:
    """It could be back as the entry that it was, after a power loss, with the octets of another."""
    stock = Stock(spool.spares.folder)
    seen = stock.look(1)
    publish(spool, stock, next(others()), NEW)
    assert os.listdir(spool.spares.folder) == seen == [ID]


def test_a_file_that_somebody_else_has_open_is_not_overwritten(spool: Spool) -> None:
    with (spool.spares.folder / ID).open("rb") as reader:
        assert publish(spool, stocked(spool), next(others()), NEW).read_bytes() == NEW
        assert reader.read() == OLD


def test_a_file_with_another_name_is_not_overwritten(spool: Spool, tmp_path: Path) -> None:
    """A backup made of hard links, say."""
    (tmp_path / "backup").hardlink_to(spool.spares.folder / ID)
    assert publish(spool, stocked(spool), next(others()), NEW).read_bytes() == NEW
    assert (tmp_path / "backup").read_bytes() == OLD


def test_large_files_and_files_with_two_names_are_removed_and_not_kept(spool: Spool, tmp_path: Path) -> None:
    large, linked, _ = (spool.path(State.NEW, each) for each in others())
    large.write_bytes(b"x" * (MOST_OCTETS + 1))
    linked.write_bytes(OLD)
    (tmp_path / "link").hardlink_to(linked)
    assert not spool.spares.give(large)
    assert not spool.spares.give(linked)


def test_no_more_are_kept_than_may_be(spool: Spool) -> None:
    for number in range(MOST_SPARES):
        (spool.spares.folder / f"file-{number}").touch()
    path = spool.path(State.NEW, next(others()))
    path.write_bytes(OLD)
    spares = Spares(spool.spares.folder)
    spares.count()
    assert not spares.give(path)


def test_spare_files_are_removed_once_none_has_come_for_a_while(spool: Spool) -> None:
    spool.spares.sweep()
    assert os.listdir(spool.spares.folder) == [ID]
    spool.spares.sweep()
    assert os.listdir(spool.spares.folder) == []
    assert publish(spool, stocked(spool), next(others()), NEW).read_bytes() == NEW


def test_a_writer_killed_at_any_step_leaves_the_entry_whole_or_absent(tmp_path: Path) -> None:
    def work(place: Path) -> None:
        spool = Spool(place / "spool")
        publish(spool, stocked(spool), next(others()), NEW)

    for place in killing.deaths(tmp_path, partial(spool_with_spare), work):
        spool = Spool(place / "spool")
        spool.sweep_drafts()
        assert list(spool.tmp.iterdir()) == []
        for entry_id in spool.entries(State.NEW):
            assert spool.path(State.NEW, entry_id).read_bytes() == NEW
