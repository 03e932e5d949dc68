"""quota and away: what they print and refuse, and that `smtp` and `delivery` act on it."""

import json
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.instance import Instance, wait_until


@pytest.fixture
def stopped(place: Path) -> Instance:
    """A new instance that has not been started, with two accounts."""
    made = Instance.create(place / "i", {})
    assert made.mailsrv("user", "add", "bob", "--password-stdin", stdin=b"one\n").returncode == 0
    return made


def test_quotas_are_set_listed_and_removed(stopped: Instance) -> None:
    assert stopped.mailsrv("quota", "set", "bob", "--octets", "2K").stdout == "bob@localhost octets=2K\n"
    assert stopped.mailsrv("quota", "set", "@localhost", "--messages", "7").returncode == 0
    (stopped.root / "var" / "mail" / "localhost" / "bob" / "cur" / "1.foreign:2,S").write_bytes(b"x" * 512)
    listed = {each["address"]: each for each in json.loads(stopped.mailsrv("quota", "list", "--json").stdout)}
    assert listed["bob@localhost"] == {
        "address": "bob@localhost",
        "octets": 512,
        "messages": 1,
        "max_octets": 2048,
        "max_messages": 0,
    }
    assert listed["admin@localhost"]["max_messages"] == 7
    assert "25%" in stopped.mailsrv("quota", "list").stdout
    assert "512 of 2048 octets" in stopped.mailsrv("route", "bob").stdout
    assert stopped.mailsrv("quota", "remove", "bob").returncode == 0
    assert stopped.mailsrv("quota", "remove", "bob").returncode == 1
    for odd in (
        ("ghost", "--octets", "1G"),
        ("bob", "--octets", "1Q"),
        ("bob",),
        ("@elsewhere.example", "--messages", "1"),
    ):
        assert stopped.mailsrv("quota", "set", *odd).returncode != 0


def test_who_is_away_is_set_listed_and_ended(stopped: Instance) -> None:
    done = stopped.mailsrv(
        "away", "set", "Bob", "-", "--until", "2099-01-01", "--subject", "Gone", stdin=b"I am away.\n"
    )
    assert (done.returncode, done.stdout) == (0, "mail for bob@localhost is answered\n")
    assert json.loads(stopped.mailsrv("away", "list", "--json").stdout) == [
        {
            "address": "bob@localhost",
            "subject": "Gone",
            "from": None,
            "until": "2099-01-01",
            "days": 7,
            "text": "I am away.\n",
        }
    ]
    assert "Gone" in stopped.mailsrv("away", "list").stdout
    assert "mail from people is answered" in stopped.mailsrv("route", "bob").stdout
    assert stopped.mailsrv("away", "set", "bob", "-", "--until", "soon", stdin=b"x\n").returncode == 2
    assert stopped.mailsrv("away", "set", "bob", "-", stdin=b"\n").returncode == 2
    assert stopped.mailsrv("away", "set", "ghost", "-", stdin=b"x\n").returncode == 1
    assert stopped.mailsrv("away", "end", "bob").returncode == 0
    assert stopped.mailsrv("away", "end", "bob").returncode == 1


def test_check_tells_of_files_that_nobody_reads_and_of_broken_ones(stopped: Instance) -> None:
    stopped.mailsrv("away", "set", "bob", "-", stdin=b"x\n")
    away = stopped.root / "var" / "away"
    (away / "Bob@localhost").write_text("x\n")
    (away / "bob@localhost").write_text("days: 0\n\nx\n")
    found = stopped.mailsrv("check").stdout
    assert "in small letters" in found
    assert "var/away/bob@localhost:1: expected a number of days" in found


@pytest.fixture
def running(stopped: Instance) -> Iterator[Instance]:
    stopped.mailsrv("quota", "set", "bob", "--octets", "3000")
    stopped.mailsrv("away", "set", "admin", "-", stdin=b"I am away.\n")
    stopped.up()
    yield stopped
    stopped.down()


def mails(instance: Instance, name: str) -> list[bytes]:
    """What lies in the mailbox of an account."""
    return [path.read_bytes() for path in (instance.root / "var" / "mail" / "localhost" / name / "new").iterdir()]


def test_rcpt_tells_who_has_no_room_and_who_never_will(running: Instance) -> None:
    message = b"From: admin@localhost\r\nTo: bob@localhost\r\n\r\n" + b"0123456789abcd\r\n" * 150
    with smtplib.SMTP("127.0.0.1", running.smtp_port) as client:
        client.ehlo()
        client.docmd("MAIL FROM:<admin@localhost> SIZE=5000")
        assert client.docmd("RCPT TO:<bob@localhost>") == (552, b"5.2.2 the message can never fit into the mailbox")
        client.docmd("RSET")
        client.sendmail("admin@localhost", ["bob@localhost"], message)
        wait_until(lambda: len(mails(running, "bob")) == 1, "a letter to bob")
        client.docmd("MAIL FROM:<admin@localhost> SIZE=2000")
        assert client.docmd("RCPT TO:<bob@localhost>") == (452, b"4.2.2 the mailbox is full, try again later")


def test_mail_to_who_is_away_is_answered(running: Instance) -> None:
    message = b"From: bob@localhost\r\nTo: admin@localhost\r\nSubject: lunch\r\n\r\nHello.\r\n"
    with smtplib.SMTP("127.0.0.1", running.smtp_port) as client:
        client.sendmail("bob@localhost", ["admin@localhost"], message)
        client.sendmail("bob@localhost", ["admin@localhost"], message)
    wait_until(lambda: len(mails(running, "admin")) == 2, "two letters to admin")
    wait_until(lambda: len(mails(running, "bob")) == 1, "a letter to bob")
    assert b"Subject: Auto: lunch" in mails(running, "bob")[0]
