"""Group commit: every session is told of its own draft, and what comes together is synced together."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsrv.store.durable import Draft, Outcome
from mailsrv.store.groupcommit import GroupCommit
from mailsrv.store.ledger import Kind, Ledger, Reader, line


class Inbox:
    """Where the submitters live: takes what the thread tells, one call a group."""

    def __init__(self, expected: int) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.groups = 0
        self._expected = expected
        self.complete = threading.Event()

    def notify(self, tell: Callable[[], None]) -> None:
        self.groups += 1
        tell()
        if len(self.outcomes) == self._expected:
            self.complete.set()

    def done(self, number: int) -> Callable[[Outcome], None]:
        return lambda outcome: self.outcomes.update({number: outcome})


def submit(commits: GroupCommit, inbox: Inbox, number: int, draft: Path, final: Path) -> None:
    new = Draft(draft)
    new.write(b"octets %d" % number)
    commits.submit(new, final, line(Kind.ACCEPTED, str(number)), inbox.done(number))


def test_each_submitter_is_told_its_own_outcome(tmp_path: Path) -> None:
    inbox = Inbox(50)
    commits = GroupCommit(inbox.notify, Ledger(tmp_path / "ledger", "smtp", 30))
    for number in range(50):
        folder = tmp_path / "gone" if number == 7 else tmp_path
        submit(commits, inbox, number, folder / f"draft-{number}", tmp_path / f"{number}")
    assert inbox.complete.wait(30)
    commits.stop()
    assert {number for number, outcome in inbox.outcomes.items() if outcome is not None} == {7}
    assert len([path for path in tmp_path.iterdir() if path.is_file()]) == 49
    noted = {each["id"] for each in Reader(tmp_path / "ledger").read()}
    assert noted == {str(number) for number in range(50) if number != 7}
    assert (tmp_path / "49").read_bytes() == b"octets 49"


def test_what_waits_while_a_group_is_told_goes_together(tmp_path: Path) -> None:
    inbox = Inbox(21)
    first_told, go_on = threading.Event(), threading.Event()

    def notify(tell: Callable[[], None]) -> None:
        first_told.set()
        assert go_on.wait(30)
        inbox.notify(tell)

    commits = GroupCommit(notify, Ledger(tmp_path / "ledger", "smtp", 30), most=10)
    submit(commits, inbox, 0, tmp_path / "draft", tmp_path / "0")
    assert first_told.wait(30)
    for number in range(1, 21):
        submit(commits, inbox, number, tmp_path / f"draft-{number}", tmp_path / f"{number}")
    go_on.set()
    assert inbox.complete.wait(30)
    commits.stop()
    assert inbox.groups == 3  # the first one, then ten and ten


def test_stopping_finishes_what_was_submitted(tmp_path: Path) -> None:
    inbox = Inbox(5)
    commits = GroupCommit(inbox.notify, Ledger(tmp_path / "ledger", "smtp", 30))
    assert commits.is_alive()
    for number in range(5):
        submit(commits, inbox, number, tmp_path / f"draft-{number}", tmp_path / f"{number}")
    commits.stop()
    assert inbox.complete.is_set()
    assert not commits.is_alive()


def test_what_the_ledger_could_not_take_is_written_without_waiting_for_more_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsrv.store.groupcommit.LEDGER_PAUSE", 0.01)
    folder = tmp_path / "ledger"
    folder.write_text("in the way")
    inbox, books = Inbox(1), Ledger(folder, "smtp", 30)
    commits = GroupCommit(inbox.notify, books)
    submit(commits, inbox, 1, tmp_path / "draft", tmp_path / "1")
    assert inbox.complete.wait(30)
    assert inbox.outcomes == {1: None}  # mail flows all the same
    assert books.problem
    folder.unlink()
    deadline = time.monotonic() + 30
    while books.problem and time.monotonic() < deadline:
        time.sleep(0.01)
    commits.stop()
    assert [each["id"] for each in Reader(folder).read()] == ["1"]
