"""The killer itself: a sweep that hooks nothing would prove nothing."""

import os
from pathlib import Path

import pytest

from mailsrv.store import durable
from mailsrv.store.durable import Draft
from tests import killing


def test_every_call_that_changes_files_is_hooked_through_pathlib_too(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "folder").mkdir()
        fd = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x")
        os.fsync(fd)
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "c").hardlink_to(tmp_path / "b")
        (tmp_path / "c").replace(tmp_path / "d")
        (tmp_path / "b").unlink()
        (tmp_path / "folder").rmdir()

    names = [call.name for call in killing.calls_of(work)]
    assert names == ["mkdir", "open", "write", "fsync", "rename", "link", "replace", "unlink", "rmdir"]


@pytest.mark.parametrize(("is_ordered", "calls"), [(False, ["syncfs"]), (True, ["write_out"] * durable.SYNCFS_FROM)])
def test_what_a_batch_waits_for_is_hooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ordered: bool, calls: list[str]
) -> None:
    monkeypatch.setattr(durable, "is_ordered", lambda _fd: is_ordered)
    monkeypatch.setattr(durable, "has_honest_syncfs", lambda _fd: True)

    def work() -> None:
        drafts = [Draft(tmp_path / str(number)) for number in range(durable.SYNCFS_FROM)]
        durable.settle(drafts)

    assert [call.name for call in killing.calls_of(work) if call.name in killing.SYNCS] == calls


def test_work_dies_before_each_of_its_calls_in_turn_and_then_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "is_ordered", lambda _fd: False)

    def work(place: Path) -> None:
        durable.write_file(place / "file", b"octets")

    places = list(killing.deaths(tmp_path, lambda _place: None, work))
    # open, write, fsync, rename, fsync of the folder; then nothing dies
    assert len(places) == 6
    assert [(place / "file").exists() for place in places] == [False] * 4 + [True] * 2
    assert (places[1] / ".file.tmp").read_bytes() == b"oct"  # a torn write


def test_a_child_that_fails_fails_the_test(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ValueError("a fault")

    with pytest.raises(AssertionError):
        killing.run(work)
    assert "a fault" in capfd.readouterr().err
