"""Expiry: what has lain here for long enough is removed, and nothing else; real mailboxes, a clock that is told."""

import logging
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from mailsrv.settings import Pop3
from mailsrv.store.maildrop import Maildrop
from mailsrv.work.expiry import DAY, Expiry
from mailsrv.work.routing import Directory
from tests.work.instance import accept, config_of, deliver, letters, maildir_of, make

DAYS = 30


class Swept:
    """An instance with a message for alice, and its expiry; `counts` is what was noted."""

    def __init__(self, root: Path) -> None:
        make(root)
        self.config = config_of(root, pop3=Pop3(expire_days=DAYS))
        self.counts: Counter[str] = Counter()
        self.expiry = Expiry(
            self.config, Directory(self.config), lambda what, number: self.counts.update({what: number})
        )
        accept(self.config, "alice@example.org")
        deliver(self.config)

    def sweep_in(self, days: float) -> None:
        self.expiry.sweep(time.time() + days * DAY)


@pytest.fixture
def swept(tmp_path: Path) -> Swept:
    return Swept(tmp_path)


def test_a_message_is_removed_after_its_days_and_not_before_and_that_is_logged(
    swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    swept.sweep_in(DAYS - 0.01)
    assert len(letters(swept.config, "alice")) == 1
    assert swept.counts == {"expiry_sweeps": 1}
    swept.sweep_in(DAYS + 0.01)
    assert letters(swept.config, "alice") == []
    assert swept.counts["expired"] == 1
    assert "expired: 1 messages of alice@example.org, older than 30 days" in caplog.text


def test_what_was_brought_from_elsewhere_counts_from_when_it_came(swept: Swept) -> None:
    path = maildir_of(swept.config, "alice") / "cur" / "1000000000.old:2,S"
    path.write_bytes(b"Subject: old\n\nold\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    swept.sweep_in(DAYS - 0.01)
    assert path.exists()
    swept.sweep_in(DAYS + 0.01)
    assert not path.exists()


def test_a_mailbox_in_use_is_left_for_the_next_sweep(swept: Swept) -> None:
    maildrop = Maildrop(maildir_of(swept.config, "alice"))
    swept.sweep_in(DAYS + 1)
    assert len(letters(swept.config, "alice")) == 1
    maildrop.close()
    swept.sweep_in(DAYS + 1)
    assert letters(swept.config, "alice") == []


def test_a_mailbox_that_cannot_be_swept_is_told_and_the_others_are_swept(swept: Swept) -> None:
    accept(swept.config, "bob@example.org")
    deliver(swept.config)
    box = maildir_of(swept.config, "alice")
    for path in (box / "cur").iterdir():
        path.unlink()
    (box / "cur").rmdir()
    (box / "cur").write_text("in the way")
    swept.sweep_in(DAYS + 1)
    (problem,) = swept.expiry.problems
    assert problem == "expiry: the mailbox of alice@example.org cannot be swept: Not a directory"
    assert letters(swept.config, "bob") == []
    assert swept.counts["expired"] == 1


def test_what_has_expired_is_told_also_where_something_else_cannot_be_removed(swept: Swept) -> None:
    (letter,) = (maildir_of(swept.config, "alice") / "new").iterdir()
    (maildir_of(swept.config, "alice") / "new" / "1.folder,S=2,W=3").mkdir()
    told: list[Path] = []
    expiry = Expiry(
        swept.config,
        Directory(swept.config),
        lambda what, number: swept.counts.update({what: number}),
        lambda _mailbox, path: told.append(path),
    )
    expiry.sweep(time.time() + (DAYS + 1) * DAY)
    assert told == [letter]
    assert swept.counts["expired"] == 1
    assert expiry.problems == ("expiry: the mailbox of alice@example.org cannot be swept: Is a directory",)


def test_nothing_is_removed_after_the_clock_has_leapt(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 400 * DAY)
    swept.expiry.sweep(time.time())
    assert len(letters(swept.config, "alice")) == 1
    assert "the clock has leapt" in swept.expiry.problems[0]


def test_without_days_no_sweep_is_ever_made(tmp_path: Path) -> None:
    config = make(tmp_path)
    expiry = Expiry(config, Directory(config), lambda _what, _number: None)
    expiry.start()
    assert not expiry._thread.is_alive()
