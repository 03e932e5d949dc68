"""What the RFCs ask for at the least: no setting goes below it."""

import dataclasses
from typing import Any

import pytest

from mailsrv.settings import Pop3, Smtp


def is_good(table: type[Any], name: str, value: object) -> bool:
    (field,) = (each for each in dataclasses.fields(table) if each.name == name)
    return bool(field.metadata["check"](value))


@pytest.mark.parametrize(
    ("name", "least"), [("max_line_octets", 1000), ("max_message_octets", 64 * 1024), ("max_recipients", 100)]
)
def test_no_limit_can_be_set_below_what_rfc_5321_asks_for(name: str, least: int) -> None:
    assert is_good(Smtp, name, least)
    assert not is_good(Smtp, name, least - 1)


def test_no_limit_can_be_set_below_what_rfc_1939_asks_for() -> None:
    assert is_good(Pop3, "idle_timeout", 600)
    assert not is_good(Pop3, "idle_timeout", 599)


def test_the_defaults_wait_as_long_as_the_rfcs_ask_for() -> None:
    assert Smtp().idle_timeout >= 300
    assert Pop3().idle_timeout >= 600
