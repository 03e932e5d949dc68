"""The relay sends to a real Postfix and to its smtp-sink, which refuses and hangs up at each step."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dkim
import pytest

from tests.clients.client import skip_missing
from tests.clients.messages import NAMES, Message
from tests.clients.next_hop import DOMAIN, SINK, NextHop, sink
from tests.clients.postfix import PROGRAM
from tests.nameserver import nameserver
from tests.system.instance import Instance, free_port_base, wait_until

BLOCK = "X-Sender: <admin@localhost>{parameters}\r\nX-Receiver: <{to}>\r\nX-EndOfInjectedXHeaders: 0\r\n"


@pytest.fixture(scope="module")
def sending(open_place: Path) -> Iterator[Instance]:
    """An instance of its own that tries again soon."""
    instance = Instance.create(open_place / "sending", {"delivery__retry_after": [1]})
    instance.up()
    yield instance
    instance.down()


@pytest.fixture(scope="module")
def make_hop(open_place: Path, sending: Instance) -> Iterator[Callable[[str], NextHop]]:
    """Makes a started Postfix by the level of TLS that it asks for."""
    if not PROGRAM.exists():
        skip_missing("Postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix wants to be started by root")
    made: dict[str, NextHop] = {}

    def make(level: str) -> NextHop:
        if level not in made:
            made[level] = NextHop.configure(open_place / f"hop-{level}", sending, level)
            made[level].control("start")
        return made[level]

    yield make
    for hop in made.values():
        hop.control("stop")


def route(instance: Instance, place: str, *words: str) -> None:
    for command in (("relay", "smarthost", place, *words), ("restart", "relay")):
        done = instance.mailsrv(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def remote(instance: Instance) -> list[str]:
    return sorted(path.name for path in (instance.spool / "remote").iterdir())


def send(instance: Instance, message: Message, to: str) -> None:
    parameters = "" if message.recipient.isascii() else " SMTPUTF8"
    block = BLOCK.format(to=to, parameters=parameters).encode()
    instance.drop(f"{message.name}.eml", block + message.content)


@pytest.mark.parametrize("name", NAMES)
def test_a_message_comes_to_a_postfix_octet_for_octet_over_tls_that_is_verified(
    name: str, sending: Instance, make_hop: Callable[[str], NextHop], messages: dict[str, Message]
) -> None:
    hop = make_hop("encrypt")
    shutil.rmtree(hop.folder / "mail" / "box", ignore_errors=True)
    route(sending, f"localhost:{hop.port}", "--tls", "starttls", "--ca-file", "var/tls/cert.pem")
    send(sending, messages[name], f"dave@{DOMAIN}")
    (arrived,) = hop.wait_arrived(1)
    assert arrived.endswith(messages[name].content)
    head = arrived[: -len(messages[name].content)]
    assert b"by hop.example (Postfix) with " in head
    assert b"using TLSv1.3" in head
    wait_until(lambda: remote(sending) == [], "it has gone")
    assert sending.mailsrv("audit").returncode == 0


def test_what_a_postfix_was_sent_is_verified_by_the_keys_of_the_domain(
    sending: Instance, make_hop: Callable[[str], NextHop], messages: dict[str, Message]
) -> None:
    hop = make_hop("encrypt")
    shutil.rmtree(hop.folder / "mail" / "box", ignore_errors=True)
    route(sending, f"localhost:{hop.port}", "--tls", "starttls", "--ca-file", "var/tls/cert.pem")
    assert sending.mailsrv("dkim", "create", "localhost").returncode == 0
    try:
        for name in NAMES:
            message = messages[name]
            rest = re.sub(rb"^From:[^\n]*\n", b"", message.content, count=1, flags=re.M)
            send(sending, replace(message, content=b"From: admin@localhost\r\n" + rest), f"dave@{DOMAIN}")
        arrived = hop.wait_arrived(len(NAMES))
        found = json.loads(sending.mailsrv("dkim", "list", "--json").stdout)
        records = {f"{each['owner']}.".encode(): each["record"].encode() for each in found}
        for each in arrived:
            signed = each[each.index(b"DKIM-Signature:") :]
            verifier = dkim.DKIM(signed)
            assert [verifier.verify(index, dnsfunc=lambda name, **_: records.get(name)) for index in (0, 1)] == [
                True
            ] * 2
    finally:
        shutil.rmtree(sending.root / "var" / "dkim" / "localhost")


def test_what_a_postfix_refuses_is_reported_with_its_words(
    sending: Instance, make_hop: Callable[[str], NextHop], messages: dict[str, Message]
) -> None:
    hop = make_hop("may")
    before = len(list(sending.new_mail.iterdir())) if sending.new_mail.is_dir() else 0
    route(sending, f"localhost:{hop.port}")
    send(sending, messages["short"], "dave@nowhere.example")
    report = sending.wait_delivered(before + 1)[-1]
    assert b"dave@nowhere.example" in report
    assert b"554 5.7.1 <dave@nowhere.example>: Relay access denied" in report
    wait_until(lambda: remote(sending) == [], "it has gone")


def test_a_postfix_is_found_by_mx_behind_a_host_that_is_dead(
    sending: Instance, make_hop: Callable[[str], NextHop], messages: dict[str, Message]
) -> None:
    hop = make_hop("may")
    shutil.rmtree(hop.folder / "mail" / "box", ignore_errors=True)
    records = (
        f"mx-host={DOMAIN},dead.{DOMAIN},10",
        f"mx-host={DOMAIN},hop.{DOMAIN},20",
        f"host-record=dead.{DOMAIN},127.0.0.9",
        f"host-record=hop.{DOMAIN},127.0.0.1",
    )
    with nameserver(*records) as place:
        sending.configure(dns__nameservers=[place], relay__port=hop.port)
        for command in (("relay", "mx"), ("restart", "relay")):
            done = sending.mailsrv(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        assert f"hop.{DOMAIN} [127.0.0.1] (20)" in sending.mailsrv("route", f"dave@{DOMAIN}").stdout
        send(sending, messages["short"], f"dave@{DOMAIN}")
        (arrived,) = hop.wait_arrived(1)
    assert arrived.endswith(messages["short"].content)
    assert b"using TLSv1.3" in arrived[: -len(messages["short"].content)]  # which was offered, and so taken
    wait_until(lambda: remote(sending) == [], "it has gone")
    told = sending.mailsrv("trace", f"dave@{DOMAIN}", "--json").stdout
    assert f"hop.{DOMAIN}[127.0.0.1], TLSv1.3" in told
    assert sending.mailsrv("audit").returncode == 0


@pytest.fixture(scope="module")
def port(sending: Instance) -> int:
    """Where mail goes, to the sink that a test starts there."""
    if not SINK.exists():
        skip_missing("smtp-sink", "postfix")
    port = free_port_base()
    route(sending, f"127.0.0.1:{port}")
    return port


def wait_taken(instance: Instance, port: int) -> None:
    """A sink that takes everything stands there: what waits is tried again, and goes; the books say so."""
    with sink(port):
        wait_until(lambda: instance.mailsrv("queue", "retry", "--all").returncode == 0, "it is tried again")
        wait_until(lambda: remote(instance) == [], "it has gone", 60)
    assert instance.mailsrv("audit").returncode == 0


@pytest.mark.parametrize("option", ["-q", "-Q", "-r"])
@pytest.mark.parametrize("command", ["connect", "ehlo", "mail", "rcpt", "data", "."])
def test_a_sink_that_hangs_up_or_refuses_for_now_at_any_command_loses_nothing(
    option: str, command: str, sending: Instance, port: int, messages: dict[str, Message]
) -> None:
    """-q hangs up, -Q says 421 before, -r refuses for now."""
    with sink(port, option, command):
        send(sending, messages["short"], f"dave@{DOMAIN}")
        wait_until(lambda: any(name.endswith(".retry") for name in remote(sending)), "it waits")
    wait_taken(sending, port)


@pytest.mark.parametrize("command", ["mail", "rcpt", "data", "."])
def test_what_a_sink_refuses_for_good_at_any_command_is_reported(
    command: str, sending: Instance, port: int, messages: dict[str, Message]
) -> None:
    before = len(list(sending.new_mail.iterdir())) if sending.new_mail.is_dir() else 0
    with sink(port, "-f", command):
        send(sending, messages["short"], f"dave@{DOMAIN}")
        report = sending.wait_delivered(before + 1)[-1]
    assert f"Final-Recipient: rfc822; dave@{DOMAIN}\nAction: failed\nStatus: 5.".encode() in report
    wait_until(lambda: remote(sending) == [], "it has gone")
    assert sending.mailsrv("audit").returncode == 0


@pytest.mark.parametrize("options", [("-w", "2"), ("-H", "2"), ("-pW", ".:2"), ("-pW", "connect:2")])
def test_a_sink_that_is_slow_gets_the_message_all_the_same(
    options: tuple[str, str], sending: Instance, port: int, messages: dict[str, Message]
) -> None:
    with sink(port, *options):
        send(sending, messages["short"], f"dave@{DOMAIN}")
        wait_until(lambda: len(remote(sending)) == 1, "it is there")
        wait_until(lambda: remote(sending) == [], "it has gone", 60)
    assert sending.mailsrv("audit").returncode == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("connect", b"connect"),
        ("ehlo", b"EHLO "),
        ("mail", b"MAIL FROM"),
        ("rcpt", b"RCPT TO"),
        ("data", b"DATA"),
        (".", b"sink: .\n"),
    ],
)
def test_a_sink_that_is_killed_at_any_command_loses_nothing(
    command: str, said: bytes, sending: Instance, port: int, messages: dict[str, Message], tmp_path: Path
) -> None:
    """It is killed while it takes its time with the answer. With -p: pipelined, it answers out of turn meanwhile."""
    heard = tmp_path / "heard"
    with sink(port, "-p", "-v", "-W", f"{command}:60", heard=heard) as process:
        send(sending, messages["short"], f"dave@{DOMAIN}")
        wait_until(lambda: said in heard.read_bytes(), "it has heard that")
        process.kill()
        process.wait()
        wait_until(lambda: any(name.endswith(".retry") for name in remote(sending)), "it waits")
    entry_id = remote(sending)[0].partition(".")[0]
    told = sending.mailsrv("trace", entry_id, "--json").stdout
    assert ("behind the final dot" in told) == (command == ".")  # the one place where it may come twice
    wait_taken(sending, port)
