"""Group commit: every session is told of its own draft, and what comes together is synced together."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsrv.store import durable
from mailsrv.store.durable import Draft, Outcome, Wait
from mailsrv.store.groupcommit import GroupCommit
from mailsrv.store.ledger import Kind, Ledger, Reader, line
from tests.turns import Loop


class Submitter:
    """Where the submitters live: its loop, and what each was told."""

    def __init__(self, folder: Path, *, most: int = 256, is_alone: bool = False) -> None:
        self.loop = Loop()
        self.outcomes: dict[int, Outcome] = {}
        self.ledger = Ledger(folder / "ledger", "smtp", 30)
        self.commits = GroupCommit(self.loop, self.ledger, most=most, is_alone=lambda: is_alone)

    def submit(self, number: int, draft: Path, final: Path) -> None:
        new = Draft(draft)
        new.write(b"octets %d" % number)
        note = line(Kind.ACCEPTED, str(number))
        self.commits.submit(new, final, note, lambda outcome: self.outcomes.update({number: outcome}))

    def finish(self, expected: int) -> None:
        self.loop.run_until(lambda: len(self.outcomes) == expected)
        self.commits.stop()


def syncs_of_groups(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """For each group that is settled, the thread that does it and the number of drafts."""
    seen: list[tuple[str, int]] = []
    real: Callable[..., Wait] = durable._group_wait

    def group_wait(drafts: list[Draft]) -> Wait:
        wait = real(drafts)

        def waited() -> list[Outcome]:
            seen.append((threading.current_thread().name, len(drafts)))
            return wait()

        return waited

    monkeypatch.setattr(durable, "_group_wait", group_wait)
    return seen


def test_each_submitter_is_told_its_own_outcome(tmp_path: Path) -> None:
    submitter = Submitter(tmp_path)
    for number in range(50):
        folder = tmp_path / "gone" if number == 7 else tmp_path
        submitter.submit(number, folder / f"draft-{number}", tmp_path / f"{number}")
    submitter.finish(50)
    assert {number for number, outcome in submitter.outcomes.items() if outcome is not None} == {7}
    assert len([path for path in tmp_path.iterdir() if path.is_file()]) == 49
    noted = {each["id"] for each in Reader(tmp_path / "ledger").read()}
    assert noted == {str(number) for number in range(50) if number != 7}
    assert (tmp_path / "49").read_bytes() == b"octets 49"


def test_what_is_submitted_in_one_turn_goes_together_and_nobody_waits_for_the_disk_in_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = syncs_of_groups(monkeypatch)
    submitter = Submitter(tmp_path, most=10)
    for number in range(25):
        submitter.submit(number, tmp_path / f"draft-{number}", tmp_path / f"{number}")
    submitter.finish(25)
    assert [number for _, number in seen] == [10, 10, 5]
    assert {thread for thread, _ in seen} == {"group-commit"}


def test_what_comes_while_a_group_is_synced_waits_and_goes_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = syncs_of_groups(monkeypatch)
    submitter = Submitter(tmp_path)
    submitter.submit(0, tmp_path / "draft-0", tmp_path / "0")
    submitter.loop.run_until(lambda: len(seen) == 1 or not submitter.commits._waits.empty())
    for number in range(1, 21):
        submitter.submit(number, tmp_path / f"draft-{number}", tmp_path / f"{number}")
    submitter.finish(21)
    assert [number for _, number in seen] == [1, 20]


def test_those_who_are_at_it_together_are_waited_for_and_who_does_not_come_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsrv.store.groupcommit.LONGEST_GATHERING", 0.2)
    seen = syncs_of_groups(monkeypatch)
    submitter = Submitter(tmp_path)

    def submit(number: int) -> None:
        submitter.submit(number, tmp_path / f"draft-{number}", tmp_path / f"{number}")

    submit(0)
    submitter.loop.run_until(lambda: len(seen) == 1 or not submitter.commits._waits.empty())
    submit(1)  # while the first group is under way: there are two
    submitter.loop.run_until(lambda: 0 in submitter.outcomes)
    submit(2)
    submitter.loop.run_until(lambda: len(submitter.outcomes) == 3)
    assert [number for _, number in seen] == [1, 2]
    submit(3)  # the other one is waited for
    began = time.monotonic()
    submitter.loop.run_until(lambda: 3 in submitter.outcomes)
    assert time.monotonic() - began >= 0.2
    submit(4)  # and now no more
    assert submitter.commits._gathering is None
    submitter.finish(5)
    assert [number for _, number in seen] == [1, 2, 1, 1]


def test_who_is_alone_waits_for_a_quick_disk_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = syncs_of_groups(monkeypatch)
    submitter = Submitter(tmp_path, is_alone=True)
    submitter.submit(1, tmp_path / "draft", tmp_path / "1")
    submitter.finish(1)
    assert seen == [("MainThread", 1)]


def test_who_is_alone_leaves_a_slow_disk_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsrv.store.groupcommit.QUICK", -1.0)
    seen = syncs_of_groups(monkeypatch)
    submitter = Submitter(tmp_path, is_alone=True)
    submitter.submit(1, tmp_path / "draft", tmp_path / "1")
    submitter.finish(1)
    assert seen == [("group-commit", 1)]


def test_without_its_thread_it_is_not_alive(tmp_path: Path) -> None:
    commits = Submitter(tmp_path).commits
    assert commits.is_alive()
    commits.stop()
    assert not commits.is_alive()


def test_one_session_that_cannot_be_told_keeps_no_other_from_being_told(tmp_path: Path) -> None:
    submitter = Submitter(tmp_path)
    draft = Draft(tmp_path / "draft")
    draft.write(b"octets")
    submitter.commits.submit(draft, tmp_path / "0", line(Kind.ACCEPTED, "0"), _fail)
    submitter.submit(1, tmp_path / "draft-1", tmp_path / "1")
    submitter.loop.run_until(lambda: submitter.outcomes == {1: None})
    submitter.submit(2, tmp_path / "draft-2", tmp_path / "2")
    submitter.finish(2)
    assert submitter.outcomes == {1: None, 2: None}


def test_after_a_fault_of_ours_it_is_not_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitter = Submitter(tmp_path)
    monkeypatch.setattr("mailsrv.store.groupcommit.publishing", lambda _batch: 1 / 0)
    submitter.submit(1, tmp_path / "draft", tmp_path / "1")
    with pytest.raises(ZeroDivisionError):
        submitter.finish(1)
    assert not submitter.commits.is_alive()
    submitter.commits.stop()


def test_what_the_ledger_could_not_take_is_written_when_it_is_asked_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.write_text("in the way")
    submitter = Submitter(tmp_path)
    submitter.submit(1, tmp_path / "draft", tmp_path / "1")
    submitter.finish(1)
    assert submitter.outcomes == {1: None}  # mail flows all the same
    assert submitter.commits.problem()
    folder.unlink()
    assert submitter.commits.problem() == ""
    assert [each["id"] for each in Reader(folder).read()] == ["1"]


def _fail(_outcome: Outcome) -> None:
    raise RuntimeError("a fault of ours")
