"""Opening maildrops beside the loop, and in it."""

import json
import os
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from mailsrv.model.address import Mailbox
from mailsrv.store.ledger import Kind, Ledger
from mailsrv.store.listings import NotListedError
from mailsrv.work import maildrops
from mailsrv.work.downloads import MOST_AT_ONCE, Downloads, form_of
from mailsrv.work.maildrops import Maildrops
from tests.work.instance import maildir_of, make

ALICE = Mailbox("alice", "example.org")


def test_a_mailbox_that_does_not_answer_is_told_for_as_long_as_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maildrops, "LATE_SECONDS", 0.0)
    opened = Maildrops(make(tmp_path), Mock())
    began, end = threading.Event(), threading.Event()

    def work() -> str:
        began.set()
        end.wait(60)
        return "done"

    with opened.workers:
        assert opened.late() == ""
        future = opened.submit(work)
        assert began.wait(60)
        assert opened.late() == "pop3: a mailbox has not answered for 0 s"
        end.set()
        assert future.result(60) == "done"
        assert opened.late() == ""


def test_what_was_open_and_has_not_changed_is_opened_again_without_listing(tmp_path: Path) -> None:
    config = make(tmp_path)
    box = maildir_of(config, "alice")
    opened = Maildrops(config, Mock())
    with pytest.raises(NotListedError):
        opened.reopen(ALICE)
    opened.open(ALICE).close()
    for folder in ("new", "cur"):
        os.utime(box / folder, (0, time.time() - 10))  # or it might change without telling another time
    first = opened.open(ALICE)
    first.close()
    again = opened.reopen(ALICE)
    assert again.listing is first.listing
    with pytest.raises(NotListedError):
        opened.reopen(ALICE)
    again.close()
    (box / "new").rename(box / "away")
    with pytest.raises(NotListedError):
        opened.reopen(ALICE)
    opened.open(ALICE).close()


def test_what_many_fetch_is_not_gathered_for_a_whole_second(tmp_path: Path) -> None:
    downloads = Downloads(Ledger(tmp_path / "books", "pop3", keep_days=1))
    form = form_of(Kind.FETCHED, ALICE, "127.0.0.1")
    for number in range(MOST_AT_ONCE):
        assert not (tmp_path / "books").exists()
        downloads.note(form, f"1.{number}.x")
    (path,) = (tmp_path / "books").glob("pop3-*.jsonl")
    assert len(path.read_bytes().splitlines()) == 1 + MOST_AT_ONCE


def test_the_lines_of_what_was_fetched_are_those_of_any_line(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    downloads = Downloads(Ledger(folder, "pop3", keep_days=1))
    before = time.time()
    names = {
        "1764000000.0123456789a-abcdefgh.mailsrv,S=1,W=2:2,S": "0123456789a-abcdefgh",
        '1764000000.M1P2."odd\\ \u00e9\udcff,S=3': '1764000000.M1P2."odd\\ \u00e9\udcff',
    }
    for name in names:
        downloads.note(form_of(Kind.FETCHED, ALICE, "127.0.0.1"), name)
    assert downloads.write() == ""
    (path,) = folder.glob("pop3-*.jsonl")
    lines = [json.loads(each) for each in path.read_bytes().splitlines()][1:]
    assert [line["id"] for line in lines] == list(names.values())
    for line in lines:
        assert before - 1 < line.pop("t") <= time.time()
        del line["id"]
        assert line == {"fate": "fetched", "to": ["alice@example.org"], "peer": "127.0.0.1"}
