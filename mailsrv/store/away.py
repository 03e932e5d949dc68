"""Who is away: a file `away/ADDRESS` for each account that has its mail answered.

subject: Away until Monday
from: 2026-12-01
until: 2026-12-08
days: 7

I am away ...

All that stands before the empty line may be left out. `until` is the last day; for `days` nobody is answered twice.
Whom was answered, and when, is kept in the mailbox, as files in `mailsrv.answered` that are named for nobody to read.
"""

import datetime
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsrv.model.address import Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store import durable

ANSWERED_NAME: Final = "mailsrv.answered"
DEFAULT_DAYS: Final = 7
MAX_DAYS: Final = 365
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Away:
    """What is answered, and when; an empty subject is made from that of the message."""

    text: str
    subject: str = ""
    since: datetime.date | None = None
    until: datetime.date | None = None
    days: int = DEFAULT_DAYS

    def holds_on(self, day: datetime.date) -> bool:
        """Whether mail is answered on this day."""
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


def parse_away(path: Path, text: str) -> Away:
    """The meaning of a file in `away`; raises Mistake."""
    head, separator, body = text.partition("\n\n")
    if not separator:
        head, body = "", text
    if not body.strip():
        raise Mistake(path, 0, "expected a text, behind an empty line where there are settings before it")
    facts: dict[str, str] = {}
    for number, line in enumerate(head.splitlines(), 1):
        if line.startswith("#"):
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or name.lower() not in {"subject", "from", "until", "days"} or name.lower() in facts:
            raise Mistake(
                path, number, f"expected subject, from, until or days, each once, and a colon (found {line!r})"
            )
        facts[name.lower()] = value
        _check(path, number, name.lower(), value)
    since, until = (datetime.date.fromisoformat(facts[name]) if name in facts else None for name in ("from", "until"))
    return Away(body.strip() + "\n", facts.get("subject", ""), since, until, int(facts.get("days", DEFAULT_DAYS)))


def _check(path: Path, number: int, name: str, value: str) -> None:
    if name == "days" and not (value.isdecimal() and 1 <= int(value) <= MAX_DAYS):
        raise Mistake(path, number, f"expected a number of days from 1 to {MAX_DAYS} (found {value!r})")
    if name == "subject" and not value.isprintable():
        raise Mistake(path, number, "expected a subject in characters that can be seen")
    if name in {"from", "until"}:
        try:
            datetime.date.fromisoformat(value)
        except ValueError as error:
            raise Mistake(path, number, f"expected a day such as 2026-12-01 (found {value!r})") from error


def render_away(away: Away) -> str:
    """The file that says this."""
    facts = {"subject": away.subject, "from": away.since, "until": away.until, "days": away.days}
    head = "".join(f"{name}: {value}\n" for name, value in facts.items() if value)
    return f"{head}\n{away.text.strip()}\n"


# --- whom was answered -----------------------------------------------------------------------------


class Answered:
    """Whom an account has answered, in its Maildir `box`: a file for each, of the time at which it was."""

    def __init__(self, box: Path) -> None:
        self._folder = box / ANSWERED_NAME

    def path(self, sender: Mailbox) -> Path:
        """The file that stands for a sender."""
        return self._folder / hashlib.sha256(sender.key.encode()).hexdigest()[:32]

    def is_recent(self, sender: Mailbox, days: int) -> bool:
        """Whether the sender was answered in the last so many days; raises OSError."""
        try:
            age = time.time() - self.path(sender).stat().st_mtime
        except FileNotFoundError:
            return False
        return -_DAY < age < days * _DAY  # one that lies further ahead was written by a clock that was wrong

    def prepare(self, days: int) -> None:
        """Make the folder, or take out what is too old to matter; raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = time.time() - days * _DAY
        with os.scandir(self._folder) as found:
            durable.forget([Path(each.path) for each in found if each.stat().st_mtime < oldest])
