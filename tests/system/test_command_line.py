"""The command line: what it prints, its exit codes, and what it says of mistakes."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailsrv.host.certificates import self_signed
from mailsrv.store.failed_logins import FailedLogins, Policy
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


def test_addresses_of_any_script_are_added_found_and_shown(stopped: Instance) -> None:
    toml = stopped.root / "mailsrv.toml"
    toml.write_text(toml.read_text("utf-8").replace('domains = ["localhost"]', 'domains = ["bücher.example"]'), "utf-8")
    assert stopped.mailsrv("user", "add", "Jörg", "--password-stdin", stdin=b"one\n").returncode == 0
    again = stopped.mailsrv("user", "add", "JO\u0308RG@xn--bcher-kva.example", "--password-stdin", stdin=b"one\n")
    assert "is there already" in again.stderr
    letter = stopped.root / "letter"
    letter.write_text("From: jörg@bücher.example\nSubject: x\n\nbody\n", "utf-8")
    assert stopped.mailsrv("send", str(letter), "--from", "jörg", "--to", "用户@例え.jp").returncode == 0
    (entry,) = json.loads(stopped.mailsrv("queue", "list", "--json").stdout)
    assert (entry["sender"], entry["recipients"]) == ("jörg@bücher.example", ["用户@例え.jp"])
    head = stopped.mailsrv("queue", "show", entry["entry_id"]).stdout
    assert "X-Sender: <jörg@bücher.example> SMTPUTF8" in head
    assert "X-Receiver: <用户@例え.jp>" in head
    hidden = stopped.mailsrv("send", str(letter), "--to", "a\u202eb@example.org")
    assert (hidden.returncode, "not U+202E" in hidden.stderr) == (2, True)


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


def test_an_account_can_log_in_by_scram_from_its_next_password_on(stopped: Instance) -> None:
    accounts = stopped.root / "var" / "accounts"
    assert "SCRAM-SHA-256$" in accounts.read_text()
    accounts.write_text(" ".join(accounts.read_text().split()[:2]) + "\n")  # as a version before SCRAM wrote it
    checked = stopped.mailsrv("check")
    assert checked.returncode == 0
    assert "not offered: admin@localhost; `mailsrv user passwd` gives them one" in checked.stdout
    assert stopped.mailsrv("user", "passwd", "admin", "--password-stdin", stdin=b"new\n").returncode == 0
    assert "SCRAM-SHA-256$" in accounts.read_text()
    assert "user passwd" not in stopped.mailsrv("check").stdout


def test_bans_are_shown_in_status_listed_and_lifted(stopped: Instance) -> None:
    run = stopped.root / "var" / "run"
    assert stopped.status()["bans"] == []
    assert stopped.mailsrv("ban", "list").returncode == 0
    assert list(run.glob("*logins*")) == []  # asking makes none
    logins = FailedLogins(run / "logins", Policy(1, 2, 600, 900, ()))
    for _ in range(2):
        logins.failed("2001:db8::1", time.time())
    (banned,) = stopped.status()["bans"]
    assert (banned["address"], banned["failures"]) == ("2001:db8::/64", 2)
    assert "banned: 2001:db8::/64, until 20" in stopped.mailsrv("status").stdout
    assert json.loads(stopped.mailsrv("ban", "list", "--json").stdout) == [banned]
    assert "2001:db8::/64" in stopped.mailsrv("ban", "list").stdout
    assert not any("ban" in each for each in stopped.status()["problems"])
    assert stopped.mailsrv("ban", "lift", "2001:db8::1").returncode == 0
    assert logins.banned_until("2001:db8::1", time.time()) is None
    logins.close()
    again = stopped.mailsrv("ban", "lift", "2001:db8::1")
    assert again.returncode == 1
    assert "is not banned" in again.stderr
    assert "expected an IP address, not 'alice'" in stopped.mailsrv("ban", "lift", "alice").stderr


def test_a_list_of_bans_that_cannot_be_read_is_told_and_status_goes_on(stopped: Instance) -> None:
    (stopped.root / "var" / "run" / "logins").mkdir()
    assert stopped.status()["bans"] == []
    for words in (("list",), ("lift", "192.0.2.1")):
        done = stopped.mailsrv("ban", *words)
        assert done.returncode == 1
        assert "Is a directory: var/run/logins" in done.stderr
        assert "Traceback" not in done.stderr


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
        ("max_recipients = 1000", "max_recipients = true", ":32: max_recipients = True: expected a number from 100 to"),
        ("pop3 = ", "pop4 = ", "there is no setting 'pop4' here; expected one of: address, smtp, submission"),
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
    wait_until(lambda: "expected a number from 100 to 10000" in instance.log("smtp"), "its log says why")
    assert "Traceback" not in instance.log("smtp")


def test_a_mistake_in_accounts_is_told_by_line_and_the_last_good_ones_hold(instance: Instance) -> None:
    accounts = instance.root / "var" / "accounts"
    good = accounts.read_text()
    accounts.write_text(f"{good}bob@localhost secret\n")
    checked = instance.mailsrv("check")
    assert checked.returncode == 1
    assert f"accounts:{good.count(chr(10)) + 1}: expected ADDRESS and an argon2 hash" in checked.stdout
    assert f"accounts:{good.count(chr(10)) + 1}: expected ADDRESS" in instance.mailsrv("up").stderr
    wait_until(
        lambda: any(f"accounts:{good.count(chr(10)) + 1}" in each for each in instance.status()["problems"]),
        "status tells of it",
    )
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
    entry_id = stopped.mailsrv("send", "-", "--from", "a@x.org", "--to", "b@x.org", stdin=b"x: y\n\n").stdout.split()[
        -1
    ]
    stopped.mailsrv("queue", "hold", entry_id)
    (stopped.spool / "hold" / f"{entry_id}.txt").write_bytes(b"\xff\n")
    for command in (("status",), ("queue", "list"), ("queue", "show", entry_id), ("trace", entry_id)):
        assert "Traceback" not in stopped.mailsrv(*command).stderr, command
    assert entry_id in stopped.mailsrv("queue", "list").stdout


def test_a_fault_of_ours_is_told_without_a_traceback(stopped: Instance) -> None:
    (stopped.root / "var" / "log" / "ledger" / "smtp-20260101.0.jsonl").write_text(
        '{"t":1e300,"fate":"accepted","id":"0hofqxo9q6i-f85zzn5t","to":["odd"]}\n'  # no calendar has that day
    )
    done = stopped.mailsrv("trace", "0hofqxo9q6i-f85zzn5t")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: a fault of mailsrv (")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["new", "deferred", "remote"])
def test_a_file_put_into_a_folder_of_the_spool_by_mistake_shows_in_status(instance: Instance, folder: str) -> None:
    (instance.spool / folder / "message.eml").write_bytes(REMOTE)
    assert f"spool/{folder}/message.eml is no entry: put files into the drop box" in instance.mailsrv("status").stdout


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
    assert "expected one of: delivery, health, pop3, relay, smtp" in done.stderr
    pid = instance.pid("pop3")
    assert instance.mailsrv("restart", "pop3").returncode == 0
    assert instance.pid("pop3") not in (0, pid)


def test_check_tells_of_tls_pairs_that_the_programs_cannot_use(place: Path) -> None:
    instance = Instance.create(place / "i", {"listen__lmtp": "missing/lmtp"})
    tls = instance.certificate.parent
    (tls / "mail.example.org").mkdir()
    (tls / "key.pem").write_bytes(self_signed("localhost")[1])
    told = instance.mailsrv("check").stdout
    assert "PROBLEM var/tls/key.pem: expected the private key of cert.pem" in told
    assert "PROBLEM var/tls/mail.example.org/cert.pem: expected to be there" in told
    assert "PROBLEM lmtp: its folder is missing" in told
    done = instance.mailsrv("up", "--detach")
    assert done.returncode == 1
    assert "its folder is missing" in done.stderr
