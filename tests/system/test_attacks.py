"""What only somebody with bad intentions sends; against real instances."""

import contextlib
from collections.abc import Callable

from mailsrv.store.heartbeat import read_beat
from tests.system.dialogue import Client
from tests.system.forged import HANDSHAKE, Forger
from tests.system.instance import USER, Instance, wait_until
from tests.system.test_listeners import EVERYBODY, proxied
from tests.system.test_submission import plain

Make = Callable[..., Instance]
KEY_UPDATE_BEGUN = bytes((24, 0, 0, 1))  # its octet is missing: until it comes, OpenSSL can write nothing


def test_a_handshake_message_that_never_ends_cuts_its_own_connection_and_no_other(make_instance: Make) -> None:
    instance = make_instance(smtp__idle_timeout=0.1)
    pid = instance.pid("smtp")
    with Client(instance.submissions_port) as client:
        forger = Forger(client)
        assert forger.hear().startswith(b"220 ")
        forger.send(HANDSHAKE, KEY_UPDATE_BEGUN)
        assert client.is_closed()
    assert instance.pid("smtp") == pid
    assert "Traceback" not in instance.log("smtp")


def test_a_client_that_only_keeps_us_busy_does_not_look_like_a_program_that_spins(make_instance: Make) -> None:
    instance = make_instance()

    def progress() -> int:
        beat = read_beat(instance.root / "var" / "run" / "smtp.beat")
        assert beat is not None
        return beat.progress

    with Client(instance.smtp_port) as client:
        client.begin()
        before = wait_until(progress, "the connection is counted")
        for _ in range(5):
            client.say("EHLO client.example")
        wait_until(lambda: progress() >= before + 5, "the commands are counted")


def test_a_ban_holds_on_connections_that_were_open_before(make_instance: Make) -> None:
    instance = make_instance(listen__proxies=EVERYBODY, logins__delay=0, logins__ban_after=3)
    ports = (instance.submissions_port, instance.submissions_port, instance.pop3s_port)
    with contextlib.ExitStack() as stack:
        guesser, right, reader = (
            stack.enter_context(Client(port, first=proxied("203.0.113.5"), certificate=instance.certificate))
            for port in ports
        )
        right.begin()
        guesser.begin()
        reader.send(f"USER {USER}\r\n".encode())
        for _ in range(3):
            assert guesser.say(plain(USER, "wrong")).startswith("535 ")
        for client in (guesser, right):
            answer = client.say(plain(USER, instance.password))
            assert answer == "421 4.7.0 too many failed logins from your address, try again later\r\n"
            assert client.is_closed()
        reader.send(f"PASS {instance.password}\r\n".encode())
        heard = b"".join(iter(lambda: reader.socket.recv(1000), b""))
        assert heard.endswith(b"-ERR [SYS/TEMP] too many failed logins from your address, try again later\r\n")


def test_an_account_that_is_removed_or_gets_another_password_sends_no_more(instance: Instance) -> None:
    with Client(instance.submission_port) as client:
        client.begin()
        assert client.say(plain(USER, instance.password)).startswith("235 ")
        assert client.say(f"MAIL FROM:<{USER}>").startswith("250 ")
        client.say("RSET")
        assert instance.mailsrv("user", "passwd", USER, "--password-stdin", stdin=b"another").returncode == 0
        assert client.say(f"MAIL FROM:<{USER}>") == "530 5.7.0 authentication required\r\n"
        (instance.root / "var" / "accounts").write_text("")
        assert client.say(f"MAIL FROM:<{USER}>") == "530 5.7.0 authentication required\r\n"


def test_domains_beyond_ascii_are_known_also_after_root_was_given_up(instance: Instance) -> None:
    with Client(instance.smtp_port) as client:
        client.begin()
        assert client.say("MAIL FROM:<jörg@bücher.example> SMTPUTF8").startswith("250 ")
        for line in (f"RCPT TO:<{USER}>", "DATA"):
            client.say(line)
        client.send(b"Subject: hello\r\n\r\nIt works.\r\n.\r\n")
        assert client.hear().startswith("250 ")
    (message,) = instance.wait_delivered(1)
    assert "Return-Path: <jörg@bücher.example>" in message.decode()
