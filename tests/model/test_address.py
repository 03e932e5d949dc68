"""Mailboxes and paths by RFC 5321's grammar: what is rendered is read again, and any text gives a value or an error."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsrv.model.address import (
    MAX_PATH,
    GrammarError,
    Mailbox,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    render_path,
)
from tests.model import words


@given(words.mailboxes)
def test_a_mailbox_that_is_rendered_is_read_again(mailbox: Mailbox) -> None:
    assert parse_mailbox(str(mailbox)) == mailbox


@given(words.mailboxes, st.text(alphabet=" ABC=xyz", max_size=10))
def test_a_path_is_read_up_to_its_bracket(mailbox: Mailbox, rest: str) -> None:
    assert parse_forward_path(render_path(mailbox) + rest) == (mailbox, rest)
    assert parse_reverse_path(render_path(mailbox) + rest) == (mailbox, rest)


@given(st.text() | words.nearly_addresses)
@example("a@[IPv6:fe80::1%é]")
@example("a@[IPv6:fe80::1%>]")
@example("é@example.org")
def test_any_text_gives_a_mailbox_in_ascii_or_a_grammar_error(text: str) -> None:
    for parse in (parse_mailbox, parse_forward_path, parse_reverse_path):
        try:
            found = parse(text)
        except GrammarError:
            continue
        mailbox = found if isinstance(found, Mailbox) else found[0] if found else None
        if mailbox is not None:
            rendered = render_path(mailbox)
            assert rendered.isascii()
            assert rendered.isprintable()
            assert parse_forward_path(rendered) == (mailbox, "")


@pytest.mark.parametrize(
    ("text", "local_part", "domain"),
    [
        ("a@example.org", "a", "example.org"),
        ("a.b+c@x", "a.b+c", "x"),
        ('"a b"@example.org', "a b", "example.org"),
        (r'"a\"b"@example.org', 'a"b', "example.org"),
        ('"plain"@example.org', "plain", "example.org"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"),
    ],
)
def test_addresses_are_taken_apart(text: str, local_part: str, domain: str) -> None:
    assert parse_mailbox(text) == Mailbox(local_part, domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a",
        "a@",
        "@example.org",
        "a b@example.org",
        ".a@example.org",
        "a.@example.org",
        "a..b@example.org",
        "a@-x.org",
        "a@x-.org",
        "a@x..org",
        "a@example.org.",
        '""@example.org',
        '"a@example.org',
        "a (comment)@example.org",
        "a@[256.0.0.1]",
        "a@[IPv6:1]",
        "a@[IPv6:fe80::1%eth0]",
        "a@example.org ",
        "a@exämple.org",
        f"{'a' * 65}@example.org",
        "a@" + ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_mailbox(text)


def test_an_address_that_fits_no_path_is_refused_everywhere() -> None:
    longest = "a@" + ("b" * (MAX_PATH - len("<a@>") - 2) + ".c")
    assert len(f"<{longest}>") == MAX_PATH
    assert parse_forward_path(f"<{longest}>")[0] == parse_mailbox(longest)
    with pytest.raises(GrammarError):
        parse_forward_path(f"<a{longest}>")
    with pytest.raises(GrammarError):
        parse_mailbox(f"a{longest}")


def test_the_null_reverse_path_is_none_and_no_forward_path() -> None:
    assert parse_reverse_path("<> SIZE=1") == (None, " SIZE=1")
    with pytest.raises(GrammarError):
        parse_forward_path("<>")


def test_postmaster_needs_no_domain_as_a_forward_path_only() -> None:
    assert parse_forward_path("<PostMaster>") == (Mailbox("PostMaster", ""), "")
    with pytest.raises(GrammarError):
        parse_reverse_path("<postmaster>")


def test_a_source_route_is_accepted_and_ignored() -> None:
    assert parse_forward_path("<@a.example,@b.example:bob@example.org>") == (Mailbox("bob", "example.org"), "")


def test_mailboxes_are_held_equal_in_any_case() -> None:
    assert Mailbox("Bob", "EXAMPLE.org").key == Mailbox("bob", "example.ORG").key
