"""Address transforms: what a pattern matches, and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.transform import parse_transform
from tests.model import words


def applied(pattern: str, result: str, address: str) -> str | None:
    found = parse_transform(pattern, result, is_inbound=False).apply(parse_mailbox(address))
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("pattern", "result", "address", "expected"),
    [
        ("*@old.example", "*@example.org", "bob@old.example", "bob@example.org"),
        ("*@old.example", "*@example.org", "Bob.X@OLD.example", "Bob.X@example.org"),
        ("*@old.example", "*@example.org", "bob@example.org", None),
        ("*@old.example", "*@example.org", "bob@sub.old.example", None),
        ("bob@old.example", "robert@example.org", "BOB@old.example", "robert@example.org"),
        ("*.*@old.example", "$2.$1@example.org", "ann.lee@old.example", "lee.ann@example.org"),
        ("*.*@old.example", "*_*@example.org", "a.b.c@old.example", "a.b_c@example.org"),
        ("*@*.example.org", "*@example.org", "bob@host.example.org", "bob@example.org"),
        ("*@*.example.org", "$1.$2@example.org", "bob@host.example.org", "bob.host@example.org"),
        ("sales-*@example.org", "sales@example.org", "sales-x@example.org", "sales@example.org"),
        ("sales-*@example.org", "sales@example.org", "sales-@example.org", None),
        ("*@example.org", "*@x.org", '"a b"@example.org', '"a b"@x.org'),
        ("*@bücher.example", "*@example.org", "jörg@xn--bcher-kva.example", "jörg@example.org"),
        ("jörg@*", "jorg@$1", "JO\u0308RG@example.org", "jorg@example.org"),
        ("a.b@example.org", "c@example.org", "aXb@example.org", None),  # a dot is a dot
    ],
)
def test_what_a_star_matches_goes_where_the_result_says(
    pattern: str, result: str, address: str, expected: str | None
) -> None:
    assert applied(pattern, result, address) == expected


def test_what_would_be_no_address_is_no_match() -> None:
    assert applied("*@*.example", "$2.$1@example.org", f"{'a' * 40}@{'b' * 40}.example") is None


@pytest.mark.parametrize(
    ("pattern", "result", "expected"),
    [
        ("old.example", "*@x", "expected a pattern"),
        ("@old.example", "*@x", "expected a pattern"),
        ("$1@old.example", "*@x", "expected a pattern"),
        ("*@old.example", "x", "expected a result"),
        ("bob@old.example", "*@x", "no more in the result"),
        ("*@old.example", "$2@x", "no more in the result"),
        ("*@old.example", "*@x..y", "expected"),
        ("*@old.example", "a b@x", "expected"),
    ],
)
def test_a_transform_that_cannot_work_is_refused(pattern: str, result: str, expected: str) -> None:
    with pytest.raises(GrammarError, match=expected):
        parse_transform(pattern, result, is_inbound=False)


@pytest.mark.parametrize("result", ["$1@$2", "*@*", "*@*.com", "x@$2"])
def test_no_sender_chooses_by_an_inbound_transform_where_mail_goes(result: str) -> None:
    parse_transform("*%*@example.org", result, is_inbound=False)
    with pytest.raises(GrammarError, match="in one domain"):
        parse_transform("*%*@example.org", result, is_inbound=True)


@given(words.mailboxes)
def test_the_whole_of_an_address_goes_through_unharmed(mailbox: Mailbox) -> None:
    found = parse_transform("*@*", "*@*", is_inbound=False).apply(mailbox)
    assert found is None or found.key == mailbox.key


@given(words.mailboxes, st.text("*@ab.$1", min_size=1, max_size=12), st.text("*@ab.$12", min_size=1, max_size=12))
def test_any_transform_gives_an_address_or_none(mailbox: Mailbox, pattern: str, result: str) -> None:
    try:
        transform = parse_transform(pattern, result, is_inbound=False)
    except GrammarError:
        return
    found = transform.apply(mailbox)
    assert found is None or parse_mailbox(str(found)) == found
