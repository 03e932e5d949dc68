"""The books of a running instance: audited by themselves, and the life of a message through restarts."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.instance import USER, Instance, wait_until
from tests.system.test_pop3 import logged_in

MESSAGE = b"From: alice@example.org\r\nTo: admin@localhost\r\nSubject: Quarterly figures\r\n\r\nbody\r\n"


@pytest.fixture
def audited(make_instance: Callable[..., Instance]) -> Instance:
    """A started instance that audits its books every half second."""
    return make_instance(ledger__audit_interval=0.5)


def balance(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(instance.mailsrv("audit", "--json").stdout)
    return found


def test_a_file_deleted_by_hand_from_new_shows_in_status_and_in_the_audit(audited: Instance) -> None:
    audited.send(MESSAGE)
    audited.wait_delivered(1)
    assert audited.mailsrv("audit").stdout.endswith("balanced\n")
    wait_until(lambda: audited.status()["audit"] is not None, "it is audited by itself")
    audited.supervisorctl("stop", "delivery")
    audited.send(MESSAGE)
    (path,) = (audited.spool / "new").iterdir()
    assert balance(audited)["is_balanced"]
    path.unlink()
    audited.supervisorctl("start", "delivery")
    done = audited.mailsrv("audit")
    assert done.returncode == 1
    assert f"MISSING {path.name} to {USER}: accepted at 20" in done.stdout
    assert done.stdout.endswith("not balanced\n")
    expected = f"audit: missing: {path.name} to {USER}: accepted at "
    wait_until(lambda: any(each.startswith(expected) for each in audited.status()["problems"]), "status tells")
    told = audited.mailsrv("status")
    assert told.returncode == 1
    assert "audit: not balanced, 2 messages" in told.stdout
    seen = audited.status()
    assert seen["worst_wait"] > 0
    assert seen["oldest_undecided"] == 0
    assert f"the worst wait ever: {seen['worst_wait']:.1f} s" in told.stdout


def test_a_message_is_traced_from_the_socket_to_the_download_through_restarts(instance: Instance) -> None:
    instance.supervisorctl("stop", "delivery")
    instance.send(MESSAGE)
    assert "in new/" in instance.mailsrv("trace", "quarterly").stdout
    instance.kill("smtp")
    instance.supervisorctl("start", "delivery")
    instance.wait_delivered(1)
    assert f"in the mailbox of {USER}" in instance.mailsrv("trace", USER).stdout
    instance.mailsrv("restart", "delivery")
    with logged_in(instance) as client:  # who looks at the top has not fetched it
        client.top(1, 0)
    assert len(instance.fetch(delete=True)) == 1
    instance.mailsrv("restart", "pop3")

    def fates() -> list[str]:
        found = json.loads(instance.mailsrv("trace", "Quarterly figures", "--json").stdout)
        return [line["fate"] for life in found for line in life["lines"]]

    wait_until(lambda: fates() == ["accepted", "delivered", "fetched", "deleted"], "all of it is in the books")
    told = instance.mailsrv("trace", "alice@example.org").stdout
    assert "with ESMTP; peer 127.0.0.1" in told
    assert f"no longer in the mailbox of {USER}" in told
    assert balance(instance)["is_balanced"]
    nothing = instance.mailsrv("trace", "no-such-thing")
    assert (nothing.returncode, "the books know nothing of 'no-such-thing'" in nothing.stderr) == (1, True)
    assert instance.mailsrv("trace", " ").returncode == 2


def test_control_characters_of_a_stranger_do_not_reach_the_terminal(instance: Instance) -> None:
    instance.send(b"Subject: evil \x1b[2J =?utf-8?q?=0A=0Afake?=\r\n\r\nbody\r\n")
    instance.wait_delivered(1)
    told = instance.mailsrv("trace", "evil").stdout
    assert "\x1b" not in told
    assert "evil \\x1b[2J" in told
    assert "\nfake" not in told


def test_entries_are_held_released_tried_again_and_removed_while_everything_runs(instance: Instance) -> None:
    mailbox = instance.new_mail.parent
    mailbox.rename(mailbox.with_name("moved"))
    mailbox.write_text("in the way\n")
    for _ in range(2):
        instance.send(MESSAGE)
    wait_until(lambda: instance.status()["entries"]["deferred"] == 2, "both wait")
    first, second = (each["entry_id"] for each in json.loads(instance.mailsrv("queue", "list", "--json").stdout))
    shown = instance.mailsrv("queue", "show", first).stdout
    assert "attempts: 1\n" in shown
    assert f"waits: {USER}\n" in shown
    held = instance.mailsrv("queue", "hold", first, second, "--why", "to be looked at")
    assert held.stdout == f"{first} is held\n{second} is held\n"
    assert "held by " in instance.mailsrv("queue", "list", "--state", "hold").stdout
    assert instance.mailsrv("queue", "retry", first).returncode == 1
    asked = instance.mailsrv("queue", "remove", second, stdin=b"n\n")
    assert (asked.returncode, "remove for good?" in asked.stdout) == (1, True)
    assert instance.status()["entries"]["hold"] == 2
    assert instance.mailsrv("queue", "remove", second, "--yes").stdout == f"{second} is removed\n"
    assert instance.mailsrv("queue", "release", first).stdout == f"{first} is released, into deferred/\n"
    wait_until(lambda: "attempts: 2\n" in instance.mailsrv("queue", "show", first).stdout, "it is tried at once")
    mailbox.unlink()
    mailbox.with_name("moved").rename(mailbox)
    assert instance.mailsrv("queue", "retry", "--all").stdout == f"{first} is tried again\n"
    assert len(instance.wait_delivered(1)) == 1
    told = instance.mailsrv("trace", second).stdout
    assert "removed - was hold; who " in told
    assert balance(instance)["is_balanced"]
