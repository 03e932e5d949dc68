"""`mailsrv dkim`: keys made, listed, changed, as an operator does it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsrv.model.record import strings_of
from tests.nameserver import nameserver
from tests.system.instance import Instance, wait_until
from tests.work.relaying import serving

RECORD = re.compile(r'(\S+)\._domainkey\.localhost\. IN TXT ("v=DKIM1; k=(rsa|ed25519); p=[^"]*"(?: "[^"]*")*)')


@pytest.fixture
def instance(place: Path) -> Instance:
    """One that was made, and not started."""
    return Instance.create(place / "i", {})


def test_create_prints_the_records_and_show_prints_them_again(instance: Instance) -> None:
    made = instance.mailsrv("dkim", "create", "localhost", "--selector", "s")
    assert made.returncode == 0, made.stderr
    records = [line for line in made.stdout.splitlines() if RECORD.fullmatch(line)]
    assert [RECORD.fullmatch(line)[1] for line in records] == ["s-ed25519", "s-rsa"]  # type: ignore[index]
    assert all(len(each) <= 255 for line in records for each in re.findall(r'"([^"]*)"', line))
    assert instance.mailsrv("dkim", "show", "localhost").stdout.splitlines() == records
    found = json.loads(instance.mailsrv("dkim", "list", "--json").stdout)
    assert [(each["selector"], each["stage"]) for each in found] == [("s-ed25519", "signs"), ("s-rsa", "signs")]
    folder = instance.root / "var" / "dkim" / "localhost"
    owner = (instance.root / "var" / "spool").stat().st_uid
    for path in (folder.parent, folder, *folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        assert path.stat().st_uid == owner


def test_keys_are_rotated_in_steps_and_what_cannot_be_is_told(instance: Instance) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = instance.mailsrv("dkim", *words)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert run("rotate", "localhost")[0] == 1
    assert run("create", "elsewhere.example")[0] == 1
    assert run("show", "localhost")[0] == 1
    assert run("create", "localhost", "--selector", "NO.")[0] == 1
    assert run("create", "localhost", "--selector", "a", "--algorithm", "rsa")[0] == 0
    assert "rotate localhost" in run("create", "localhost")[1]
    assert run("rotate", "localhost", "--selector", "b")[0] == 0
    instance.configure(dns__nameservers=["127.0.0.1:1"], dns__timeout=0.2, dns__lifetime=0.2)
    code, told = run("activate", "localhost")
    assert (code, "b-ed25519._domainkey.localhost in the DNS: unknown" in told) == (1, True)
    assert "a-rsa signs no more" in run("activate", "localhost", "--unchecked")[1]
    assert run("remove", "localhost", "b-rsa")[0] == 1
    assert run("remove", "localhost", "a-rsa")[0] == 0
    assert run("retire", "localhost", "b-rsa")[0] == 0
    assert "waits to be activated" not in run("list")[1]
    (instance.root / "var" / "dkim" / "localhost" / "b-ed25519.pem").write_text("broken")
    code, told = run("list")
    assert (code, "b-rsa" in told, "b-ed25519.pem: expected a private key" in told) == (1, True, True)


def test_keys_that_wait_are_activated_once_the_dns_has_them_and_check_looks_who_may_read_them(place: Path) -> None:
    instance = Instance.create(place / "i", {"domains": ["a.example"]})
    for words in (("create", "a.example", "--selector", "one"), ("rotate", "a.example", "--selector", "two")):
        assert instance.mailsrv("dkim", *words).returncode == 0
    found = json.loads(instance.mailsrv("dkim", "list", "--json").stdout)
    options = [f"txt-record={each['owner']},{','.join(strings_of(each['record']))}" for each in found]
    for known, code in ((options[:3], 1), (options, 0)):
        with nameserver(*known) as server:
            instance.configure(dns__nameservers=[server])
            assert instance.mailsrv("dkim", "activate", "a.example").returncode == code
    assert "expected to be for that user alone" not in instance.mailsrv("check").stdout
    (instance.root / "var" / "dkim" / "a.example" / "two-rsa.pem").chmod(0o644)
    assert "expected to be for that user alone" in instance.mailsrv("check").stdout


def test_a_running_relay_signs_with_new_keys_at_once_and_status_names_a_broken_one(
    make_instance: Callable[..., Instance],
) -> None:
    with serving() as server:
        instance = make_instance(delivery__scan_interval=1)
        for words in (("relay", "smarthost", server.place), ("restart", "relay"), ("dkim", "create", "localhost")):
            assert instance.mailsrv(*words).returncode == 0
        instance.drop("far.eml", b"From: admin@localhost\nTo: dave@elsewhere.example\n\nbody\n")
        wait_until(lambda: server.taken, "it is sent")
        assert server.taken[0][2].count(b"DKIM-Signature: v=1;") == 2
        (path,) = (instance.root / "var" / "dkim" / "localhost").glob("*-rsa.pem")
        path.write_bytes(b"")
        wait_until(lambda: any("expected a private key" in each for each in instance.status()["problems"]), "named")
        checked = instance.mailsrv("check")
        assert checked.returncode == 1
        assert "expected a private key" in checked.stdout
