"""The grammar of RFC 5321 and RFC 6531: what is rendered is read again, and any text gives a value or an error."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsrv.model import address
from mailsrv.model.address import (
    MAX_LOCAL_PART,
    MAX_PATH,
    GrammarError,
    Mailbox,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    render_path,
)
from mailsrv.model.international import domain_key, is_visible, local_part_key
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
@example("é@\udcff.org")
@example("<@\udcff:a@b>")
@example("a@。")
@example("a@ö。")
@example("a@" + "ö" * 300)
@example("a@xn--a.ö")
def test_any_text_gives_a_mailbox_or_a_grammar_error(text: str) -> None:
    for parse in (parse_mailbox, parse_forward_path, parse_reverse_path):
        try:
            found = parse(text)
        except GrammarError:
            continue
        mailbox = found if isinstance(found, Mailbox) else found[0] if found else None
        if mailbox is not None:
            rendered = render_path(mailbox)
            assert rendered.isascii() == mailbox.is_ascii
            assert is_visible(rendered)
            assert len(mailbox.local_part.encode()) <= MAX_LOCAL_PART
            assert mailbox.key == parse_forward_path(rendered)[0].key
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


# --- beyond ASCII ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "local_part", "domain"),
    [
        ("jörg@bücher.example", "jörg", "bücher.example"),
        ("用户@例え.jp", "用户", "例え.jp"),
        ("उदाहरण.डाक@example.org", "उदाहरण.डाक", "example.org"),
        ('"jörg k"@example.org', "jörg k", "example.org"),
        ("jo\u0308rg@xn--bcher-kva.example", "jo\u0308rg", "xn--bcher-kva.example"),
        ("\U0001f600@example.org", "\U0001f600", "example.org"),
    ],
)
def test_addresses_of_any_script_are_taken_apart(text: str, local_part: str, domain: str) -> None:
    assert parse_mailbox(text) == Mailbox(local_part, domain)  # RFC 6531 §3.3
    assert str(Mailbox(local_part, domain)) == text
    assert not parse_mailbox(text).is_ascii


@pytest.mark.parametrize(
    "text",
    [
        "a\x85b@example.org",  # a C1 control
        "a\xa0b@example.org",
        '"a\u3000b"@example.org',
        "a\u200bb@example.org",  # zero width
        "a\u200db@example.org",
        "a\u202eb@example.org",  # turns the direction of what follows
        "a\u2028b@example.org",
        "a\ufeffb@example.org",
        "a\ue000b@example.org",  # private use
        "a\udcffb@example.org",
        "a\U000e0041b@example.org",  # a tag
        "a\ufe0fb@example.org",  # chooses a variant of b, and nothing is seen of it
        "a\u3164b@example.org",  # a filler
        r'"\ö"@example.org',  # quoted-pairSMTP stays ASCII
        "a@ex\u00admple.ö",
        "a@ö\u200b.example",
        "a@\u2028ö.example",
    ],
)
def test_what_cannot_be_seen_is_in_no_address(text: str) -> None:
    for parse in (parse_mailbox, lambda text: parse_forward_path(f"<{text}>")):
        with pytest.raises(GrammarError):
            parse(text)


@pytest.mark.parametrize(
    "domain",
    [
        "-ö.example",
        "ö-.example",
        "ö..example",
        "ö。",
        "xn--a.ö",
        "ab--ö",
        "\u0308o.example",
        "☃.example",
        f"{'ö' * 62}.x",
    ],
)
def test_a_domain_that_is_none_by_idna_is_refused(domain: str) -> None:
    with pytest.raises(GrammarError):
        parse_mailbox(f"a@{domain}")


def test_limits_are_counted_in_octets() -> None:
    assert parse_mailbox(f"{'ö' * 32}@example.org").local_part == "ö" * 32
    with pytest.raises(GrammarError, match="64 octets"):
        parse_mailbox(f"{'ö' * 33}@example.org")
    with pytest.raises(GrammarError, match="255 octets"):
        parse_mailbox(f"a@{'.'.join(['語' * 12] * 7)}")
    labels = "@" + ".".join(["語" * 12] * 6)
    assert parse_forward_path(f"<{'ö' * 16}{labels}>")
    with pytest.raises(GrammarError, match="256 octets"):
        parse_forward_path(f"<{'ö' * 17}{labels}>")


def test_a_source_route_may_hold_u_labels() -> None:
    assert parse_forward_path("<@bücher.example,@b.example:bob@example.org>") == (Mailbox("bob", "example.org"), "")
    for hidden in ("\u202e", "\udcff"):
        with pytest.raises(GrammarError):
            parse_forward_path(f"<@b{hidden}.example:bob@example.org>")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jörg@example.org", "JÖRG@Example.org"),
        ("jörg@example.org", "jo\u0308rg@example.org"),
        ("Å@example.org", "\u212b@example.org"),
        ("jörg@bücher.example", "jörg@xn--bcher-kva.example"),
        ("a@bücher.example", "a@XN--BCHER-KVA.example"),
        ("a@bücher.example", "a@BU\u0308CHER.example"),
        ("a@例え.jp", "a@例え。jp"),
    ],
)
def test_mailboxes_are_held_equal_in_any_spelling(one: str, other: str) -> None:
    assert parse_mailbox(one).key == parse_mailbox(other).key


@pytest.mark.parametrize(("one", "other"), [("straße@x.org", "strasse@x.org"), ("jörg@x.org", "jorg@x.org")])
def test_what_looks_different_is_different(one: str, other: str) -> None:
    assert parse_mailbox(one).key != parse_mailbox(other).key


@given(words.mailboxes)
def test_a_key_is_its_own_key(mailbox: Mailbox) -> None:
    local_part, domain = local_part_key(mailbox.local_part), domain_key(mailbox.domain)
    assert mailbox.key == f"{local_part}@{domain}" == Mailbox(local_part, domain).key
    assert domain.isascii()


@given(st.text(), st.text())
def test_no_text_is_too_odd_for_a_key(local_part: str, domain: str) -> None:
    assert Mailbox(local_part, domain).key


@given(st.text(alphabet='<>@.,:"\\ ab[]1', max_size=30), st.booleans())
@example('<"a>b"@example.org> SIZE=1', True)
@example("<a@example.org", False)
@example("<postmaster>>", True)
def test_what_is_known_already_is_read_as_it_was_the_first_time(text: str, bare_postmaster: bool) -> None:
    def read(path: Callable[..., tuple[Mailbox, str]]) -> object:
        try:
            return path(text, bare_postmaster=bare_postmaster)
        except GrammarError as error:
            return str(error)

    expected = read(address._parsed_path)
    assert read(address._path) == read(address._path) == expected
