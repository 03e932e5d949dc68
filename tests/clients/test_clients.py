"""Each client, by each way in, with each message; read back by POP3 and compared octet for octet."""

import re
from pathlib import Path

import pytest

from tests.clients.client import Client, Way, service_of
from tests.clients.curl import Curl
from tests.clients.messages import NAMES, Message, payload_of
from tests.clients.msmtp import Msmtp
from tests.clients.mutt import Mutt
from tests.clients.net_smtp import NetSmtp
from tests.clients.nodemailer import Nodemailer
from tests.clients.python_smtplib import Smtplib
from tests.clients.snail import Snail
from tests.clients.swaks import Swaks
from tests.clients.trace import assert_only_trace_was_added
from tests.system.instance import Instance

CLIENTS = (Swaks(), Curl(), Msmtp(), Snail(), Mutt(), NetSmtp(), Smtplib(), Nodemailer())
MECHANISMS = [
    pytest.param(client, mechanism, id=f"{client.name}-{mechanism}")
    for client in CLIENTS
    for mechanism in client.mechanisms
]

each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", Way)
@each_client
def test_a_message_arrives_octet_for_octet(
    client: Client, way: Way, name: str, instance: Instance, messages: dict[str, Message], tmp_path: Path
) -> None:
    if name in client.cannot:
        pytest.skip(client.cannot[name])
    message = messages[name]
    done = client.send(service_of(instance, way), message, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    instance.wait_delivered(1)
    (arrived,) = instance.fetch()
    if client.composes:
        assert payload_of(arrived) == message.payload
    else:
        assert_only_trace_was_added(arrived, message.content)


@pytest.mark.parametrize("way", [Way.STARTTLS, Way.TLS])
@pytest.mark.parametrize("client, mechanism", MECHANISMS)
def test_a_login_with_each_mechanism_that_the_client_knows(
    client: Client, mechanism: str, way: Way, instance: Instance, messages: dict[str, Message], tmp_path: Path
) -> None:
    if reason := client.lacks(mechanism):
        pytest.skip(reason)
    done = client.send(service_of(instance, way, mechanism), messages["short"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    instance.wait_delivered(1)


@pytest.mark.parametrize("way", [Way.STARTTLS, Way.TLS])
@each_client
def test_a_wrong_password_is_refused_and_the_client_says_so(
    client: Client, way: Way, instance: Instance, messages: dict[str, Message], tmp_path: Path
) -> None:
    done = client.send(service_of(instance, way, password="wrong"), messages["short"], tmp_path)
    assert done.returncode != 0, done.stdout + done.stderr
    assert re.search(rb"(?i)535|login denied|authentication", done.stdout + done.stderr), done.stdout + done.stderr
    assert instance.delivered() == []
