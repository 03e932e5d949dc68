"""Who is let in, and how: proxies, TLS pairs that change, LMTP, limits, bans, slow clients; against real instances."""

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsrv.host.certificates import self_signed
from tests.system.dialogue import Client
from tests.system.instance import USER, Instance, wait_until
from tests.system.test_submission import plain

CONTENT = b"From: alice@example.org\r\nTo: admin@localhost\r\nSubject: hello\r\n\r\nIt works.\r\n"
EVERYBODY = ["127.0.0.0/8"]
Make = Callable[..., Instance]


def proxied(address: str) -> bytes:
    return f"PROXY TCP4 {address} 192.0.2.1 40000 25\r\n".encode()


def proxied_v2(address: str) -> bytes:
    octets = bytes(map(int, address.split("."))) + bytes((192, 0, 2, 1)) + struct.pack("!HH", 40000, 25)
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(octets)) + octets


def test_a_proxy_tells_who_the_client_is_and_a_stranger_logs_in_over_tls_only(make_instance: Make) -> None:
    instance = make_instance(listen__proxies=EVERYBODY, smtp__max_connections_per_address=2, logins__delay=0)
    for header in (proxied("192.0.2.7"), proxied_v2("192.0.2.7")):
        with Client(instance.smtp_port, first=header) as client:
            client.begin()
            assert client.transact("alice@example.org", USER, CONTENT).startswith("250 ")
    assert all(b"Received: from client.example ([192.0.2.7])" in each for each in instance.wait_delivered(2))

    with Client(instance.smtp_port, first=b"EHLO no.proxy\r\n") as client:
        assert client.is_closed()

    with Client(instance.submission_port, first=proxied("127.0.0.1")) as client:  # on the proxy's word alone
        answer = client.begin()
        assert "STARTTLS" in answer
        assert "AUTH" not in answer
        assert client.say(plain(USER, instance.password)).startswith("538 5.7.11 ")
        assert client.say("MAIL FROM:<admin@localhost>") == "530 5.7.0 encryption required, issue STARTTLS first\r\n"

    with Client(instance.submissions_port, first=proxied("192.0.2.7"), certificate=instance.certificate) as client:
        client.begin()
        assert client.say(plain(USER, instance.password)).startswith("235 ")

    held = [Client(instance.smtp_port, first=proxied("192.0.2.9")) for _ in range(2)]
    assert all(client.hear().startswith("220 ") for client in held)
    with Client(instance.smtp_port, first=proxied("192.0.2.9")) as client:
        assert client.hear() == "421 4.7.0 too many connections from your address, try again later\r\n"
        assert client.is_closed()
    with Client(instance.smtp_port, first=proxied("192.0.2.10")) as client:
        assert client.hear().startswith("220 ")
    for client in held:
        client.socket.close()


def test_failed_logins_by_smtp_and_pop3_together_ban_an_address_until_it_is_lifted(make_instance: Make) -> None:
    instance = make_instance(listen__proxies=EVERYBODY, logins__delay=0, logins__ban_after=3)
    bad = "203.0.113.5"
    with Client(instance.submissions_port, first=proxied(bad), certificate=instance.certificate) as client:
        client.begin()
        for _ in range(2):
            assert client.say(plain(USER, "wrong")).startswith("535 ")
    with Client(instance.pop3s_port, first=proxied(bad), certificate=instance.certificate) as client:
        client.send(b"USER admin\r\nPASS wrong\r\n")
        (ban,) = wait_until(lambda: instance.status()["bans"], "the ban is shown")
    assert (ban["address"], ban["failures"]) == (bad, 3)
    assert bad in instance.mailsrv("status").stdout
    with Client(instance.smtp_port, first=proxied(bad)) as client:
        assert client.hear() == "421 4.7.0 too many failed logins from your address, try again later\r\n"
    with Client(instance.smtp_port, first=proxied("203.0.113.6")) as client:
        assert client.hear().startswith("220 ")
    assert instance.mailsrv("ban", "lift", bad).returncode == 0
    with Client(instance.smtp_port, first=proxied(bad)) as client:
        assert client.hear().startswith("220 ")


def test_a_failed_login_is_answered_later_each_time(make_instance: Make) -> None:
    instance = make_instance(logins__delay=0.2)
    with Client(instance.submission_port) as client:
        client.begin()
        waits = []
        for _ in range(3):
            start = time.monotonic()
            assert client.say(plain(USER, "wrong")).startswith("535 ")
            waits.append(time.monotonic() - start)
    assert waits[0] >= 0.2
    assert waits[1] >= 0.4
    assert waits[2] >= 0.8


def test_a_changed_certificate_is_used_without_a_restart_and_each_domain_may_have_its_own(
    make_instance: Make, place: Path
) -> None:
    instance = make_instance()
    pid = instance.pid("smtp")
    old = place / "old.pem"
    shutil.copy(instance.certificate, old)
    with Client(instance.submissions_port, certificate=old) as running:
        running.begin()
        other = put_pair(instance.certificate.parent / "mail.example.org", "mail.example.org")
        put_pair(instance.certificate.parent, "localhost")

        def is_shown(certificate: Path, name: str) -> bool:
            try:
                with Client(instance.submissions_port) as client:
                    client.begin_tls(certificate, name)
                    return client.hear().startswith("220 ")
            except OSError:
                return False

        wait_until(lambda: is_shown(instance.certificate, "localhost"), "the new certificate is shown")
        wait_until(lambda: is_shown(other, "mail.example.org"), "the domain's own certificate is shown")
        assert not is_shown(old, "localhost")
        assert running.say("NOOP").startswith("250 ")
    instance.certificate.write_text("broken")
    wait_until(lambda: "cert.pem" in json.dumps(instance.status()), "the broken certificate is told of")
    assert is_shown(other, "mail.example.org")
    assert instance.pid("smtp") == pid


def put_pair(folder: Path, name: str) -> Path:
    """A new TLS pair, for the instance's user to read."""
    certificate, key = self_signed(name)
    folder.mkdir(exist_ok=True)
    for path, octets in ((folder / "key.pem", key), (folder / "cert.pem", certificate)):
        path.write_bytes(octets)
        path.chmod(0o644)
    folder.chmod(0o755)
    return folder / "cert.pem"


def test_lmtp_answers_for_each_recipient_over_its_own_socket(make_instance: Make, place: Path) -> None:
    place.chmod(0o755)
    path = place / "lmtp"
    instance = make_instance(listen__lmtp=str(path))
    with Client(0, path=path) as client:
        assert client.hear() == "220 localhost LMTP mailsrv\r\n"
        assert client.say("EHLO front.example").startswith("500 ")
        client.say("LHLO front.example")
        client.say("MAIL FROM:<alice@example.org>")
        assert client.say(f"RCPT TO:<{USER}>").startswith("250 ")
        assert client.say("RCPT TO:<nobody@localhost>").startswith("550 5.1.1 ")
        assert client.say("RCPT TO:<bob@example.net>").startswith("550 5.7.1 ")
        assert client.say("RCPT TO:<postmaster>").startswith("250 ")
        client.say("DATA")
        client.send(CONTENT + b".\r\n")
        assert [client.hear()[:10] for _ in range(2)] == ["250 2.0.0 "] * 2
        assert client.say("QUIT").startswith("221 ")
    (message,) = instance.wait_delivered(1)
    assert b"Received: from front.example (local)\n\tby localhost (mailsrv) with LMTP id" in message
    instance.supervisorctl("restart", "smtp")
    instance.wait_until_running("smtp")
    with Client(0, path=path) as client:
        assert client.hear().startswith("220 ")


@pytest.mark.parametrize("way", ["command", "content", "content behind a megabyte"])
def test_one_octet_now_and_then_keeps_no_connection_for_ever(way: str, make_instance: Make) -> None:
    instance = make_instance(smtp__idle_timeout=1, smtp__min_content_rate=100)
    with Client(instance.smtp_port) as client:
        client.begin()
        if way != "command":
            for line in ("MAIL FROM:<alice@example.org>", f"RCPT TO:<{USER}>", "DATA"):
                client.say(line)
        if way == "content behind a megabyte":
            client.send(CONTENT + b"It works.\r\n" * 100_000)
        client.socket.settimeout(0.2)
        deadline = time.monotonic() + 20
        answer = ""
        while not answer and time.monotonic() < deadline:
            client.send(b"x")
            try:
                answer = client.hear()
            except TimeoutError:
                continue
        assert answer.startswith("421 4.4.2 ")


def test_a_client_that_never_begins_with_tls_is_cut(make_instance: Make) -> None:
    instance = make_instance()
    with Client(instance.submissions_port, first=b"EHLO in.the.clear\r\n") as client:
        alert = client.socket.recv(100)
        assert alert[:1] == b"\x15"  # a TLS alert
        assert client.is_closed()


def test_more_connections_than_all_may_have_are_turned_away(make_instance: Make) -> None:
    instance = make_instance(smtp__max_connections=2)
    held = [Client(instance.smtp_port) for _ in range(2)]
    assert all(client.hear().startswith("220 ") for client in held)
    with Client(instance.smtp_port) as client:
        assert client.hear() == "421 4.7.0 too many connections, try again later\r\n"
    with Client(instance.submissions_port) as client:
        assert client.is_closed()
    for client in held:
        client.socket.close()
