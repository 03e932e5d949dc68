"""Text in ORCPT and ENVID: what is encoded is read again, and nothing decoded can break a field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.address import Mailbox
from mailsrv.model.xtext import from_utf8_addr, from_xtext, to_utf8_addr_xtext
from tests.model import words


@pytest.mark.parametrize(
    ("address", "encoded"),
    [
        ("bob@example.org", "bob@example.org"),
        ("jörg@bücher.example", r"j\x{F6}rg@b\x{FC}cher.example"),
        ("用户+a=b@x.org", r"\x{7528}\x{6237}\x{2B}a\x{3D}b@x.org"),
        ('"a \\\\ b"@x.org', r'"a\x{20}\x{5C}\x{5C}\x{20}b"@x.org'),
        ("\U0001f600@x.org", r"\x{1F600}@x.org"),
    ],
)
def test_an_address_is_encoded_for_machines_that_know_ascii_only(address: str, encoded: str) -> None:
    assert to_utf8_addr_xtext(address) == encoded  # RFC 6533 §3
    assert from_utf8_addr(encoded) == address


@given(words.mailboxes)
def test_an_address_that_is_encoded_is_read_again(mailbox: Mailbox) -> None:
    encoded = to_utf8_addr_xtext(str(mailbox))
    assert encoded.isascii()
    assert not set(encoded) & set(" +=")
    assert from_utf8_addr(encoded) == str(mailbox)


@given(st.text() | st.text(r"\x{0123456789ADF}+2"))
def test_what_is_decoded_stays_in_its_line(text: str) -> None:
    for decode in (from_xtext, from_utf8_addr):
        decoded = decode(text)
        assert decoded == text or decoded.isprintable()


@pytest.mark.parametrize(
    "hostile", [r"a\x{0D}\x{0A}b", r"a\x{2028}b", r"\x{D800}", r"\x{202E}", r"\x{110000}", r"\x{}", "+0A"]
)
def test_what_a_field_cannot_hold_stays_encoded(hostile: str) -> None:
    assert from_utf8_addr(hostile) == hostile
