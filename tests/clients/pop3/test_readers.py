"""Each client reads a mailbox by each way in: octet for octet, leaving it on the server, and deleting."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.host.certificates import self_signed
from tests.clients.client import HOST, Done, Way, write
from tests.clients.messages import Message
from tests.clients.pop3.curl import Curl
from tests.clients.pop3.fetchmail import Fetchmail
from tests.clients.pop3.getmail import Getmail
from tests.clients.pop3.mail import Mailbox, on_the_wire
from tests.clients.pop3.mpop import Mpop
from tests.clients.pop3.mutt import Mutt
from tests.clients.pop3.net_pop3 import NetPop3
from tests.clients.pop3.node_pop3 import NodePop3
from tests.clients.pop3.python_poplib import Poplib
from tests.clients.pop3.reader import Reader, pop3_service
from tests.clients.trace import assert_same

CLIENTS: tuple[Reader, ...] = (
    Curl(),
    Fetchmail(),
    Mpop(),
    Getmail(),
    Mutt(),
    NetPop3(),
    Poplib(),
    NodePop3(),
)
WAYS = [pytest.param(client, way, id=f"{client.name}-{way}") for client in CLIENTS for way in client.ways]
SECURE = [each for each in WAYS if each.values[1] is not Way.PLAIN]
MECHANISMS = [
    pytest.param(client, way, mechanism, id=f"{client.name}-{way}-{mechanism}")
    for client in CLIENTS
    for way in client.ways
    for mechanism in client.mechanisms
    if way is not Way.PLAIN or not mechanism.endswith("-PLUS")
]
each_way = pytest.mark.parametrize("client, way", WAYS)


@each_way
def test_every_message_is_read_octet_for_octet_and_none_twice(
    client: Reader, way: Way, mailbox: Mailbox, mail: dict[str, Message], folder: Path
) -> None:
    later, *first = mail.values()
    mailbox.put(first)
    service = pop3_service(mailbox.instance, way)
    assert_good(client.read(service, folder, keep=True))
    assert_stored(client, folder, first)
    mailbox.put([later])
    assert_good(client.read(service, folder, keep=True))
    assert_stored(client, folder, [*first, later])
    assert len(mailbox.names()) == len(mail)


@each_way
def test_what_was_read_is_deleted(
    client: Reader, way: Way, mailbox: Mailbox, mail: dict[str, Message], folder: Path
) -> None:
    small = [message for message in mail.values() if message.name != "large"]
    mailbox.put(small)
    assert_good(client.read(pop3_service(mailbox.instance, way), folder, keep=False))
    assert_stored(client, folder, small)
    assert mailbox.names() == []


@pytest.mark.parametrize("client, way, mechanism", MECHANISMS)
def test_a_login_with_each_mechanism_that_the_client_knows(
    client: Reader, way: Way, mechanism: str, mailbox: Mailbox, mail: dict[str, Message], folder: Path
) -> None:
    if reason := client.lacks(mechanism):
        pytest.skip(reason)
    mailbox.put([mail["short"]])
    assert_good(client.read(pop3_service(mailbox.instance, way, mechanism), folder, keep=True))
    assert_stored(client, folder, [mail["short"]])


@each_way
def test_a_wrong_password_is_refused_and_the_client_says_so(
    client: Reader, way: Way, mailbox: Mailbox, mail: dict[str, Message], folder: Path
) -> None:
    mailbox.put([mail["short"]])
    done = client.read(pop3_service(mailbox.instance, way, password="wrong"), folder, keep=False)
    assert_refused(client, done, folder, rb"(?i)auth|login|denied|wrong user or password")
    assert len(mailbox.names()) == 1


@pytest.mark.parametrize("client, way", SECURE)
def test_a_certificate_of_somebody_else_is_refused(
    client: Reader, way: Way, mailbox: Mailbox, mail: dict[str, Message], folder: Path
) -> None:
    mailbox.put([mail["short"]])
    other = write(folder / "other.pem", self_signed(HOST)[0])
    service = replace(pop3_service(mailbox.instance, way), certificate=other)
    done = client.read(service, folder, keep=False)
    assert_refused(client, done, folder, rb"(?i)certificate|verif")
    assert len(mailbox.names()) == 1


def assert_good(done: Done) -> None:
    """Fail unless the client was content."""
    __tracebackhide__ = True
    assert done.returncode == 0, done.stdout + done.stderr


def assert_refused(client: Reader, done: Done, folder: Path, words: bytes) -> None:
    """Fail unless the client complains with such words, and has got nothing."""
    __tracebackhide__ = True
    assert re.search(words, done.stdout + done.stderr), done.stdout + done.stderr
    assert done.returncode != 0, done.stdout + done.stderr
    assert client.stored(folder) == {}


def assert_stored(client: Reader, folder: Path, mail: list[Message]) -> None:
    """Fail unless the client has stored these messages as they came, each once."""
    __tracebackhide__ = True
    stored = client.stored(folder)
    assert stored.keys() == {message.name for message in mail}
    for message in mail:
        if message.name not in client.cannot:
            assert_same(stored[message.name], on_the_wire(message).replace(b"\r\n", client.line_end))
