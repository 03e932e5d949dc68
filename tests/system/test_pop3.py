"""POP3 against a real instance: STLS, logins, languages, other programs in the mailbox, kills."""

import contextlib
import os
import poplib
import shutil
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mailsrv.store.maildrop import LOCK_NAME
from tests.system.dialogue import Client
from tests.system.instance import PATIENCE, USER, Instance, wait_until
from tests.system.test_listeners import EVERYBODY, Make, proxied
from tests.system.test_submission import plain

LETTER = b"Subject: %s\r\n\r\nIt works.\r\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Instance]:
    """One for all tests that leave no mail."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-"))
    instance = Instance.create(folder / "i", {"logins__delay": 0})
    try:
        instance.up()
        yield instance
    finally:
        instance.down()
        shutil.rmtree(folder)


def context_of(instance: Instance) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(instance.certificate))


@contextlib.contextmanager
def connected(instance: Instance) -> Iterator[poplib.POP3]:
    client = poplib.POP3("localhost", instance.pop3_port, timeout=PATIENCE)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def logged_in(instance: Instance) -> Iterator[poplib.POP3]:
    with connected(instance) as client:
        client.user(USER)
        client.pass_(instance.password)
        yield client


def refused_with(instance: Instance, words: str) -> bool:
    """Whether the login is refused so."""
    with pytest.raises(poplib.error_proto) as refusal, logged_in(instance):
        pass
    return words in str(refusal.value)


def messages(instance: Instance) -> int:
    with logged_in(instance) as client:
        number, _ = client.stat()
        client.quit()
    return number


def sweeps(instance: Instance) -> int:
    (facts,) = [each["facts"] for each in instance.status()["programs"] if each["name"] == "pop3"]
    return int(facts.get("expiry_sweeps", 0))


def test_stls_changes_the_capabilities_and_the_login_goes_over_tls(shared: Instance) -> None:
    with connected(shared) as client:
        before = client.capa()
        assert "STLS" in before
        assert before["SASL"] == ["SCRAM-SHA-256", "PLAIN"]
        client.stls(context_of(shared))
        after = client.capa()
        assert "STLS" not in after
        assert after["SASL"] == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"]
        client.user(USER)
        client.pass_(shared.password)
        assert client.stat() == (0, 0)
        client.quit()


def test_what_comes_with_stls_is_dropped(shared: Instance) -> None:
    with Client(shared.pop3_port) as client:
        assert client.line().startswith("+OK ")
        client.send(b"STLS\r\nUSER mallory\r\nPASS secret\r\nCAPA\r\n")
        assert client.line() == "+OK begin with TLS now\r\n"
        client.begin_tls(shared.certificate)
        client.send(b"QUIT\r\n")
        assert client.line() == "+OK goodbye\r\n"


@pytest.mark.parametrize("encrypted", [False, True])
def test_auth_logs_in_with_and_without_an_initial_response(shared: Instance, *, encrypted: bool) -> None:
    port = shared.pop3s_port if encrypted else shared.pop3_port
    for lines in ([plain(USER, shared.password)], plain(USER, shared.password).rsplit(" ", 1)):
        with Client(port, certificate=shared.certificate if encrypted else None) as client:
            client.line()
            for line in lines:
                client.send(line.encode() + b"\r\n")
                answer = client.line()
                assert answer == ("+ \r\n" if line == "AUTH PLAIN" else "+OK 0 messages\r\n")
            client.send(b"QUIT\r\n")
            assert client.line() == "+OK goodbye\r\n"


def test_a_stranger_logs_in_over_tls_only(make_instance: Make) -> None:
    instance = make_instance(listen__proxies=EVERYBODY)
    with Client(instance.pop3_port, first=proxied("203.0.113.9")) as client:
        client.line()
        client.send(b"CAPA\r\n")
        capabilities = client.lines_to_dot()
        assert "STLS" in capabilities
        assert not [each for each in capabilities if each.startswith(("USER", "SASL"))]
        for line in ("USER admin", plain(USER, instance.password)):
            client.send(line.encode() + b"\r\n")
            assert client.line() == "-ERR a password is taken over TLS only\r\n"
        client.send(b"STLS\r\n")
        client.line()
        client.begin_tls(instance.certificate)
        client.send(f"{plain(USER, instance.password)}\r\n".encode())
        assert client.line() == "+OK 0 messages\r\n"


def test_a_wrong_password_is_told_in_the_language_that_was_asked_for(shared: Instance) -> None:
    with Client(shared.pop3_port) as client:
        client.line()
        client.send(b"LANG fr-CA\r\n")
        assert client.line() == "+OK fr d\u00e9sormais en fran\u00e7ais\r\n"
        client.send(f"{plain(USER, 'wrong')}\r\n".encode())
        assert client.line() == "-ERR [AUTH] utilisateur ou mot de passe erron\u00e9\r\n"


def test_a_broken_mailbox_is_no_wrong_password(instance: Instance) -> None:
    box = instance.new_mail.parent
    shutil.rmtree(box, ignore_errors=True)
    box.parent.mkdir(parents=True, exist_ok=True)
    box.write_text("in the way")
    assert refused_with(instance, "[SYS/PERM] this maildrop is out of order")
    box.unlink()
    shutil.chown(box.parent, "nobody")
    assert messages(instance) == 0


def test_a_second_session_is_refused_until_the_first_has_gone_also_by_kill(instance: Instance) -> None:
    with logged_in(instance):
        assert refused_with(instance, "[IN-USE]")
        pid = instance.pid("pop3")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: instance.pid("pop3") not in (0, pid), "pop3 is there again")
        assert messages(instance) == 0


def test_nothing_is_deleted_when_the_client_just_goes_away(instance: Instance) -> None:
    instance.send(LETTER % b"one")
    instance.wait_delivered(1)
    with logged_in(instance) as client:
        client.dele(1)
        client.sock.shutdown(socket.SHUT_RDWR)

    def found_again() -> int:
        try:
            return messages(instance)
        except poplib.error_proto:  # the first session has not ended yet
            return 0

    assert wait_until(found_again, "the message is still there") == 1


def test_a_message_that_is_removed_or_moved_meanwhile_is_told_or_found(instance: Instance) -> None:
    for name in (b"one", b"two", b"three"):
        instance.send(LETTER % name)
    instance.wait_delivered(3)
    with logged_in(instance) as client:
        one, two, three = sorted(instance.new_mail.iterdir(), key=lambda path: path.name)
        one.unlink()
        two.rename(instance.new_mail.parent / "cur" / f"{two.name}:2,S")
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\] this message cannot be read now"):
            client.retr(1)
        assert b"Subject: two" in client.retr(2)[1]
        client.dele(1)
        client.dele(2)
        client.quit()
    assert [path.name for path in (instance.new_mail.parent / "cur").iterdir()] == []
    assert list(instance.new_mail.iterdir()) == [three]


def test_what_another_program_puts_in_the_place_of_a_message_is_not_sent_for_it(instance: Instance) -> None:
    (instance.new_mail / "1.small").write_bytes(b"Subject: small\n\nIt works.\n")
    (instance.new_mail / "2.pipe").write_bytes(b"Subject: pipe\n\nIt works.\n")
    (instance.new_mail / "3.large").write_bytes(b"Subject: large\n\n" + (b"x" * 76 + b"\n") * 100_000)
    (instance.new_mail / "4.last").write_bytes(b"Subject: last\n\nIt works.\n")
    os.mkfifo(instance.new_mail / "5.pipe")
    for path in instance.new_mail.iterdir():
        path.chmod(0o644)
    with logged_in(instance) as client:
        assert client.stat()[0] == 4
        (instance.new_mail / "1.small").write_bytes(b"Subject: small\n\nIt works no more.\n")
        (instance.new_mail / "2.pipe").unlink()
        os.mkfifo(instance.new_mail / "2.pipe")
        (instance.new_mail / "3.large").write_bytes(b"Subject: large\n\n" + (b"x" * 75 + b"\n") * 100_000)
        for number in (1, 2):
            with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\] this message cannot be read now"):
                client.retr(number)
        assert client.retr(4)[1] == [b"Subject: last", b"", b"It works."]
        with pytest.raises(poplib.error_proto, match="EOF"):  # it has no end, so that nobody takes it for whole
            client.retr(3)
    with logged_in(instance) as client:
        assert client.list()[1] == [b"1 37", b"2 %d" % (18 + 77 * 100_000), b"3 28"]
        assert client.retr(1)[1][-1] == b"It works no more."
        client.quit()


def test_a_login_too_soon_is_refused_also_after_a_restart(make_instance: Make) -> None:
    instance = make_instance(pop3__login_delay=3600)
    with logged_in(instance) as client:
        assert client.capa()["LOGIN-DELAY"] == ["3600"]
        client.quit()
    assert refused_with(instance, "[LOGIN-DELAY]")
    instance.supervisorctl("restart", "pop3")
    assert refused_with(instance, "[LOGIN-DELAY]")
    os.utime(instance.new_mail.parent / LOCK_NAME, (0, time.time() - 3601))
    assert messages(instance) == 0


def test_what_expires_is_announced_and_what_is_young_stays(make_instance: Make) -> None:
    instance = make_instance(pop3__expire_days=1)
    with connected(instance) as client:
        assert client.capa()["EXPIRE"] == ["1"]
    instance.send(LETTER % b"young")
    instance.wait_delivered(1)
    instance.supervisorctl("restart", "pop3")
    wait_until(lambda: sweeps(instance), "a sweep")
    assert len(instance.delivered()) == 1
    assert instance.mailsrv("status").returncode == 0


def test_a_header_in_utf8_goes_to_who_says_utf8_where_that_is_asked_for(make_instance: Make) -> None:
    instance = make_instance(pop3__utf8_headers="refuse")
    instance.send("Subject: \u00e9t\u00e9\r\n\r\nIt works.\r\n".encode())
    instance.wait_delivered(1)
    with logged_in(instance) as client, pytest.raises(poplib.error_proto, match=r"\[UTF8\] this message needs"):
        client.retr(1)

    def retrieved() -> list[bytes]:
        with connected(instance) as client:
            client.utf8()
            client.user(USER)
            try:
                client.pass_(instance.password)
            except poplib.error_proto:  # the first session has not ended yet
                return []
            return client.retr(1)[1]

    assert "Subject: \u00e9t\u00e9".encode() in wait_until(retrieved, "a session that says UTF8")


def test_clients_that_ask_and_do_not_read_or_send_a_line_without_end_cost_no_memory(instance: Instance) -> None:
    large = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000
    instance.send(large)
    instance.wait_delivered(1)
    process = psutil.Process(instance.pid("pop3"))
    with Client(instance.pop3_port) as lazy, Client(instance.pop3_port) as endless:
        lazy.line()
        lazy.send(f"USER {USER}\r\nPASS {instance.password}\r\n".encode())
        assert lazy.line().startswith("+OK")
        assert lazy.line() == "+OK 1 messages\r\n"
        before = process.memory_info().rss
        lazy.send(b"RETR 1\r\n" * 20 + b"LIST\r\nNOOP\r\n" * 10_000)
        for _ in range(200):
            endless.send(b"x" * 100_000)
        assert endless.line().startswith("+OK")
        assert endless.line() == "-ERR lines end with CRLF and are at most 255 octets long\r\n"
        assert process.memory_info().rss - before < 8_000_000
        assert lazy.line().endswith(" octets\r\n")
        assert len("".join(lazy.lines_to_dot())) == len(large) - large.count(b"\r\n") * 2 + received_of(instance)


def test_ten_thousand_commands_at_once_are_answered_in_their_order_while_others_are_served(instance: Instance) -> None:
    (instance.new_mail / "1.small").write_bytes(b"Subject: small\n\n.\nIt works.\n")
    (instance.new_mail / "1.small").chmod(0o644)
    with Client(instance.pop3_port) as client:
        client.line()
        client.send(f"USER {USER}\r\nPASS {instance.password}\r\n".encode())
        assert [client.line() for _ in range(2)][1] == "+OK 1 messages\r\n"
        client.send(b"STAT\r\nRETR 1\r\nNOOP\r\nUIDL 1\r\nTOP 1 1\r\n" * 2000)
        with connected(instance) as other:
            other.quit()
        expected = (
            "+OK 1 32\r\n+OK 32 octets\r\nSubject: small\r\n\r\n..\r\nIt works.\r\n.\r\n+OK\r\n+OK 1 1.small\r\n"
            "+OK top of the message\r\nSubject: small\r\n\r\n..\r\n.\r\n"
        )
        lines = expected.count("\r\n")
        for _ in range(2000):
            assert "".join(client.line() for _ in range(lines)) == expected
        client.send(b"QUIT\r\n")
        assert client.line() == "+OK goodbye\r\n"


def received_of(instance: Instance) -> int:
    """Octets of the trace lines before the one message, without line ends."""
    (message,) = instance.delivered()
    return len(message.partition(b"Subject: large\n")[0].replace(b"\n", b""))


def test_the_id_of_a_message_outlives_restart_flags_backup_and_restoring(instance: Instance) -> None:
    for name in (b"one", b"two"):
        instance.send(LETTER % name)
    instance.wait_delivered(2)

    def ids() -> list[bytes]:
        with logged_in(instance) as client:
            found = client.uidl()[1]
            client.quit()
        return found

    before = ids()
    assert len(set(before)) == 2
    one, _ = sorted(instance.new_mail.iterdir())
    one.rename(instance.new_mail.parent / "cur" / f"{one.name}:2,FS")
    instance.supervisorctl("restart", "pop3")
    assert ids() == before
    box = instance.new_mail.parent
    backup = box.with_name("backup")
    shutil.copytree(box, backup)
    shutil.rmtree(box)
    shutil.copytree(backup, box)
    for path in (box, *box.rglob("*")):
        shutil.chown(path, "nobody")
    assert ids() == before
