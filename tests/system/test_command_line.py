"""The command line: what it prints, its exit codes, and what it says of mistakes."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.instance import Instance, wait_until

REMOTE = b"From: admin@localhost\nTo: bob@elsewhere.example\nSubject: far\n\nbody\n"


@pytest.fixture
def stopped(place: Path) -> Instance:
    """A new instance that has not been started."""
    return Instance.create(place / "i", {})


def test_init_refuses_to_change_an_instance(stopped: Instance) -> None:
    done = stopped.mailsrv("init", str(stopped.root))
    assert done.returncode == 2
    assert "is an instance already" in done.stderr


def test_outside_of_an_instance_it_says_how_to_name_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mailsrv.cli.main", "status"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "name the instance with --root, or make one: mailsrv init DIR" in done.stderr


def test_up_does_not_put_a_new_accounts_file_in_the_place_of_a_lost_one(stopped: Instance) -> None:
    (stopped.root / "var" / "accounts").unlink()
    done = stopped.mailsrv("up", "--detach")
    assert done.returncode == 2
    assert "var/accounts: expected to be there, as there are mailboxes in var/mail: restore it" in done.stderr
    assert not (stopped.root / "var" / "accounts").exists()


def test_users_are_added_listed_changed_and_removed(stopped: Instance) -> None:
    assert stopped.mailsrv("user", "add", "Bob@localhost", "--password-stdin", stdin=b"one\n").returncode == 0
    again = stopped.mailsrv("user", "add", "bob", "--password-stdin", stdin=b"one\n")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    elsewhere = stopped.mailsrv("user", "add", "bob@elsewhere.example", "--password-stdin", stdin=b"one\n")
    assert "elsewhere.example is not in `domains`" in elsewhere.stderr
    assert stopped.mailsrv("user", "add", "a/b", "--password-stdin", stdin=b"x\n").returncode == 2
    before = (stopped.root / "var" / "accounts").read_text()
    assert stopped.mailsrv("user", "passwd", "bob", "--password-stdin", stdin=b"two\n").returncode == 0
    assert (stopped.root / "var" / "accounts").read_text() != before
    listed = json.loads(stopped.mailsrv("user", "list", "--json").stdout)
    assert listed == [{"address": "admin@localhost"}, {"address": "Bob@localhost"}]
    assert stopped.mailsrv("user", "remove", "bob").returncode == 0
    assert stopped.mailsrv("user", "remove", "bob").returncode == 1
    assert "two" not in (stopped.root / "var" / "accounts").read_text()


def test_aliases_are_added_listed_and_removed(stopped: Instance) -> None:
    assert stopped.mailsrv("alias", "add", "all", "admin", "far@elsewhere.example").returncode == 0
    assert {"address": "all@localhost", "targets": ["admin@localhost", "far@elsewhere.example"]} in json.loads(
        stopped.mailsrv("alias", "list", "--json").stdout
    )
    assert "all@localhost" in stopped.mailsrv("alias", "list").stdout
    assert stopped.mailsrv("alias", "remove", "all").returncode == 0
    assert stopped.mailsrv("alias", "remove", "all").returncode == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_recipients = 1000", "max_recipients = true", ":24: max_recipients = True: expected a number from 100 to"),
        ("pop3 = ", "pop4 = ", "there is no setting 'pop4' here; expected one of: address, smtp, pop3, pop3s"),
        ("[delivery]", "[delivery", "expected TOML: "),
        ('domains = ["localhost"]', 'domains = ["not a domain"]', ":4: domains = ['not a domain']: expected a list of"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_by_line(stopped: Instance, old: str, new: str, expected: str) -> None:
    path = stopped.root / "mailsrv.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    for command in ("check", "up"):
        done = stopped.mailsrv(command)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "mailsrv.toml:" in said
        assert expected in said
        assert "Traceback" not in said


def test_a_program_that_cannot_read_its_configuration_says_why_in_its_log(instance: Instance) -> None:
    instance.configure(smtp__max_recipients=5)
    instance.supervisorctl("restart", "smtp")
    assert "expected a number from 100 to 10000" in instance.log("smtp")
    assert "Traceback" not in instance.log("smtp")


def test_a_mistake_in_accounts_is_told_by_line_and_the_last_good_ones_hold(instance: Instance) -> None:
    accounts = instance.root / "var" / "accounts"
    good = accounts.read_text()
    accounts.write_text(f"{good}bob@localhost secret\n")
    checked = instance.mailsrv("check")
    assert checked.returncode == 1
    assert "accounts:2: expected ADDRESS and an argon2 hash" in checked.stdout
    assert "accounts:2: expected ADDRESS" in instance.mailsrv("up").stderr
    wait_until(lambda: any("accounts:2" in each for each in instance.status()["problems"]), "status tells of it")
    instance.send(b"Subject: still here\r\n\r\nbody\r\n")
    instance.wait_delivered(1)
    accounts.write_text(good)
    wait_until(lambda: instance.mailsrv("status").returncode == 0, "all is well again")


def test_a_port_that_somebody_else_has_is_told_before_the_start(stopped: Instance) -> None:
    with socket.create_server(("127.0.0.1", stopped.smtp_port)):
        done = stopped.mailsrv("up", "--detach")
    assert done.returncode == 1
    assert f"smtp port: 127.0.0.1:{stopped.smtp_port}: Address already in use" in done.stderr


def test_the_queue_is_listed_shown_and_exported_and_what_is_exported_can_be_dropped_again(
    instance: Instance, tmp_path: Path
) -> None:
    instance.drop("far.eml", REMOTE)
    listed = wait_until(lambda: json.loads(instance.mailsrv("queue", "list", "--json").stdout), "it is in the queue")
    (entry,) = listed
    assert (entry["state"], entry["sender"], entry["recipients"]) == (
        "remote",
        "admin@localhost",
        ["bob@elsewhere.example"],
    )
    assert entry["entry_id"] in instance.mailsrv("queue", "list").stdout
    shown = instance.mailsrv("queue", "show", entry["entry_id"]).stdout
    assert "X-Receiver: <bob@elsewhere.example>" in shown
    assert "Subject: far" in shown
    assert instance.mailsrv("queue", "export", entry["entry_id"], str(tmp_path / "copy")).returncode == 0
    exported = instance.mailsrv("queue", "export", entry["entry_id"]).stdout
    assert (tmp_path / "copy").read_bytes().decode() == exported
    missing = instance.mailsrv("queue", "show", "nothing")
    assert missing.returncode == 1
    assert "there is no entry nothing" in missing.stderr
    instance.drop("again.eml", (tmp_path / "copy").read_bytes())
    wait_until(lambda: len(json.loads(instance.mailsrv("queue", "list", "--json").stdout)) == 2, "there are two")


def test_lint_says_what_the_drop_box_would_do(stopped: Instance, tmp_path: Path) -> None:
    (tmp_path / "good.eml").write_bytes(REMOTE)
    (tmp_path / "bad.eml").write_bytes(b"From: a@example.org\nTo: <@>\n\nbody\n")
    good = stopped.mailsrv("lint", str(tmp_path / "good.eml"), "--json")
    assert json.loads(good.stdout)["to"] == ["bob@elsewhere.example"]
    bad = stopped.mailsrv("lint", str(tmp_path / "bad.eml"))
    assert bad.returncode == 1
    assert "line 2" in bad.stdout
    assert "Traceback" not in bad.stderr


def test_octets_that_are_not_utf_8_are_told_and_never_a_traceback(stopped: Instance) -> None:
    password = stopped.mailsrv("user", "add", "bob", "--password-stdin", stdin=b"\xff\xfe\n")
    assert "expected a password in UTF-8" in password.stderr
    (stopped.root / "var" / "accounts").write_bytes(b"\xff\n")
    listed = stopped.mailsrv("user", "list")
    assert listed.returncode == 2
    assert "accounts: expected UTF-8 text" in listed.stderr
    broken = stopped.root / "var" / "incidents" / "20260101T000000.000000Z-smtp"
    broken.mkdir()
    (broken / "incident.json").write_text("{")
    (stopped.spool / "odd\udcff\x1b.eml").mkdir()
    assert "Traceback" not in stopped.mailsrv("status").stderr


def test_a_file_put_into_new_by_mistake_shows_in_status(instance: Instance) -> None:
    (instance.spool / "new" / "message.eml").write_bytes(REMOTE)
    assert "spool/new/message.eml is no entry: put files into the drop box" in instance.mailsrv("status").stdout


def test_init_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mailsrv.cli.main", "init", str(tmp_path / "i"), "--domain", "not a domain"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected a list of domains" in done.stderr
    assert not (tmp_path / "i").exists()


def test_status_of_an_instance_that_does_not_run_says_how_to_start_it(stopped: Instance) -> None:
    done = stopped.mailsrv("status")
    assert done.returncode == 1
    assert "`mailsrv up` starts it" in done.stdout


def test_restart_names_the_programs_when_it_is_misused(instance: Instance) -> None:
    done = instance.mailsrv("restart", "imap")
    assert done.returncode == 2
    assert "expected one of: delivery, health, pop3, smtp" in done.stderr
    pid = instance.pid("pop3")
    assert instance.mailsrv("restart", "pop3").returncode == 0
    assert instance.pid("pop3") not in (0, pid)
