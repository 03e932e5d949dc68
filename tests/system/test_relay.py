"""The relay as a program: set by commands, stopped and started, killed; another mailsrv as the smarthost."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.nameserver import nameserver
from tests.system.instance import REPOSITORY, Instance, wait_until
from tests.work.relaying import Server, serving

MAIL = b"From: admin@localhost\nTo: dave@elsewhere.example\nSubject: far\n\nbody\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def route(instance: Instance, *words: str, stdin: bytes | None = None) -> None:
    """Set the smarthost, and have it used."""
    for command in (("relay", "smarthost", *words), ("restart", "relay")):
        done = instance.mailsrv(*command, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr


def remote(instance: Instance) -> list[str]:
    return sorted(path.name for path in (instance.spool / "remote").iterdir())


def assert_balanced(instance: Instance) -> None:
    done = instance.mailsrv("audit")
    assert done.returncode == 0, done.stdout


def test_a_stopped_relay_queues_and_a_started_one_sends(instance: Instance, server: Server) -> None:
    route(instance, server.place)
    assert server.place in instance.mailsrv("relay", "show").stdout
    instance.supervisorctl("stop", "relay")
    instance.drop("far.eml", MAIL)
    wait_until(lambda: len(remote(instance)) == 1, "it waits")
    instance.supervisorctl("start", "relay")
    wait_until(lambda: len(server.taken) == 1, "it is sent")
    assert server.taken[0][:2] == ("admin@localhost", ["dave"])
    assert server.taken[0][2].endswith(b"Subject: far\r\n\r\nbody\r\n")
    wait_until(lambda: remote(instance) == [], "it is gone")
    assert_balanced(instance)
    assert "relayed" in instance.mailsrv("trace", "far").stdout


def test_without_a_smarthost_mail_waits_and_show_says_how_to_send_it(instance: Instance, server: Server) -> None:
    assert "`mailsrv relay smarthost HOST:PORT` sends it on" in instance.mailsrv("relay", "show").stdout
    route(instance, server.place)
    assert instance.mailsrv("relay", "off").returncode == 0
    instance.mailsrv("restart", "relay")
    instance.drop("far.eml", MAIL)
    wait_until(lambda: len(remote(instance)) == 1, "it waits")
    assert server.taken == []


def test_routes_of_domains_are_set_shown_used_and_removed(instance: Instance, server: Server) -> None:
    with nameserver(
        "mx-host=elsewhere.example,mx.elsewhere.example,10", "host-record=mx.elsewhere.example,127.0.0.5"
    ) as dns:
        instance.configure(dns__nameservers=[dns], relay__port=server.port)
        assert instance.mailsrv("relay", "mx").returncode == 0
        assert "mx.elsewhere.example [127.0.0.5] (10)" in instance.mailsrv("route", "dave@elsewhere.example").stdout
        assert "550 5.1.2 there is no such domain" in instance.mailsrv("route", "dave@nowhere.example").stdout
        done = instance.mailsrv("relay", "route", ".Example", server.place, "--tls", "none")
        assert done.returncode == 0, done.stderr
        assert instance.mailsrv("relay", "route", "elsewhere.example", "mx").returncode == 0
        shown = instance.mailsrv("relay", "show").stdout
        assert f"mail for .Example goes by {server.place} none\nmail for elsewhere.example goes by mx\n" in shown
        assert "other mail for elsewhere goes to the hosts that MX records name" in shown
        assert f"to {server.place}; TLS: none" in instance.mailsrv("route", "dave@nowhere.example").stdout
        assert instance.mailsrv("relay", "route", "ELSEWHERE.example", "--remove").returncode == 0
        assert instance.mailsrv("relay", "route", "elsewhere.example", "--remove").returncode == 1
        assert instance.mailsrv("relay", "off").returncode == 0
        assert instance.mailsrv("restart", "relay").returncode == 0
        instance.drop("far.eml", MAIL)
        wait_until(lambda: len(server.taken) == 1, "it is sent")
    wait_until(lambda: remote(instance) == [], "it is gone")
    assert_balanced(instance)


def test_a_route_that_cannot_be_is_refused_and_nothing_is_changed(instance: Instance) -> None:
    before = (instance.root / "mailsrv.toml").read_text()
    for words in (
        ("a b", "mx"),
        ("a.example",),
        ("a.example", "host:0"),
        ("a.example", "mx", "--tls", "tls"),
        (".[::1]", "mx"),
    ):
        done = instance.mailsrv("relay", "route", *words)
        assert done.returncode == 2, words
        assert "Traceback" not in done.stderr
    assert (instance.root / "mailsrv.toml").read_text() == before
    (instance.root / "mailsrv.toml").write_text(
        before.replace("[relay.routes]", '[relay.routes]\n"a.example" = "nowhere"')
    )
    done = instance.mailsrv("check")
    assert done.returncode == 1
    assert "'a.example' = 'nowhere': expected a domain in quotes" in done.stdout
    (instance.root / "mailsrv.toml").write_text(before)


def test_a_smarthost_that_cannot_be_is_refused_and_nothing_is_changed(instance: Instance) -> None:
    before = (instance.root / "mailsrv.toml").read_text()
    for words in (("nowhere",), ("host:0",), ("host:25", "--tls", "odd"), ("host:25", "--password-stdin")):
        done = instance.mailsrv("relay", "smarthost", *words, stdin=b"secret\n")
        assert done.returncode == 2, words
        assert "Traceback" not in done.stderr
    assert (instance.root / "mailsrv.toml").read_text() == before


def test_a_dead_smarthost_shows_in_status_and_mail_waits(instance: Instance, server: Server) -> None:
    server.close()
    route(instance, server.place)
    instance.drop("far.eml", MAIL)
    wait_until(lambda: any("cannot be used" in each for each in instance.status()["problems"]), "status says so")
    assert "451 4.4.1 the next host could not be reached" in instance.mailsrv("queue", "list", "--json").stdout


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_smarthost_is_logged_in_to_over_tls_that_is_verified(
    make_instance: Callable[..., Instance], tls: str
) -> None:
    """By SCRAM: the other mailsrv offers it first."""
    there = make_instance()
    here = make_instance()
    port = there.submissions_port if tls == "tls" else there.submission_port
    words = ["--tls", tls, "--user", "admin@localhost", "--password-stdin"]
    words += ["--ca-file", "their.pem"]  # from the instance's folder, as its programs know all files
    (here.root / "their.pem").write_bytes(there.certificate.read_bytes())
    (here.root / "their.pem").chmod(0o644)
    route(here, f"localhost:{port}", *words, stdin=f"{there.password}\n".encode())
    password = here.root / "var" / "relay.password"
    assert password.read_text() == f"{there.password}\n"
    assert password.stat().st_mode & 0o137 == 0
    assert there.password not in (here.root / "mailsrv.toml").read_text()
    here.drop("far.eml", MAIL)
    wait_until(lambda: remote(here) == [] and remote(there), "it has come to the smarthost")
    (line,) = [each for each in here.mailsrv("trace", "far", "--json").stdout.splitlines() if "TLSv1.3" in each]
    assert "localhost[" in line
    assert_balanced(here)


def test_a_route_of_a_domain_logs_in_with_a_password_of_its_own(make_instance: Callable[..., Instance]) -> None:
    there, here = make_instance(), make_instance()
    (here.root / "their.pem").write_bytes(there.certificate.read_bytes())
    (here.root / "their.pem").chmod(0o644)
    here.configure(relay__ca_file="their.pem")
    place = f"localhost:{there.submissions_port}"
    words = ["Elsewhere.example", place, "--tls", "tls", "--user", "admin@localhost", "--password-stdin"]
    done = here.mailsrv("relay", "route", *words, stdin=f"{there.password}\n".encode())
    assert done.returncode == 0, done.stderr
    assert f"Elsewhere.example goes by {place} tls user=admin@localhost" in here.mailsrv("relay", "show").stdout
    password = here.root / "var" / "relay.password.elsewhere.example"
    assert password.read_text() == f"{there.password}\n"
    assert password.stat().st_mode & 0o137 == 0
    assert here.mailsrv("restart", "relay").returncode == 0
    here.drop("far.eml", MAIL)
    wait_until(lambda: remote(here) == [] and remote(there), "it has come there")
    assert_balanced(here)
    assert here.mailsrv("relay", "route", "elsewhere.example", "--remove").returncode == 0
    assert not password.exists()


def test_a_wrong_password_and_an_unknown_certificate_return_no_mail(make_instance: Callable[..., Instance]) -> None:
    there = make_instance(logins__delay=0)
    here = make_instance()
    words = ["--tls", "starttls", "--user", "admin@localhost", "--password-stdin"]
    route(here, f"localhost:{there.submission_port}", *words, stdin=b"wrong\n")
    here.drop("far.eml", MAIL)
    wait_until(lambda: "TLS with the next host failed" in here.mailsrv("queue", "list").stdout, "it waits for TLS")
    words[1] = "opportunistic"
    route(here, f"localhost:{there.submission_port}", *words, stdin=b"wrong\n")
    (entry_id,) = [each for each in remote(here) if not each.endswith(".retry")]
    assert here.mailsrv("queue", "retry", entry_id).returncode == 0
    wait_until(lambda: "does not take our login" in here.mailsrv("queue", "list").stdout, "it waits for the login")
    assert list(here.new_mail.iterdir()) == []


def test_killed_under_load_each_message_comes_and_comes_twice_only_where_the_books_say_it_may(
    instance: Instance, server: Server
) -> None:
    route(instance, server.place)
    chance = random.Random(8)
    for number in range(60):
        instance.drop(f"{number}.eml", MAIL.replace(b"dave", f"u{number}".encode()))
        if number % 10 == 9:
            wait_until(lambda: len(server.taken) >= chance.randrange(len(server.taken) + 1), "some have come")
            instance.kill("relay")
    wait_until(lambda: not remote(instance), "all are gone", 60)
    names = [name for _, to, _ in server.taken for name in to]
    assert set(names) == {f"u{number}" for number in range(60)}
    assert {name for name in names if names.count(name) > 1} <= in_doubt(instance)
    assert_balanced(instance)


def test_killed_while_it_sends_to_many_domains_nothing_is_lost_and_twice_comes_only_what_the_books_name(
    instance: Instance,
) -> None:
    """30 domains at five hosts, each message to all of them: it is killed with entries of which a part has gone."""
    chance = random.Random(15)
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(address="127.0.1.1"))]
        for at in range(2, 6):
            servers.append(stack.enter_context(serving(address=f"127.0.1.{at}", at_port=servers[0].port)))
        records = [f"mx-host=d{at}.example,mx{at % 5}.example,10" for at in range(30)]
        records += [f"host-record=mx{at}.example,127.0.1.{at + 1}" for at in range(5)]
        place = stack.enter_context(nameserver(*records))
        instance.configure(dns__nameservers=[place], relay__port=servers[0].port, relay__mx=True)
        assert instance.mailsrv("restart", "relay").returncode == 0
        names = [f"u{number}-{at}" for number in range(20) for at in range(30)]

        def taken() -> list[str]:
            return [name for server in servers for _, to, _ in server.taken for name in to]

        for number in range(20):
            to = "".join(f"X-Receiver: <u{number}-{at}@d{at}.example>\n" for at in range(30))
            instance.drop(f"{number}.eml", f"X-Sender: <admin@localhost>\n{to}\n".encode() + MAIL)
            if number % 4 == 3:
                some = len(taken()) + chance.randrange(60)
                wait_until(lambda some=some: len(taken()) >= min(some, len(names) // 2), "some have come")  # type: ignore[misc]
                instance.kill("relay")
        wait_until(lambda: not remote(instance), "all are gone", 60)
        assert set(taken()) == set(names)
        assert {name for name in names if taken().count(name) > 1} <= in_doubt(instance)
    assert_balanced(instance)


def in_doubt(instance: Instance) -> set[str]:
    """The local parts of those that may have it twice, by the books."""
    command = [sys.executable, "-c", COUNT, str(instance.root / "var" / "log" / "ledger")]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout.split())


COUNT = """
import sys
from pathlib import Path
from mailsrv.store.ledger import Reader
for line in Reader(Path(sys.argv[1])).read():
    if line.get("in_doubt"):
        print(*(each.partition("@")[0] for each in line["to"]))
"""
