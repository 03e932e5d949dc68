"""In by SMTP or as a dropped file, out by POP3, with real clients."""

import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.instance import CORPUS, USER, Instance, wait_until

MESSAGE = b"From: alice@example.org\r\nTo: admin@localhost\r\nSubject: dots\r\n\r\n.\r\n..two\r\n.end\r\n\r\n"


def _curl(*words: str) -> bytes:
    return subprocess.run(["curl", "-sS", *words], check=True, capture_output=True, timeout=30).stdout


def test_curl_sends_and_fetches_byte_for_byte(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "message.eml").write_bytes(MESSAGE)
    url = f"smtp://127.0.0.1:{instance.smtp_port}"
    _curl(url, "--mail-from", "alice@example.org", "--mail-rcpt", USER, "--upload-file", str(tmp_path / "message.eml"))
    instance.wait_delivered(1)
    login = ["--user", f"{USER}:{instance.password}"]
    plain = _curl(f"pop3://127.0.0.1:{instance.pop3_port}/1", *login)
    over_tls = _curl("--insecure", f"pop3s://127.0.0.1:{instance.pop3s_port}/1", *login)
    assert plain == over_tls
    assert plain.endswith(b"\r\n" + MESSAGE)
    assert plain.startswith(b"Return-Path: <alice@example.org>\r\nDelivered-To: admin@localhost\r\nReceived: from ")


def test_swaks_gets_a_reply_that_names_the_entry(instance: Instance) -> None:
    command = ["swaks", "--server", f"127.0.0.1:{instance.smtp_port}", "--to", USER, "--from", "bob@example.org"]
    said = subprocess.run([*command, "--pipeline"], check=True, capture_output=True, text=True, timeout=30).stdout
    assert "250 2.0.0 queued as " in said
    entry_id = said.partition("queued as ")[2].split()[0]
    (message,) = instance.wait_delivered(1)
    assert f"id {entry_id}".encode() in message


def test_unknown_mailboxes_and_other_hosts_are_refused(instance: Instance) -> None:
    with smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=20) as client:
        client.ehlo()
        client.mail("alice@example.org")
        assert client.rcpt("nobody@localhost") == (550, b"5.1.1 no such mailbox here")
        assert client.rcpt("bob@elsewhere.example") == (550, b"5.7.1 relaying denied")
        assert client.rcpt("postmaster")[0] == 250
        assert client.rcpt("Admin@LOCALHOST")[0] == 250


def test_a_message_deleted_by_pop3_is_gone_after_quit_only(instance: Instance) -> None:
    instance.send(MESSAGE)
    instance.wait_delivered(1)
    login = ["--user", f"{USER}:{instance.password}"]
    _curl(f"pop3://127.0.0.1:{instance.pop3_port}/1", *login, "--request", "DELE", "--head")
    assert instance.fetch() == []
    assert instance.delivered() == []


def test_every_message_of_the_corpus_survives_smtp_and_drop(instance: Instance) -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"no corpus at {CORPUS}")
    corpus = [path for path in sorted(CORPUS.rglob("*.*")) if path.name != "README.md"]
    originals = [path.read_bytes().replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n" for path in corpus]
    originals = [octets.replace(b"\n", b"\r\n") for octets in originals]
    refused: dict[str, str] = {}
    with smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=20) as client:
        for path, octets in zip(corpus, originals, strict=True):
            try:
                client.sendmail("corpus@example.org", [USER], octets)
            except smtplib.SMTPDataError as error:
                refused[str(path.relative_to(CORPUS))] = f"{error.smtp_code} {error.smtp_error!r}"
    assert refused == {}  # no file of the corpus has a bare CR
    for number, path in enumerate(corpus):
        block = f"X-Sender: <corpus@example.org>\nX-Receiver: <{USER}>\nX-EndOfInjectedXHeaders: 0\n".encode()
        instance.drop(f"{number:04}.eml", block + path.read_bytes())
    instance.wait_delivered(2 * len(corpus))
    fetched = instance.fetch()
    sent, dropped = fetched[: len(corpus)], fetched[len(corpus) :]
    assert [message.partition(b" +0000\r\n")[2] for message in sent] == originals
    left = list(originals)
    for message in dropped:
        left.remove(next(octets for octets in left if message.endswith(octets) and _is_only_trace(message, octets)))
    assert left == []


def _is_only_trace(message: bytes, original: bytes) -> bool:
    """Whether what stands before the original is ours alone."""
    before = message[: len(message) - len(original)]
    names = [line.partition(b":")[0] for line in before.splitlines() if not line.startswith(b"\t")]
    ours = [b"Return-Path", b"Delivered-To", b"Received"]
    return names[:3] == ours and set(names[3:]) <= {b"Date", b"Message-ID"}


def test_mailsrv_send_takes_standard_input_and_options(instance: Instance) -> None:
    done = instance.mailsrv("send", "-", "--from", "me@example.org", "--to", "admin", stdin=b"Subject: piped\n\nbody\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("queued as ")
    (message,) = instance.wait_delivered(1)
    assert message.startswith(b"Return-Path: <me@example.org>\n")
    assert message.endswith(b"Subject: piped\n\nbody\n")


def test_without_events_a_dropped_file_arrives_by_the_next_scan(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(delivery__events=False, delivery__scan_interval=3)
    wait_until(lambda: instance.status()["programs"][0]["beat_age"] is not None, "delivery beats")
    instance.drop("message.eml", MESSAGE)
    instance.wait_delivered(1)
    (delivery,) = [program for program in instance.status()["programs"] if program["name"] == "delivery"]
    assert delivery["beat_age"] < 3  # the heart beats between scans as well
    assert delivery["facts"]["taken"] == 1


def test_a_message_to_somebody_unknown_among_others_is_reported_to_its_sender(instance: Instance) -> None:
    instance.drop("two.eml", b"From: admin@localhost\nTo: admin@localhost, nobody@localhost\n\nhello\n")
    messages = instance.wait_delivered(2)
    report = next(message for message in messages if b"multipart/report" in message)
    assert report.startswith(b"Return-Path: <>\n")
    assert b"Final-Recipient: rfc822; nobody@localhost\n" in report
    assert b"Status: 5.1.1\n" in report
