"""What a setting may be."""

import pytest

from mailsrv.values import is_nameserver


@pytest.mark.parametrize(
    "text", ["192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]", "[2001:db8::53]:53"]
)
def test_a_nameserver_is_an_address_with_or_without_a_port(text: str) -> None:
    assert is_nameserver(text)


@pytest.mark.parametrize("text", ["", "ns.example.org", "ns.example.org:53", "192.0.2.53:0", "192.0.2.53:", ":53", 53])
def test_anything_else_is_no_nameserver(text: object) -> None:
    assert not is_nameserver(text)
