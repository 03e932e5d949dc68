"""Records and policies of MTA-STS, as octets."""

import pytest

from mailsrv.protocol.mta_sts import LONGEST_AGE, MOST_OCTETS, Mode, Policy, parse_policy, policy_id

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


def test_a_policy_is_read_with_either_line_end_and_unknown_keys_are_passed_over() -> None:
    expected = Policy(Mode.ENFORCE, ("mail.example.org", "*.example.net"), 604_800)
    assert parse_policy(GOOD) == expected
    assert parse_policy(GOOD.replace(b"\r\n", b"\n") + b"\nnew_key: 1\nno key\nmode: none\n") == expected


def test_of_keys_that_stand_twice_the_first_counts_and_an_age_has_an_end() -> None:
    assert parse_policy(GOOD + b"max_age: 1\r\n").max_age == 604_800
    assert parse_policy(GOOD.replace(b"604800", b"9999999999")).max_age == LONGEST_AGE


def test_a_policy_of_none_needs_no_hosts() -> None:
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 86400") == Policy(Mode.NONE, (), 86_400)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"<html>not found</html>",
        GOOD.replace(b"STSv1", b"STSv2"),
        GOOD.replace(b"enforce", b"maybe"),
        GOOD.replace(b"604800", b"-1"),
        GOOD.replace(b"max_age", b"min_age"),
        GOOD.replace(b"mx", b"nx"),
        GOOD + b"x" * MOST_OCTETS,
    ],
)
def test_what_is_no_policy_is_refused_with_what_was_expected(octets: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_policy(octets)


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mail.example.org", True),
        ("MAIL.example.org.", True),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        ("mail.example.org.evil.example", False),
        ("xmail.example.org", False),
    ],
)
def test_a_star_stands_for_one_label(host: str, is_allowed: bool) -> None:
    assert parse_policy(GOOD).allows(host) is is_allowed


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([b"v=STSv1; id=20260101T0;"], "20260101T0"),
        ([b"v=STSv1;id=1", b"v=spf1 -all"], "1"),
        ([b"v=STSv1; other=2; id=1"], "1"),
        ([], None),
        ([b"v=STSv1; id=1", b"v=STSv1; id=2"], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=" + b"1" * 33], None),
        ([b"v=STSv10; id=1"], None),
        ([b"id=1; v=STSv1"], None),
    ],
)
def test_an_id_is_known_from_one_record_that_is_well_formed(texts: list[bytes], expected: str | None) -> None:
    assert policy_id(texts) == expected
