"""alias, list, transform and route: what they print, what they refuse, and that the programs act on it."""

import json
from pathlib import Path

import pytest

from tests.system.instance import Instance


@pytest.fixture
def stopped(place: Path) -> Instance:
    """A new instance that has not been started, with two accounts."""
    made = Instance.create(place / "i", {})
    assert made.mailsrv("user", "add", "bob", "--password-stdin", stdin=b"one\n").returncode == 0
    return made


def test_mail_of_an_account_is_sent_on_with_a_copy_or_without(stopped: Instance) -> None:
    assert stopped.mailsrv("alias", "add", "bob", "far@elsewhere.example", "--keep").returncode == 0
    found = json.loads(stopped.mailsrv("route", "bob", "--json").stdout)
    assert (found["delivered"], found["sent_on"]) == (["bob@localhost"], ["far@elsewhere.example"])
    assert stopped.mailsrv("alias", "add", "bob", "far@elsewhere.example").returncode == 0
    found = json.loads(stopped.mailsrv("route", "bob", "--json").stdout)
    assert (found["delivered"], found["sent_on"]) == ([], ["far@elsewhere.example"])
    nobody = stopped.mailsrv("alias", "add", "nobody", "bob", "--keep")
    assert (nobody.returncode, "there is no account nobody@localhost" in nobody.stderr) == (1, True)


def test_a_catch_all_is_added_and_removed(stopped: Instance) -> None:
    assert stopped.mailsrv("alias", "add", "@localhost", "bob").returncode == 0
    done = stopped.mailsrv("route", "anybody")
    assert done.returncode == 0
    assert "leads to bob@localhost" in done.stdout
    assert stopped.mailsrv("alias", "remove", "@localhost").returncode == 0
    done = stopped.mailsrv("route", "anybody")
    assert done.returncode == 1
    assert "550 5.1.1 no such mailbox here" in done.stdout


def test_a_loop_is_refused_before_it_is_made_and_found_where_it_was(stopped: Instance) -> None:
    assert stopped.mailsrv("alias", "add", "a", "b").returncode == 0
    before = (stopped.root / "var" / "aliases").read_text()
    done = stopped.mailsrv("alias", "add", "b", "a")
    assert done.returncode == 1
    assert "that would be a loop, nothing was changed: b@localhost -> a@localhost -> b@localhost" in done.stderr
    assert (stopped.root / "var" / "aliases").read_text() == before
    with (stopped.root / "var" / "aliases").open("a") as file:
        file.write("b@localhost: a@localhost\n")
    assert (
        "the alias leads back to itself: a@localhost -> b@localhost -> a@localhost" in stopped.mailsrv("check").stdout
    )


def test_lists_are_made_joined_left_listed_and_removed(stopped: Instance) -> None:
    made = stopped.mailsrv("list", "add", "team", "bob", "x@elsewhere.example", "--owner", "admin")
    assert (made.returncode, made.stdout) == (0, "team@localhost has 2 members\n")
    assert stopped.mailsrv("list", "join", "team", "admin", "BOB").stdout == "team@localhost has 3 members\n"
    assert stopped.mailsrv("list", "leave", "team", "bob").returncode == 0
    stranger = stopped.mailsrv("list", "leave", "team", "bob")
    assert (stranger.returncode, "not in the list team@localhost: bob@localhost" in stranger.stderr) == (1, True)
    assert json.loads(stopped.mailsrv("list", "list", "--json").stdout) == [
        {
            "list": "team@localhost",
            "owner": "admin@localhost",
            "post": "members",
            "members": ["x@elsewhere.example", "admin@localhost"],
        }
    ]
    assert "team@localhost" in stopped.mailsrv("list", "list").stdout
    loop = stopped.mailsrv("list", "join", "team", "team")
    assert "that would be a loop" in loop.stderr
    odd = stopped.mailsrv("list", "add", "x", "--owner", "admin", "--post", "friends")
    assert (odd.returncode, "friends" in odd.stderr) == (2, True)
    assert stopped.mailsrv("list", "remove", "team").returncode == 0
    assert stopped.mailsrv("list", "remove", "team").returncode == 1


def test_who_may_post_shows_where_a_sender_is_named(stopped: Instance) -> None:
    assert stopped.mailsrv("list", "add", "team", "bob", "--owner", "admin").returncode == 0
    assert stopped.mailsrv("route", "team").returncode == 0
    assert stopped.mailsrv("route", "team", "--from", "bob").returncode == 0
    for sender in ("eve@elsewhere.example", "<>"):
        done = stopped.mailsrv("route", "team", "--from", sender)
        assert done.returncode == 1
        assert "takes mail from members only" in done.stdout


def test_transforms_are_added_listed_in_order_and_removed(stopped: Instance) -> None:
    assert stopped.mailsrv("transform", "add", "inbound", "*@old.example", "*@localhost").returncode == 0
    assert stopped.mailsrv("transform", "add", "outbound", "*@localhost", "*@example.org").returncode == 0
    odd = stopped.mailsrv("transform", "add", "inbound", "*%*@localhost", "$1@$2")
    assert (odd.returncode, "in one domain" in odd.stderr) == (2, True)
    listed = json.loads(stopped.mailsrv("transform", "list", "--json").stdout)
    assert [(each["direction"], each["pattern"], each["result"]) for each in listed] == [
        ("inbound", "*@old.example", "*@localhost"),
        ("outbound", "*@localhost", "*@example.org"),
    ]
    done = stopped.mailsrv("route", "bob+x@old.example", "--from", "bob@localhost")
    assert "*@old.example -> *@localhost: now bob+x@localhost" in done.stdout
    assert "delivered here" in done.stdout
    done = stopped.mailsrv("route", "x@elsewhere.example", "--from", "bob")
    assert "*@localhost -> *@example.org: now bob@example.org" in done.stdout
    assert stopped.mailsrv("transform", "remove", "1").stdout == "removed inbound *@old.example -> *@localhost\n"
    assert stopped.mailsrv("transform", "remove", "2").returncode == 1


def test_a_broken_file_is_told_of_and_not_edited(stopped: Instance) -> None:
    for name, command in (
        ("lists", ("list", "add", "t", "--owner", "bob")),
        ("transforms", ("transform", "add", "inbound", "*@a", "*@b")),
    ):
        (stopped.root / "var" / name).write_text("nonsense\n")
        done = stopped.mailsrv(*command)
        assert done.returncode == 2
        assert f"var/{name}:1: expected" in done.stderr
        assert (stopped.root / "var" / name).read_text() == "nonsense\n"
        assert f"var/{name}:1" in stopped.mailsrv("check").stdout
        assert f"Warning: var/{name}:1" in stopped.mailsrv("route", "bob").stderr
