"""What is signed of a message, octet by octet. That others verify it is shown in tests/work/test_signing.py."""

import hashlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.protocol.dkim import MOST_NAMES, BodyHash, Signature, Signed, names_to_sign
from mailsrv.protocol.header import split_fields

ABOUT = Signature("example.org", "s1", "rsa-sha256", 1_700_000_000)


def hashed(*pieces: bytes) -> bytes:
    body = BodyHash()
    for piece in pieces:
        body.feed(piece)
    return body.digest()


def plainly(body: bytes) -> bytes:
    """RFC 6376 §3.4.4 word for word, over the whole body."""
    body = re.sub(rb"[ \t]+(?=\r\n|\Z)", b"", body)
    body = re.sub(rb"[ \t]+", b" ", body)
    body = re.sub(rb"(\r\n)*\Z", b"", body)
    return hashlib.sha256(body + b"\r\n" if body else b"").digest()


def test_the_example_of_the_standard() -> None:
    assert hashed(b" C \r\nD \t E\r\n\r\n\r\n") == hashlib.sha256(b" C\r\nD E\r\n").digest()
    fields = split_fields(b"A: X\r\nB : Y\t\r\n\tZ  \r\nFrom:  a\r\n")
    assert Signed(fields, b"", ABOUT).octets.startswith(b"from:a\r\ndkim-signature:v=1; a=rsa-sha256;")


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"b c"])), st.data())
def test_a_body_has_one_hash_however_it_is_cut(parts: list[bytes], data: st.DataObject) -> None:
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert hashed(*pieces) == plainly(body)


@pytest.mark.parametrize("octets", [b" ", b"\t", b"\r\n", b" \r", b"\r", b"\n"])
def test_no_octets_take_long_or_are_kept(octets: bytes) -> None:
    begun = time.process_time()
    body = BodyHash()
    for _ in range(20):
        body.feed(octets * 100_000)
        assert len(body._held) <= 2
    body.digest()
    assert time.process_time() - begun < 10


def test_what_readers_are_shown_is_named_once_more_than_it_is_there() -> None:
    names = names_to_sign(split_fields(b"From: a\r\nSubject: b\r\nSubject: c\r\nReceived: d\r\nList-Id: e\r\n"))
    assert names.count("from") == 2
    assert names.count("subject") == 3
    assert names.count("reply-to") == 1
    assert names.count("list-id") == 1
    assert "received" not in names


def test_of_several_fields_the_last_is_taken_first() -> None:
    signed = Signed(split_fields(b"From: a\r\nSubject: b\r\nSubject: c\r\n"), b"", ABOUT)
    assert signed.octets.startswith(b"from:a\r\nsubject:c\r\nsubject:b\r\ndkim-signature:")


def test_the_field_has_short_lines_no_length_and_an_end_only_if_it_is_asked_for() -> None:
    signed = Signed(split_fields(b"From: a\r\n" * 50), b"h" * 32, ABOUT)
    field = signed.field(b"s" * 256)
    assert field.endswith(b"\r\n")
    assert max(map(len, field.split(b"\r\n"))) <= 78
    tags = dict(re.findall(rb"(\w+)=([^;]*)", re.sub(rb"\s", b"", field)))
    assert set(tags) == {b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"}
    assert b"x=1700000099" in Signed((), b"", Signature("a.example", "s", "rsa-sha256", 1, 1_700_000_099)).field(b"")


def test_a_header_without_end_of_such_fields_is_not_signed() -> None:
    with pytest.raises(ValueError, match=f"more than {MOST_NAMES}"):
        names_to_sign(split_fields(b"To: a\r\n" * MOST_NAMES))
