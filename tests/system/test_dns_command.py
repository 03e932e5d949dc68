"""`mailsrv dns`: what it prints, and what it says of a real nameserver."""

import json
import subprocess

import pytest

from mailsrv.model.record import strings_of
from tests.nameserver import nameserver
from tests.system.instance import Instance

DOMAIN = "a.example"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """One that was made, and not started, with keys."""
    made = Instance.create(tmp_path_factory.mktemp("dns") / "i", {"domains": [DOMAIN], "hostname": "mail.a.example"})
    assert made.mailsrv("dkim", "create", DOMAIN, "--selector", "s").returncode == 0
    return made


def wanted(instance: Instance) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(instance.mailsrv("dns", DOMAIN, "--json").stdout)
    return found


def option_of(record: dict[str, str]) -> str:
    """The record as dnsmasq takes it."""
    if record["kind"] == "MX":
        preference, host = record["value"].split()
        return f"mx-host={record['owner']},{host},{preference}"
    return f"txt-record={record['owner']},{','.join(strings_of(record['value']))}"


def check(instance: Instance, options: list[str]) -> subprocess.CompletedProcess[str]:
    with nameserver(*options) as place:
        instance.configure(dns__nameservers=[place])
        return instance.mailsrv("dns", DOMAIN, "--check")


def test_all_records_are_printed_as_lines_of_a_zone_file(instance: Instance) -> None:
    told = instance.mailsrv("dns", DOMAIN)
    assert told.returncode == 0
    lines = told.stdout.splitlines()
    assert lines[:2] == ["a.example. IN MX 10 mail.a.example.", 'a.example. IN TXT "v=spf1 mx -all"']
    assert [line.split(" ", 1)[0] for line in lines[2:7]] == [
        "s-ed25519._domainkey.a.example.",
        "s-rsa._domainkey.a.example.",
        "_dmarc.a.example.",
        "_mta-sts.a.example.",
        "_smtp._tls.a.example.",
    ]
    assert '"v=DMARC1; p=quarantine; rua=mailto:postmaster@a.example"' in lines[4]
    assert lines[7:] == [
        "; MTA-STS: a web server has to give this at https://mta-sts.a.example/.well-known/mta-sts.txt",
        ";   version: STSv1",
        ";   mode: testing",
        ";   mx: mail.a.example",
        ";   max_age: 604800",
    ]
    assert [each["line"] for each in wanted(instance)] == lines[:7]


def test_who_sends_by_a_smarthost_is_told_that_spf_has_to_say_so(instance: Instance) -> None:
    for smarthosts, is_told in ((["smtp.example.net:587"], True), ([], False)):
        instance.configure(relay__smarthosts=smarthosts)
        assert ("; SPF: a smarthost sends the mail" in instance.mailsrv("dns", DOMAIN).stdout) is is_told


def test_a_domain_that_is_not_ours_is_refused(instance: Instance) -> None:
    done = instance.mailsrv("dns", "b.example")
    assert (done.returncode, "is not in `domains`" in done.stderr) == (1, True)


def test_a_zone_with_all_records_is_right(instance: Instance) -> None:
    others = ["txt-record=a.example,site-verification=1"]
    done = check(instance, [option_of(each) for each in wanted(instance)] + others)
    assert done.returncode == 0, done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["right"] * 7


def test_what_is_missing_is_named_and_makes_the_exit_code_1(instance: Instance) -> None:
    records = wanted(instance)
    done = check(instance, [option_of(each) for each in records if each["purpose"] != "DMARC"])
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line[0] != " " and not line.startswith("right")]
    assert line.split() == ["missing", "DMARC", "_dmarc.a.example"]
    assert "wanted: _dmarc.a.example. IN TXT" in done.stdout


def test_a_dns_that_does_not_answer_is_no_verdict(instance: Instance) -> None:
    instance.configure(dns__nameservers=["127.0.0.1:1"], dns__timeout=0.2, dns__lifetime=0.2)
    done = instance.mailsrv("dns", DOMAIN, "--check", "--json")
    assert done.returncode == 1
    assert {each["verdict"] for each in json.loads(done.stdout)} == {"unknown"}
