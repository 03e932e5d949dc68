"""The relay sends to a real Postfix and to its smtp-sink, which refuses and hangs up at each step."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.client import skip_missing
from tests.clients.messages import NAMES, Message
from tests.clients.next_hop import DOMAIN, SINK, NextHop, sink
from tests.clients.postfix import PROGRAM
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


@pytest.mark.parametrize("option", ["-q", "-r"])
@pytest.mark.parametrize("command", ["ehlo", "mail", "rcpt", "data", "."])
def test_a_sink_that_hangs_up_or_refuses_for_now_at_any_command_loses_nothing(
    option: str, command: str, sending: Instance, messages: dict[str, Message]
) -> None:
    """-q hangs up, -r refuses for now."""
    if not SINK.exists():
        skip_missing("smtp-sink", "postfix")
    port = free_port_base()
    with sink(port, option, command):
        route(sending, f"127.0.0.1:{port}")
        send(sending, messages["short"], f"dave@{DOMAIN}")
        wait_until(lambda: any(name.endswith(".retry") for name in remote(sending)), "it waits")
    with sink(port):
        wait_until(lambda: sending.mailsrv("queue", "retry", "--all").returncode == 0, "it is tried again")
        wait_until(lambda: remote(sending) == [], "it has gone", 60)
    assert sending.mailsrv("audit").returncode == 0
