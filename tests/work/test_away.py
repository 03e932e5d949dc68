"""Out-of-office answers (RFC 3834): to people, once, and to nobody and nothing else."""

import email
import email.policy
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest

from mailsrv.config import Config
from tests import killing
from tests.work.instance import accept, break_mailbox, config_of, deliver, letters, make, names_in, unfinished

HEADER = (
    b"Received: x\r\nFrom: alice@example.org\r\nTo: Bob <bob@example.org>\r\nSubject: lunch\r\nMessage-ID: <1@x>\r\n"
)
LISTS = "[team@example.org]\nowner = carol@example.org\npost = anybody\nbob@example.org\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return absent(make(tmp_path, "info@example.org: bob@example.org\n", LISTS))


def absent(config: Config, text: str = "I am away.\n") -> Config:
    config.away.mkdir()
    (config.away / "bob@example.org").write_text(text, "utf-8")
    return config


def answers(config: Config, name: str = "alice") -> list[EmailMessage]:
    found = []
    for letter in letters(config, name):
        message = email.message_from_bytes(letter, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        found.append(message)
    return found


def write(
    config: Config, header: bytes = HEADER, to: str = "bob@example.org", sender: str = "alice@example.org"
) -> None:
    accept(config, to, sender=sender, content=header + b"\r\nHello.\r\n")
    deliver(config)


def test_a_person_who_writes_is_answered(config: Config) -> None:
    write(config)
    assert len(letters(config, "bob")) == 1
    (found,) = answers(config)
    assert found["Return-Path"] == "<>"
    assert found["From"] == "bob@example.org"
    assert found["To"] == "alice@example.org"
    assert found["Subject"] == "Auto: lunch"
    assert found["Auto-Submitted"] == "auto-replied"
    assert found["In-Reply-To"] == found["References"] == "<1@x>"
    assert found.get_content() == "I am away.\n"
    assert unfinished(config) == []


def test_an_answer_may_be_in_any_script_with_a_subject_of_its_own(tmp_path: Path) -> None:
    config = absent(make(tmp_path), "subject: Im Büro bin ich nicht\n\nGrüße\n")
    write(config)
    (found,) = answers(config)
    assert found["Subject"] == "Im Büro bin ich nicht"
    assert found.get_content() == "Grüße\n"


def test_nobody_is_answered_twice(config: Config) -> None:
    for _ in range(3):
        write(config)
    accept(config, "bob@example.org", content=HEADER + b"\r\n1\r\n", sender="Alice@example.org")
    accept(config, "bob@example.org", content=HEADER + b"\r\n2\r\n", sender="carol@example.org")
    accept(config, "bob@example.org", content=HEADER + b"\r\n3\r\n", sender="carol@example.org")
    deliver(config)
    assert len(letters(config, "bob")) == 6
    assert len(answers(config)) == len(answers(config, "carol")) == 1


def changed(old: bytes, new: bytes) -> bytes:
    assert old in HEADER
    return HEADER.replace(old, new)


@pytest.mark.parametrize(
    "header",
    [
        HEADER + b"Auto-Submitted: auto-generated\r\n",
        HEADER + b"auto-submitted: AUTO-REPLIED (vacation)\r\n",
        HEADER + b"Precedence: Bulk\r\n",
        HEADER + b"Auto-Submitted: no\r\nAuto-Submitted: auto-generated\r\n",
        HEADER + b"Precedence: first-class\r\nPrecedence: list \r\n",
        HEADER + b"X-Auto-Response-Suppress: DR\r\nX-Auto-Response-Suppress: AutoReply\r\n",
        HEADER + b"List-Id: <x.y>\r\n",
        HEADER + b"List-Unsubscribe: <mailto:x@y>\r\n",
        HEADER + b"X-Auto-Response-Suppress: DR, OOF\r\n",
        changed(b"To: Bob <bob@example.org>", b"To: carol@example.org"),
        changed(b"To: Bob <bob@example.org>\r\n", b""),
        changed(b"To: Bob <bob@example.org>", b"To: bob@example.org ("),
        b"no header at all\r\n",
    ],
)
def test_what_no_person_sent_to_this_person_is_not_answered(config: Config, header: bytes) -> None:
    write(config, header)
    assert len(letters(config, "bob")) == 1
    assert answers(config) == []


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "bob@example.org",
        "MAILER-DAEMON@example.org",
        "owner-x@example.org",
        "x-request@example.org",
        "x-bounces+bob=example.org@example.org",
        "no-reply@example.org",
        "noreply@example.org",
    ],
)
def test_programs_and_oneself_are_not_answered(tmp_path: Path, sender: str) -> None:
    config = absent(make(tmp_path, "@example.org: alice@example.org\n"))
    write(config, sender=sender)
    assert answers(config) == []


@pytest.mark.parametrize(
    "header",
    [
        HEADER + b"Auto-Submitted: no\r\n",
        changed(b"To: Bob", b"Cc: Bob"),
        changed(b"To: Bob", b"To: carol@example.org\r\nTo: Bob"),
        changed(b"<bob@example.org>", b"<INFO@example.org>, carol@example.org"),
        changed(b"bob@example.org", b"bob+shop@example.org"),
    ],
)
def test_an_alias_or_a_detail_names_the_person_too(config: Config, header: bytes) -> None:
    write(config, header, to="info@example.org")
    assert len(answers(config)) == 1


def test_what_comes_by_a_list_is_not_answered(config: Config) -> None:
    write(config, to="team@example.org")
    assert len(letters(config, "bob")) == 1
    assert answers(config) == answers(config, "carol") == []


@pytest.mark.parametrize(("start", "end", "is_answered"), [(-3, -1, False), (-1, 0, True), (0, 5, True), (1, 5, False)])
def test_only_who_is_away_today_answers(tmp_path: Path, start: int, end: int, is_answered: bool) -> None:
    today = datetime.now(UTC).astimezone().date()
    since, until = (today + timedelta(days=days) for days in (start, end))
    config = absent(make(tmp_path), f"from: {since}\nuntil: {until}\n\nAway.\n")
    write(config)
    assert len(answers(config)) == int(is_answered)


def test_two_who_are_away_answer_each_other_once(config: Config) -> None:
    (config.away / "alice@example.org").write_text("I too.\n")
    write(config)
    assert len(answers(config)) == 1
    assert len(letters(config, "bob")) == 1


def test_a_broken_file_answers_as_it_did_before_and_is_told_of(config: Config) -> None:
    write(config, to="carol@example.org")
    (config.away / "bob@example.org").write_text("days: many\n\nx\n")
    write(config)
    assert answers(config) == []
    assert len(letters(config, "bob")) == 1


def test_no_answer_is_given_before_the_letter_is_in_the_mailbox(config: Config) -> None:
    box = break_mailbox(config, "bob")
    write(config)
    assert answers(config) == []
    box.unlink()
    deliver(config)
    assert len(letters(config, "bob")) == len(answers(config)) == 1


def test_a_kill_at_any_step_answers_once_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    def prepare(place: Path) -> None:
        config = absent(make(place))
        for number in range(2):
            accept(config, "bob@example.org", content=HEADER + b"\r\n%d\r\n" % number)

    def work(place: Path) -> None:
        deliver(config_of(place))

    for place in killing.deaths(tmp_path, prepare, work):
        killing.run(partial(work, place))
        assert_answered_once(place)


def assert_answered_once(place: Path) -> None:
    config = config_of(place)
    assert len(letters(config, "bob")) == 2
    assert len(answers(config)) == 1
    assert names_in(config.spool / "deferred") == []
    assert unfinished(config) == []
