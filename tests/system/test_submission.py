"""What users who log in may do, and what nobody else may: ports 587 and 465, against a real instance."""

import base64
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.dialogue import Client
from tests.system.instance import USER, Instance, wait_until

CONTENT = b"From: admin@localhost\r\nTo: bob@example.net\r\nSubject: hello\r\n\r\nIt works.\r\n"


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    """One for all tests here."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-"))
    instance = Instance.create(folder / "i", {"logins__delay": 0})
    assert instance.mailsrv("user", "add", "bob", "--password-stdin", stdin=b"secret\n").returncode == 0
    assert instance.mailsrv("alias", "add", "sales", USER).returncode == 0
    assert instance.mailsrv("alias", "add", "all", "sales", "bob").returncode == 0
    try:
        instance.up()
        yield instance
    finally:  # also where it did not come up whole
        instance.down()
        shutil.rmtree(folder)


def logged_in(instance: Instance) -> Client:
    client = Client(instance.submissions_port, certificate=instance.certificate)
    client.begin()
    assert client.say(plain(USER, instance.password)) == "235 2.7.0 authenticated\r\n"
    return client


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def test_submission_takes_no_mail_without_a_login(instance: Instance) -> None:
    with Client(instance.submission_port) as client:
        client.begin()
        assert client.say("MAIL FROM:<admin@localhost>") == "530 5.7.0 authentication required\r\n"


def test_the_port_for_mail_from_elsewhere_relays_nothing_and_offers_no_login(instance: Instance) -> None:
    with Client(instance.smtp_port) as client:
        assert "AUTH" not in client.begin()
        assert client.say(plain(USER, instance.password)).startswith("502 5.5.1 ")
        answer = client.transact("admin@localhost", "bob@example.net", CONTENT)
        assert answer == "550 5.7.1 relaying denied\r\n"


def test_mail_for_elsewhere_is_accepted_from_a_user_and_waits_for_the_relay(instance: Instance) -> None:
    before = set((instance.spool / "remote").iterdir())
    with logged_in(instance) as client:
        answer = client.transact("admin@localhost", "bob@example.net", CONTENT)
    assert answer.startswith("250 2.0.0 queued as ")
    (path,) = wait_until(lambda: set((instance.spool / "remote").iterdir()) - before, "an entry in remote/")
    head, _, message = path.read_bytes().decode().partition("X-EndOfInjectedXHeaders: 0\r\n")
    assert "X-Receiver: <bob@example.net>\r\n" in head
    assert re.search(
        r'with=ESMTPSA from="client.example" \[127.0.0.1\] tls="TLSv1.\d \S+" auth=admin@localhost\r', head
    )
    assert re.match(
        r"Received: from client.example \(\[127.0.0.1\]\)\r\n\tby localhost \(mailsrv\) with ESMTPSA", message
    )
    assert re.search(r"\(TLSv1\.\d [A-Z0-9_-]+\)", message)


@pytest.mark.parametrize("address", ["admin@localhost", "ADMIN@LOCALHOST", "sales@localhost", "all@localhost", ""])
def test_a_user_sends_from_the_own_address_an_alias_that_leads_there_or_none(address: str, instance: Instance) -> None:
    with logged_in(instance) as client:
        assert client.say(f"MAIL FROM:<{address}>") == "250 2.1.0 sender OK\r\n"


@pytest.mark.parametrize("address", ["bob@localhost", "alice@example.org", "nobody@localhost", "admin@example.org"])
def test_a_user_does_not_send_from_an_address_of_somebody_else(address: str, instance: Instance) -> None:
    with logged_in(instance) as client:
        assert client.say(f"MAIL FROM:<{address}>") == "550 5.7.1 you may not send from this address\r\n"


def test_date_and_message_id_are_added_where_a_user_left_them_out(instance: Instance) -> None:
    full = CONTENT.replace(b"\r\n\r\n", b"\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMESSAGE-ID: <a@b>\r\n\r\n", 1)
    with logged_in(instance) as client:
        for content in (CONTENT, full, b"no header at all\r\n"):
            assert client.transact("admin@localhost", "bob@localhost", content).startswith("250 ")
    box = instance.new_mail.parents[1] / "bob" / "new"
    wait_until(lambda: len(list(box.iterdir())) == 3, "three messages")
    bare, complete, headless = (path.read_text() for path in sorted(box.iterdir()))
    assert len(re.findall(r"(?m)^Date: ", bare)) == 1
    assert re.search(r"(?m)^Message-ID: <\S+@localhost>\n\nIt works\.\n\Z", bare)
    assert complete.endswith(full.decode().replace("\r\n", "\n"))
    assert re.search(r"(?m)^Date: .*\nMessage-ID: <\S+>\n\nno header at all\n\Z", headless)


def test_on_the_port_for_mail_from_elsewhere_nothing_is_added(instance: Instance) -> None:
    with Client(instance.smtp_port) as client:
        client.begin()
        assert client.transact("alice@example.org", USER, CONTENT).startswith("250 ")
    assert instance.wait_delivered(1)[-1].endswith(CONTENT.replace(b"\r\n", b"\n"))
    assert b"Message-ID" not in instance.delivered()[-1]


def test_what_is_glued_behind_starttls_is_never_run(instance: Instance) -> None:
    with Client(instance.submission_port) as client:
        client.begin()
        client.send(b"STARTTLS\r\nRSET\r\nMAIL FROM:<injected@localhost>\r\n")
        assert client.hear() == "220 2.0.0 ready to start TLS\r\n"
        client.begin_tls(instance.certificate)
        assert client.say("MAIL FROM:<admin@localhost>").startswith("503 ")  # EHLO is to be said anew
        answer = client.say("EHLO client.example")
        assert "STARTTLS" not in answer
        assert "REQUIRETLS" in answer
        assert client.say("NOOP") == "250 2.0.0 OK\r\n"


def test_a_wrong_password_is_refused_and_the_right_one_taken_afterwards(instance: Instance) -> None:
    with Client(instance.submissions_port, certificate=instance.certificate) as client:
        client.begin()
        assert client.say(plain(USER, "wrong")) == "535 5.7.8 authentication credentials invalid\r\n"
        assert client.say(plain("nobody@localhost", "wrong")) == "535 5.7.8 authentication credentials invalid\r\n"
        assert client.say("AUTH PLAIN AAAA").startswith("501 5.5.2 ")
        assert client.say(plain(USER, instance.password)).startswith("235 ")
