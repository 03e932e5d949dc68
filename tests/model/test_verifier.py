"""What stands in place of a password for SCRAM."""

import base64

import pytest

from mailsrv.model.address import GrammarError
from mailsrv.model.verifier import Verifier, parse_verifier

SALT, KEY = b"s" * 16, b"k" * 32
TEXT = str(Verifier(4096, SALT, KEY, KEY))


def encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def test_a_verifier_is_read_as_it_was_written() -> None:
    assert parse_verifier(TEXT) == Verifier(4096, SALT, KEY, KEY)
    assert TEXT.startswith("SCRAM-SHA-256$4096:c3Nz")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCRAM-SHA-256",
        TEXT.replace("SHA-256", "SHA-1"),
        TEXT.replace("4096", "4095"),
        TEXT.replace("4096", "04096"),
        TEXT.replace("4096", "10000001"),
        TEXT.replace(encoded(SALT), encoded(b"s" * 11)),
        TEXT.replace(encoded(SALT), "c3Nzc=="),
        TEXT.replace(encoded(KEY), encoded(KEY[1:])),
        TEXT + "A",
        f"{TEXT} ",
    ],
)
def test_what_is_no_verifier_is_a_grammar_error(text: str) -> None:
    with pytest.raises(GrammarError, match="expected"):
        parse_verifier(text)
