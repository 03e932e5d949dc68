"""Who is away: the file, and whom it has answered."""

import os
import time
from datetime import date
from pathlib import Path

import pytest

from mailsrv.model.address import Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store.away import Answered, Away, parse_away, render_away

FILE = Path("away")
EVE = Mailbox("eve", "example.net")


def test_a_text_alone_is_enough() -> None:
    assert parse_away(FILE, "I am away.\nBack on Monday.\n") == Away("I am away.\nBack on Monday.\n")


def test_settings_stand_before_an_empty_line() -> None:
    away = parse_away(
        FILE, "# mine\nSubject: Gone: fishing\nfrom: 2026-12-01\nUNTIL: 2026-12-08\ndays: 3\n\nHello.\n\nBye."
    )
    assert away == Away("Hello.\n\nBye.\n", "Gone: fishing", date(2026, 12, 1), date(2026, 12, 8), 3)
    assert parse_away(FILE, render_away(away)) == away
    assert parse_away(FILE, render_away(Away("x: y\n"))) == Away("x: y\n")


@pytest.mark.parametrize(
    ("day", "holds"), [("2026-11-30", False), ("2026-12-01", True), ("2026-12-08", True), ("2026-12-09", False)]
)
def test_the_first_and_the_last_day_count(day: str, holds: bool) -> None:
    away = parse_away(FILE, "from: 2026-12-01\nuntil: 2026-12-08\n\nx\n")
    assert away.holds_on(date.fromisoformat(day)) == holds
    assert parse_away(FILE, "x").holds_on(date.fromisoformat(day))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 0),
        ("subject: x\n\n\n", 0),
        ("subjekt: x\n\ny\n", 1),
        ("subject: x\nsubject: y\n\nz\n", 2),
        ("days: 0\n\nx\n", 1),
        ("days: many\n\nx\n", 1),
        ("from: tomorrow\n\nx\n", 1),
        ("subject: a\x07b\n\nx\n", 1),
        ("# c\nno colon\n\nx\n", 2),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Mistake) as caught:
        parse_away(FILE, text)
    assert caught.value.line == line


def test_nobody_is_answered_twice_in_so_many_days(tmp_path: Path) -> None:
    answered = Answered(tmp_path)
    assert not answered.is_recent(EVE, 7)
    answered.prepare(7)
    answered.path(EVE).write_bytes(b"")
    assert answered.is_recent(Mailbox("EVE", "Example.net"), 7)
    assert not answered.is_recent(Mailbox("eve", "example.com"), 7)
    for days, is_recent in ((6.9, True), (7.1, False), (-0.5, True), (-2.0, False)):
        moment = time.time() - days * 86_400
        os.utime(answered.path(EVE), (moment, moment))
        assert answered.is_recent(EVE, 7) == is_recent, days


def test_what_is_too_old_to_matter_is_taken_out(tmp_path: Path) -> None:
    answered = Answered(tmp_path)
    answered.prepare(7)
    for name, days in (("old", 8), ("new", 6)):
        path = answered.path(Mailbox(name, "example.net"))
        path.write_bytes(b"")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    answered.prepare(7)
    assert not answered.path(Mailbox("old", "example.net")).exists()
    assert answered.path(Mailbox("new", "example.net")).exists()
