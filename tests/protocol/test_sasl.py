"""SASL: base64 as the wire has it, PLAIN and LOGIN."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.protocol import sasl
from mailsrv.protocol.sasl import Challenge, Login, Malformed, PasswordOffered, Plain
from tests.protocol.properties import BOUNDED

ANY = st.one_of(st.none(), st.binary(), st.text().map(str.encode))


@given(octets=st.binary())
def test_what_was_encoded_is_decoded(octets: bytes) -> None:
    assert sasl.decode(sasl.encode(octets)) == octets
    assert sasl.decode_initial(sasl.encode(octets) or b"=") == octets


@pytest.mark.parametrize(
    "text", [b"=", b"A", b"AA", b"AA=", b"AB==", b"AA==AA==", b"AA== ", b" AA==", b"A-_=", b"\xff", b"*", b"AA\0=="]
)
def test_what_is_not_base64_in_its_one_form_is_nothing(text: bytes) -> None:
    assert sasl.decode(text) is None


def test_an_initial_response_is_empty_where_it_is_an_equals_sign_and_never_missing() -> None:
    assert sasl.decode_initial(b"=") == b""
    assert sasl.decode_initial(b"") is None
    assert sasl.decode_initial(b"A") is None
    assert sasl.decode(b"") == b""


@BOUNDED
@given(text=st.binary())
def test_any_text_decodes_or_does_not(text: bytes) -> None:
    octets = sasl.decode(text)
    assert octets is None or sasl.encode(octets) == text


# --- PLAIN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("authzid", ["", "alice", "bob"])
def test_plain_offers_a_password_at_once(authzid: str) -> None:
    octets = f"{authzid}\0alice\0söcret".encode()
    assert Plain().respond(octets) == PasswordOffered("alice", "söcret", authzid)


def test_plain_without_an_initial_response_asks_for_one() -> None:
    plain = Plain()
    assert plain.respond(None) == Challenge(b"")
    assert plain.respond(b"\0alice\0secret") == PasswordOffered("alice", "secret")


@pytest.mark.parametrize(
    "octets",
    [b"", b"alice", b"\0alice", b"\0alice\0", b"\0\0secret", b"\0alice\0se\0cret", b"\0a\0\xff"],
)
def test_plain_takes_nothing_else(octets: bytes) -> None:
    assert Plain().respond(octets) == Malformed()


# --- LOGIN -----------------------------------------------------------------------------------------


def test_login_asks_for_the_name_and_then_for_the_password() -> None:
    login = Login()
    assert login.respond(None) == Challenge(b"Username:")
    assert login.respond(b"alice") == Challenge(b"Password:")
    assert login.respond(b"secret") == PasswordOffered("alice", "secret")


def test_login_takes_an_initial_response_as_the_name() -> None:
    login = Login()
    assert login.respond(b"alice") == Challenge(b"Password:")
    assert login.respond(b"secret") == PasswordOffered("alice", "secret")


@pytest.mark.parametrize("responses", [(b"",), (b"alice", b""), (b"\xff",), (b"alice", b"\xff"), (b"a\0b",)])
def test_login_takes_no_empty_word_and_no_octets_that_are_not_text(responses: tuple[bytes, ...]) -> None:
    login = Login()
    assert [login.respond(each) for each in responses][-1] == Malformed()


@BOUNDED
@given(responses=st.lists(ANY, max_size=4), is_plain=st.booleans())
def test_any_octets_give_a_step(responses: list[bytes | None], is_plain: bool) -> None:
    exchange = Plain() if is_plain else Login()
    for each in responses:
        assert isinstance(exchange.respond(each), Challenge | PasswordOffered | Malformed)


def test_a_password_does_not_show_where_a_step_is_shown() -> None:
    assert "secret" not in repr(PasswordOffered("alice", "secret"))
