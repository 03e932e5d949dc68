"""A real Postfix in front of us: what it got it hands on, by SMTP with TLS and by LMTP."""

import pytest

from tests.clients.messages import NAMES, Message
from tests.clients.postfix import Postfix
from tests.clients.trace import assert_only_trace_was_added
from tests.system.instance import Instance


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_message_arrives_octet_for_octet(
    protocol: str, name: str, postfix: Postfix, instance: Instance, messages: dict[str, Message]
) -> None:
    message = messages[name]
    postfix.send(protocol, message)
    instance.wait_delivered(1)
    (arrived,) = instance.fetch()
    assert_only_trace_was_added(arrived, message.content)
    assert b"by relay.example (Postfix)" in arrived


def test_it_verifies_the_certificate(postfix: Postfix, instance: Instance, messages: dict[str, Message]) -> None:
    postfix.send("smtp", messages["short"])
    instance.wait_delivered(1)
    assert "Verified TLS connection established to localhost[127.0.0.1]" in postfix.log
