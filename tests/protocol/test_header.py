"""The header as far as an envelope is learnt from it: every address is found, or it is said what was not understood."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.address import Mailbox, parse_mailbox
from mailsrv.protocol.header import Field, HeaderError, mailboxes, split_fields
from tests.protocol.properties import BOUNDED

TO = frozenset({"to"})


def addresses(value: bytes) -> list[str]:
    return [str(mailbox) for mailbox in mailboxes(split_fields(b"To: " + value + b"\r\n"), TO)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", []),
        (b"a@b.example", ["a@b.example"]),
        (b"<a@b.example>", ["a@b.example"]),
        (b"a@b.example, <c@d.example>,e@f.example", ["a@b.example", "c@d.example", "e@f.example"]),
        (b"Alice <a@b.example>", ["a@b.example"]),
        (b"J. R. Doe <a@b.example>", ["a@b.example"]),  # §4.1, obs-phrase: a dot in a display name
        (b"DOMAIN\\alice <a@b.example>", ["a@b.example"]),
        (b'"Doe, John" <a@b.example>, "x@y <z>" <c@d.example>', ["a@b.example", "c@d.example"]),
        (b'"\\"q\\"" <a@b.example>', ["a@b.example"]),
        (b"a@b.example <a@b.example>", ["a@b.example"]),
        (b"a @ b . example", ["a@b.example"]),  # §4.4, obs-addr-spec
        (b'"a b"@c.example', ['"a b"@c.example']),
        (b'"a@b, c"@d.example', ['"a@b, c"@d.example']),
        (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        (b"<@r.example,@s.example:a@b.example>", ["a@b.example"]),  # §4.4, obs-route
        (b"a@b.example,\r\n\tc@d.example", ["a@b.example", "c@d.example"]),
        (b",a@b.example,, c@d.example,", ["a@b.example", "c@d.example"]),  # §4.4, obs-addr-list
    ],
)
def test_addresses_are_found(value: bytes, expected: list[str]) -> None:
    assert addresses(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"undisclosed-recipients:;", []),
        (b"Undisclosed recipients: ;", []),
        (b"Friends: a@b.example, Bob <c@d.example>;", ["a@b.example", "c@d.example"]),
        (b"A: a@b.example;, c@d.example, B: e@f.example;", ["a@b.example", "c@d.example", "e@f.example"]),
        (b'"A, B": a@b.example;', ["a@b.example"]),
        (b"A: a@b.example", ["a@b.example"]),  # its end forgotten, its address not
    ],
)
def test_groups_are_taken_apart(value: bytes, expected: list[str]) -> None:
    assert addresses(value) == expected  # RFC 5322 §3.4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"(all) a@b.example (at (the) office)", ["a@b.example"]),
        (b"(c@d.example) a@b.example", ["a@b.example"]),
        (b"a(x)@(y)b.example, A (z) <a2@b.example>", ["a@b.example", "a2@b.example"]),
        (b"a@b.example (:-\\), c@d.example)", ["a@b.example"]),
        (b'"(" <a@b.example>', ["a@b.example"]),
        (b"(" * 900 + b")" * 900 + b" a@b.example", ["a@b.example"]),
    ],
)
def test_comments_are_left_out(value: bytes, expected: list[str]) -> None:
    assert addresses(value) == expected  # RFC 5322 §3.2.2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"=?utf-8?q?J=C3=B6rg?= <a@b.example>", ["a@b.example"]),
        (b"=?utf-8?B?SsO2cmc=?= =?utf-8?q?_X?= <a@b.example>", ["a@b.example"]),
        (b"=?nonsense?q?x?= <a@b.example>", ["a@b.example"]),
        (b"=?utf-8?b?####?= <a@b.example>", ["a@b.example"]),
        # Not by RFC 2047 §5, but senders are sloppy; what is encoded is never an address.
        (b"=?utf-8?q?c@d.example,_(x)?= <a@b.example>", ["a@b.example"]),
        (b"=?utf-8?q?c=40d.example=2C?= <a@b.example>", ["a@b.example"]),
        ("J\u00f6rg <a@b.example>".encode(), ["a@b.example"]),
        (b"\xff\xfe <a@b.example>", ["a@b.example"]),
        ("山田\u3000太郎 <a@b.example>".encode(), ["a@b.example"]),
    ],
)
def test_display_names_in_any_encoding_are_left_out(value: bytes, expected: list[str]) -> None:
    assert addresses(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("jörg@bücher.example", ["jörg@bücher.example"]),
        ("山田 <用户@例え.jp>, Jörg: jörg@b.example;", ["用户@例え.jp", "jörg@b.example"]),
        ('"ö, ü"@b.example', ['"ö, ü"@b.example']),
        ("jo\u0308rg@b.example, jörg@b.example, JÖRG@b.example", ["jo\u0308rg@b.example"]),
    ],
)
def test_addresses_of_any_script_are_found(value: str, expected: list[str]) -> None:
    assert addresses(value.encode()) == expected  # RFC 6532 §3.2


@pytest.mark.parametrize(
    "value",
    [
        b"bob",
        b"a@b.example; c@d.example",
        b"a@b.example c@d.example",
        b"a@b.example <c@d.example>",
        b"a@b.example <c@d.example> e@f.example",
        b"<a@b.example> <c@d.example>",
        b"<a@b.example, c@d.example>",
        b"Alice <a@b.example",
        b"a@b.example>",
        b"<>",
        b"@b.example",
        b"a@",
        b"a..b@c.example",
        b"A: B: a@b.example;;",
        b"A <a@b.example>: c@d.example;",
        b"a@b.example: c@d.example;",
        b": a@b.example;",
        b"(a@b.example",
        b'"a@b.example',
        b"a@[192.0.2",
        b"a@b.example)",
        b"=?utf-8?q?a=40b.example?=",
        b"=?utf-8?q?a=40b.example=2C?= c@d.example",
        b"\xff@b.example",
        "\u00e9\u202e@b.example".encode(),
        "\u00e9@\u2603.example".encode(),
        "a\u3000b@c.example".encode(),
        b"a@b.example\x00",
        b"a\x0b@b.example",
        b"(" * 50_000,
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_not_understood_is_an_error_never_a_recipient_less_delivered_to(value: bytes) -> None:
    with pytest.raises(HeaderError) as caught:
        addresses(value)
    assert caught.value.line == 1
    assert len(str(caught.value)) < 1000


def test_an_error_names_field_and_line() -> None:
    with pytest.raises(HeaderError, match=r"^line 3: Cc: expected"):
        mailboxes(split_fields(b"From: a@b.example\r\nSubject: x\r\nCc: bob\r\n"), frozenset({"to", "cc"}))


def test_addresses_of_several_fields_come_once_and_in_order() -> None:
    fields = split_fields(b"To: b@x.example\nCc: a@x.example, B@X.example\nFrom: f@x.example\nTo: c@x.example\n")
    found = mailboxes(fields, frozenset({"to", "cc"}))
    assert found == (Mailbox("b", "x.example"), Mailbox("a", "x.example"), Mailbox("c", "x.example"))


@pytest.mark.parametrize(
    "octets",
    [b"(a)", b'"', b'"a"', b".", b"<", b"a:;,", b"=?a?q?b?=", b"=?a", b"\\", b"[", b"a ", b"(", b"<@a:"],
    ids=repr,
)
def test_a_hostile_field_takes_no_time(octets: bytes) -> None:
    """Ten thousand comments took the standard library's parser a minute: no header may stop delivery (P5)."""
    began = time.process_time()
    with contextlib.suppress(HeaderError):
        addresses(octets * (64 * 1024 // len(octets)))
    assert time.process_time() - began < 2


WORDS = st.text("abc0+-", min_size=1, max_size=8)
MAILBOXES = st.builds("{}@{}.example".format, WORDS, st.text("abc", min_size=1, max_size=8))
WRITTEN = st.one_of(
    st.just("{}"),
    st.just("<{}>"),
    st.just("A. Name <{}>"),
    st.just('"x, y" (c) <{}>'),
    st.just("=?utf-8?q?=2C?=\r\n <{}>"),
    st.just("G: {};"),
)


@BOUNDED
@given(st.lists(st.tuples(MAILBOXES, WRITTEN), max_size=8))
def test_every_address_that_was_written_is_found(written: list[tuple[str, str]]) -> None:
    value = ",\r\n ".join(form.format(mailbox) for mailbox, form in written)
    assert addresses(value.encode()) == list(dict.fromkeys(mailbox for mailbox, _ in written))


@BOUNDED
@given(st.lists(st.sampled_from([*b'<>()[]:;@,."\\ab \r\n\t=?\xff\x00\xc3\xb6']), max_size=30).map(bytes))
def test_any_value_gives_mailboxes_or_a_header_error(value: bytes) -> None:
    try:
        found = addresses(value)
    except HeaderError:
        return
    for each in found:
        assert str(parse_mailbox(each)) == each


# --- fields ----------------------------------------------------------------------------------------


def test_fields_are_split_with_their_folds_and_line_ends() -> None:
    assert split_fields(b"From: a\r\n\tb\r\nTO : c\nX: \xff\r\n") == (
        Field("from", b"From: a\r\n\tb\r\n", 1),
        Field("to", b"TO : c\n", 3),
        Field("x", b"X: \xff\r\n", 4),
    )


def test_a_value_is_unfolded() -> None:
    assert split_fields(b"Subject: one\r\n\ttwo \r\n")[0].value == "one\ttwo"


def test_a_line_that_is_no_field_belongs_to_the_one_before_it() -> None:
    header = b"From: a\nno field here\n>From x\nTo: b\n"
    assert [field.name for field in split_fields(header)] == ["from", "to"]
    assert b"".join(field.raw for field in split_fields(header)) == header


@pytest.mark.parametrize(
    "header", [b"no field\n", b" folded: x\n", b"From a@b Mon Nov 23\nTo: b\n", b": x\n", b"\xff: x\n"]
)
def test_a_header_that_begins_with_no_field_is_an_error(header: bytes) -> None:
    with pytest.raises(HeaderError, match="line 1"):
        split_fields(header)


def test_no_octets_are_no_fields() -> None:
    assert split_fields(b"") == ()


@BOUNDED
@given(st.lists(st.sampled_from([b"A: b", b" ", b"\t", b"\n", b"\r\n", b"\r", b"x", b":", b"\xff"]), max_size=20))
def test_fields_put_together_are_the_header(parts: list[bytes]) -> None:
    header = b"First: x\n" + b"".join(parts)
    assert b"".join(field.raw for field in split_fields(header)) == header
