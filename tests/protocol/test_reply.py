"""The table of SMTP replies."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.reply import Reply
from tests.protocol.properties import BOUNDED
from tests.protocol.worlds import REPLIES

# RFC 5321 §4.2.3, and 555 of §4.1.1.11; RFC 4954 §6.
CODES = {
    214,
    220,
    221,
    235,
    250,
    252,
    334,
    354,
    421,
    450,
    451,
    452,
    454,
    500,
    501,
    502,
    503,
    504,
    530,
    535,
    538,
    550,
    551,
    552,
    553,
    554,
    555,
}
# The enhanced codes in use, without their class, as RFC 3463 (and its registry, RFC 5248) names them.
SUBJECTS = {
    "0.0": "other undefined status",
    "1.0": "other address status",
    "1.1": "bad destination mailbox address",
    "1.3": "bad destination mailbox address syntax",
    "1.5": "destination address valid",
    "1.7": "bad sender's mailbox address syntax",
    "2.2": "mailbox full",
    "3.0": "other or undefined mail system status",
    "3.1": "mail system full",
    "3.2": "system not accepting network messages",
    "3.4": "message too big for system",
    "4.2": "bad connection",
    "4.6": "routing loop detected",
    "4.7": "delivery time expired",
    "5.1": "invalid command",
    "5.2": "syntax error",
    "5.3": "too many recipients",
    "5.4": "invalid command arguments",
    "5.6": "authentication exchange line is too long",
    "6.7": "non-ASCII addresses not permitted for that sender or recipient",
    "7.2": "mailing list expansion prohibited",
    "7.8": "authentication credentials invalid",
    "7.10": "encryption needed",
    "7.11": "encryption required for requested authentication mechanism",
    "6.0": "other or undefined media error",
    "7.0": "other or undefined security status",
    "7.1": "delivery not authorized",
}
BY_NAME = pytest.mark.parametrize("name", sorted(REPLIES))


@BY_NAME
def test_a_reply_is_well_formed(name: str) -> None:
    answer = REPLIES[name]
    assert answer.code in CODES
    if name == "CHALLENGE":
        return  # its text is the challenge
    assert re.fullmatch(r"[!-~][ -~]*[!-~]", answer.text)
    assert bytes(answer).endswith(b"\r\n")
    assert bytes(answer).count(b"\r\n") == 1
    assert len(bytes(answer)) <= 512  # RFC 5321 §4.5.3.1.5


@BY_NAME
def test_the_class_of_the_enhanced_code_is_the_first_digit_of_the_reply_code(name: str) -> None:
    answer = REPLIES[name]
    assert answer.status[0] == str(answer)[0]  # RFC 2034 §4
    if answer.subject is not None:
        assert answer.subject in SUBJECTS
        assert f"{answer.code} {answer.code // 100}.{answer.subject} {answer.text}" == str(answer)


def test_an_enhanced_code_is_left_out_of_greeting_hello_334_and_354_only() -> None:
    without = {name for name, answer in REPLIES.items() if answer.subject is None}
    assert without == {"GREETING", "HELLO", "CHALLENGE", "SEND_CONTENT"}  # RFC 2034 §3


def test_a_challenge_is_base64_and_nothing_else_and_has_its_space_even_where_it_is_empty() -> None:
    assert bytes(REPLIES["CHALLENGE"].saying("dGVzdA==")) == b"334 dGVzdA==\r\n"
    assert bytes(REPLIES["CHALLENGE"]) == b"334 \r\n"  # RFC 4954 §8: continue-req = "334" SP [base64] CRLF


def test_no_two_replies_are_the_same_line() -> None:
    lines = [bytes(answer) for answer in REPLIES.values()]
    assert len(set(lines)) == len(lines)


def test_no_two_replies_of_one_code_have_the_same_text() -> None:
    texts = [(answer.code, answer.text) for answer in REPLIES.values()]
    assert len(set(texts)) == len(texts)


@BY_NAME
def test_only_5yz_is_permanent(name: str) -> None:
    assert REPLIES[name].is_permanent == (REPLIES[name].code >= 500)


def test_what_is_our_fault_is_temporary() -> None:
    for name in ("LOCAL_ERROR", "INSUFFICIENT_STORAGE", "BROKEN_OFF", "SHUTTING_DOWN", "TOO_MANY_CONNECTIONS"):
        assert not REPLIES[name].is_permanent
        assert REPLIES[name].code >= 400


def test_a_reply_of_several_lines_has_its_code_on_each() -> None:
    answer = Reply(214, "0.0", "one\ntwo\nthree")
    assert bytes(answer) == b"214-2.0.0 one\r\n214-2.0.0 two\r\n214 2.0.0 three\r\n"
    assert str(answer) == "214-2.0.0 one / 214-2.0.0 two / 214 2.0.0 three"


def test_a_challenge_is_never_cut() -> None:
    text = "QUJD" * 3072
    assert bytes(REPLIES["CHALLENGE"].saying(text)) == f"334 {text}\r\n".encode()  # RFC 4954 §4: 12,288 octets


@BOUNDED
@given(st.text(max_size=700), st.sampled_from(sorted(REPLIES.keys() - {"CHALLENGE"})))
def test_no_text_makes_a_line_longer_than_512_octets_or_leaves_ascii(text: str, name: str) -> None:
    octets = bytes(REPLIES[name].saying(text.replace("\r", "")))
    lines = octets.split(b"\r\n")
    assert lines[-1] == b""
    assert octets.isascii()
    code = str(REPLIES[name].code).encode()
    for line in lines[:-1]:
        assert len(line) + 2 <= 512
        assert line.startswith(code)
    assert [line[3:4] for line in lines[:-1]] == [b"-"] * (len(lines) - 2) + [b" "]
