"""The relay sends to a real Postfix and to its smtp-sink, which refuses and hangs up at each step."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
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
    """An instance of its own, that tries again when it is asked to."""
    instance = Instance.create(open_place / "sending", {"delivery__retry_after": [3600]})
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


COMMANDS = ("connect", "ehlo", "mail", "rcpt", "data", ".")


@pytest.fixture(scope="module")
def ports(sending: Instance) -> dict[str, int]:
    """A sink's place for each command: of a domain `dN.example` each, N from 0."""
    if not SINK.exists():
        skip_missing("smtp-sink", "postfix")
    bases = (free_port_base(), free_port_base())
    ports = {command: bases[at % 2] + at // 2 for at, command in enumerate(COMMANDS)}
    routes = [f'"d{at}.example" = "127.0.0.1:{port}"' for at, port in enumerate(ports.values())]
    path = sending.root / "mailsrv.toml"
    path.write_text(path.read_text().replace("[relay.routes]", "\n".join(["[relay.routes]", *routes])))
    assert sending.mailsrv("restart", "relay").returncode == 0
    return ports


def drop_to(instance: Instance, message: Message, commands: Iterable[str]) -> None:
    """One message, with a recipient at the sink of each of these commands."""
    to = "".join(f"X-Receiver: <dave@d{COMMANDS.index(each)}.example>\r\n" for each in commands)
    block = f"X-Sender: <admin@localhost>\r\n{to}X-EndOfInjectedXHeaders: 0\r\n".encode()
    instance.drop(f"{message.name}.eml", block + message.content)


def send_to(instance: Instance, message: Message, commands: Iterable[str]) -> str:
    """The same; gives its id in `remote/`, where it stays for a moment at least."""
    drop_to(instance, message, commands)
    wait_until(lambda: remote(instance), "it is there")
    return remote(instance)[0].partition(".")[0]


def wait_tried(instance: Instance, entry_id: str) -> None:
    """It was tried, and waits."""
    wait_until(lambda: f"{entry_id}.retry" in remote(instance), "it waits", 60)


def wait_taken(instance: Instance, ports: Iterable[int]) -> None:
    """Sinks that take everything stand there: what waits is tried again, and goes; the books say so."""
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(sink(port))
        wait_until(lambda: instance.mailsrv("queue", "retry", "--all").returncode == 0, "it is tried again")
        wait_until(lambda: remote(instance) == [], "it has gone", 60)
    assert instance.mailsrv("audit").returncode == 0


@pytest.mark.parametrize("option", ["-q", "-Q", "-r"])
def test_sinks_that_hang_up_or_refuse_for_now_at_any_command_lose_nothing(
    option: str, sending: Instance, ports: dict[str, int], messages: dict[str, Message]
) -> None:
    """-q hangs up, -Q says 421 before, -r refuses for now; each sink at another command."""
    with ExitStack() as stack:
        for command, port in ports.items():
            stack.enter_context(sink(port, option, command))
        entry_id = send_to(sending, messages["short"], COMMANDS)
        wait_tried(sending, entry_id)
        (waiting,) = json.loads(sending.mailsrv("queue", "list", "--json").stdout)
        assert all(f"dave@d{at}.example: 4" in waiting["reason"] for at in range(len(COMMANDS)))
    wait_taken(sending, ports.values())


def test_what_sinks_refuse_for_good_at_any_command_is_reported(
    sending: Instance, ports: dict[str, int], messages: dict[str, Message]
) -> None:
    before = len(list(sending.new_mail.iterdir())) if sending.new_mail.is_dir() else 0
    with ExitStack() as stack:
        for command in COMMANDS[2:]:
            stack.enter_context(sink(ports[command], "-f", command))
        drop_to(sending, messages["short"], COMMANDS[2:])
        report = sending.wait_delivered(before + 1)[-1]
    for at in range(2, len(COMMANDS)):
        assert f"Final-Recipient: rfc822; dave@d{at}.example\nAction: failed\nStatus: 5.".encode() in report
    wait_until(lambda: remote(sending) == [], "it has gone")
    assert sending.mailsrv("audit").returncode == 0


def test_sinks_that_are_slow_get_the_message_all_the_same(
    sending: Instance, ports: dict[str, int], messages: dict[str, Message]
) -> None:
    slow = [("-w", "2"), ("-H", "2"), *(("-pW", f"{command}:2") for command in ("connect", "mail", "data", "."))]
    with ExitStack() as stack:
        for port, options in zip(ports.values(), slow, strict=True):
            stack.enter_context(sink(port, *options))
        entry_id = send_to(sending, messages["short"], COMMANDS)
        wait_until(lambda: remote(sending) == [], "it has gone", 60)
    assert "deferred" not in sending.mailsrv("trace", entry_id).stdout
    assert sending.mailsrv("audit").returncode == 0


def test_sinks_that_are_killed_at_any_command_lose_nothing(
    sending: Instance, ports: dict[str, int], messages: dict[str, Message], tmp_path: Path
) -> None:
    """Each is killed while it takes its time with an answer. With -p: pipelined, it answers out of turn meanwhile."""
    said = (b"connect", b"EHLO ", b"MAIL FROM", b"RCPT TO", b"DATA", b"sink: .\n")
    with ExitStack() as stack:
        sinks = [
            stack.enter_context(sink(port, "-p", "-v", "-W", f"{command}:60", heard=tmp_path / f"heard{at}"))
            for at, (command, port) in enumerate(ports.items())
        ]
        entry_id = send_to(sending, messages["short"], COMMANDS)
        for at, process in enumerate(sinks):
            heard = tmp_path / f"heard{at}"
            wait_until(lambda heard=heard, at=at: said[at] in heard.read_bytes(), f"{COMMANDS[at]} was heard")  # type: ignore[misc]
            process.kill()
            process.wait()
        wait_tried(sending, entry_id)
    (waiting,) = json.loads(sending.mailsrv("queue", "list", "--json").stdout)
    in_doubt = [each for each in waiting["reason"].split("; ") if "behind the final dot" in each]
    assert len(in_doubt) == 1  # the one place where it may come twice
    assert in_doubt[0].startswith("dave@d5.example: 451 4.4.2 ")
    wait_taken(sending, ports.values())
