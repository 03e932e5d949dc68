"""The rules by which an address is followed: transforms, lists, details, catch-alls; and how they are explained."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import Mailbox, parse_mailbox
from mailsrv.settings import Routing
from mailsrv.work.route import Route
from mailsrv.work.routing import Directory
from tests.work.instance import make

LISTS = """[team@example.org]
owner = carol@example.org
post = members, @partner.example
alice@example.org
bob@example.org
dave@example.net
"""
ALICE = parse_mailbox("alice@example.org")


def route_in(config: Config, address: str, sender: Mailbox | None = ALICE) -> Route:
    return Directory(config).route(parse_mailbox(address), sender)


def ends(found: Route) -> list[str]:
    """All that it leads to, and how it is refused."""
    return [*found.local, *found.remote, *([str(found.refusal)] if found.refusal else [])]


# --- user+detail -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("bob+shop@example.org", "bob@example.org"),
        ("BOB+a+b@example.org", "bob@example.org"),
        ("bob+@example.org", "bob@example.org"),
        ("info+x@example.org", "alice@example.org"),  # an alias
        ("bob+exact@example.org", "carol@example.org"),  # an alias of its own
        ("+bob@example.org", str(reply.NO_SUCH_MAILBOX)),
        ("ghost+x@example.org", str(reply.NO_SUCH_MAILBOX)),
        ("bob-shop@example.org", str(reply.NO_SUCH_MAILBOX)),
        ("x+y@example.net", "x+y@example.net"),  # what it means elsewhere, only elsewhere is known
    ],
)
def test_a_detail_is_left_out_where_the_whole_is_no_name(tmp_path: Path, address: str, expected: str) -> None:
    aliases = "info@example.org: alice@example.org\nbob+exact@example.org: carol@example.org\n"
    assert ends(route_in(make(tmp_path, aliases), address)) == [expected]


@pytest.mark.parametrize(
    ("delimiter", "address", "is_known"),
    [("-", "bob-x@example.org", True), ("-", "bob+x@example.org", False), ("", "bob+x@example.org", False)],
)
def test_the_delimiter_is_a_setting(tmp_path: Path, delimiter: str, address: str, is_known: bool) -> None:
    config = replace(make(tmp_path), routing=Routing(detail_delimiter=delimiter))
    assert route_in(config, address).leads_somewhere == is_known


# --- catch-all, several domains --------------------------------------------------------------------


def test_a_catch_all_takes_what_nobody_else_in_its_domain_does(tmp_path: Path) -> None:
    config = make(tmp_path, "@example.org: carol@example.org\nteam@example.org: bob@example.org\n")
    config = replace(config, domains=("example.org", "example.com"))
    found = [ends(route_in(config, f"{name}@example.org")) for name in ("x", "alice", "team", "alice+x", "y+z")]
    assert found == [[f"{name}@example.org"] for name in ("carol", "alice", "bob", "alice", "carol")]
    assert ends(route_in(config, "postmaster@example.org")) == ["alice@example.org"]
    assert ends(route_in(config, "x@example.com")) == [str(reply.NO_SUCH_MAILBOX)]


def test_each_domain_has_accounts_of_its_own(tmp_path: Path) -> None:
    config = replace(make(tmp_path), domains=("example.org", "example.com"))
    with config.accounts.open("a") as file:
        file.write("bob@example.com $argon2id$none\n")
    assert ends(route_in(config, "bob@example.com")) == ["bob@example.com"]
    assert ends(route_in(config, "bob@example.org")) == ["bob@example.org"]
    assert ends(route_in(config, "carol@example.com")) == [str(reply.NO_SUCH_MAILBOX)]


def test_a_catch_all_that_leads_to_nobody_is_a_loop_and_not_endless(tmp_path: Path) -> None:
    config = make(tmp_path, "@example.org: all@example.org\n")
    assert route_in(config, "x@example.org").refusal is reply.ALIAS_LOOP
    assert Directory(config).dangling()[0][1].endswith("@example.org -> @example.org")


def test_who_gets_what_a_catch_all_catches_may_send_from_there(tmp_path: Path) -> None:
    directory = Directory(make(tmp_path, "@example.org: carol@example.org\n", LISTS))
    carol, bob = directory.account("carol"), directory.account("bob")
    assert carol
    assert bob
    assert directory.may_send_as(carol, parse_mailbox("anything@example.org"))
    assert not directory.may_send_as(bob, parse_mailbox("anything@example.org"))
    assert not directory.may_send_as(carol, parse_mailbox("bob@example.org"))
    assert directory.may_send_as(bob, parse_mailbox("bob+shop@example.org"))
    assert not directory.may_send_as(carol, parse_mailbox("team@example.org"))


# --- lists -----------------------------------------------------------------------------------------


def test_a_list_leads_to_its_members_each_by_way_of_it(tmp_path: Path) -> None:
    found = route_in(make(tmp_path, lists=LISTS), "Team@example.org")
    assert ends(found) == ["alice@example.org", "bob@example.org", "dave@example.net"]
    ways = [*(each.way for each in found.local.values()), *(each.way for each in found.remote.values())]
    assert {str(way.by) for way in ways} == {"team@example.org"}
    assert {str(way.list.owner) for way in ways if way.list} == {"carol@example.org"}


@pytest.mark.parametrize(
    ("sender", "may"),
    [
        ("bob@example.org", True),
        ("carol@example.org", True),
        ("x@partner.example", True),
        ("x@example.org", False),
        (None, False),
    ],
)
def test_who_may_not_post_is_refused(tmp_path: Path, sender: str | None, may: bool) -> None:
    found = route_in(make(tmp_path, lists=LISTS), "team@example.org", parse_mailbox(sender) if sender else None)
    assert found.refusal == (None if may else reply.MAY_NOT_POST)
    assert found.leads_somewhere == may


def test_a_member_that_leads_nowhere_is_lost_and_does_not_stand_in_the_way_of_the_others(tmp_path: Path) -> None:
    found = route_in(make(tmp_path, lists=LISTS + "ghost@example.org\n"), "team@example.org")
    assert found.refusal is None
    assert len(ends(found)) == 3
    assert [(str(each.mailbox), each.reason) for each in found.lost] == [("ghost@example.org", reply.NO_SUCH_MAILBOX)]


def test_a_list_within_a_list_takes_what_the_owner_of_the_outer_one_may_post(tmp_path: Path) -> None:
    outer = "[all@example.org]\nowner = bob@example.org\npost = anybody\nteam@example.org\nx@example.net\n"
    stranger = parse_mailbox("stranger@example.com")
    found = route_in(make(tmp_path, lists=LISTS + outer), "all@example.org", stranger)
    assert ends(found) == ["alice@example.org", "bob@example.org", "dave@example.net", "x@example.net"]
    owners = {key: str(each.way.list.owner) for key, each in found.remote.items() if each.way.list}
    assert owners == {"dave@example.net": "carol@example.org", "x@example.net": "bob@example.org"}


def test_lists_that_lead_to_each_other_are_a_loop_that_is_found(tmp_path: Path) -> None:
    lists = LISTS + "ring@example.org\n[ring@example.org]\nowner = bob@example.org\npost = anybody\nteam@example.org\n"
    config = make(tmp_path, lists=lists)
    found = route_in(config, "team@example.org")
    assert len(ends(found)) == 3
    assert [each.reason for each in found.lost] == [reply.ALIAS_LOOP]
    assert (
        "team@example.org",
        "the alias leads back to itself: team@example.org -> ring@example.org -> team@example.org",
    ) in (Directory(config).dangling())


def test_a_client_is_answered_without_looking_at_each_member(tmp_path: Path) -> None:
    directory = Directory(make(tmp_path, lists=LISTS + "ghost@example.org\n"))
    found = directory.answer(parse_mailbox("team@example.org"), ALICE)
    assert (found.local, found.remote, found.lost, found.refusal) == ({}, {}, [], None)
    assert found.leads_somewhere
    assert found.is_ours
    refused = directory.answer(parse_mailbox("team@example.org"), parse_mailbox("x@example.org"))
    assert (refused.refusal, refused.leads_somewhere) == (reply.MAY_NOT_POST, False)


def test_a_list_with_its_own_address_as_owner_is_no_way_around_anything(tmp_path: Path) -> None:
    lists = "[a@example.org]\nowner = a@example.org\nbob@example.org\n"
    assert route_in(make(tmp_path, lists=lists), "a@example.org", None).refusal is reply.MAY_NOT_POST


# --- loops at edit time ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aliases", "address", "targets", "expected"),
    [
        ("b@example.org: a@example.org\n", "a@example.org", ["b@example.org"], "a@ -> b@ -> a@"),
        ("", "a@example.org", ["bob@example.org", "a@example.org"], "a@ -> a@"),
        (
            "b@example.org: c@example.org\nc@example.org: a@example.org\n",
            "a@example.org",
            ["b@example.org"],
            "a@ -> b@ -> c@ -> a@",
        ),
        ("", "bob@example.org", ["bob@example.org", "x@example.net"], ""),  # a copy is kept
        ("alice@example.org: bob@example.org\n", "bob@example.org", ["alice@example.org"], ""),
        ("", "a@example.org", ["team@example.org", "x@example.net"], ""),
    ],
)
def test_a_loop_is_found_before_it_is_made(
    tmp_path: Path, aliases: str, address: str, targets: list[str], expected: str
) -> None:
    directory = Directory(make(tmp_path, aliases, LISTS))
    loop = directory.loop_with(parse_mailbox(address), tuple(map(parse_mailbox, targets)))
    assert loop.replace("example.org", "") == expected


def test_a_long_chain_and_many_ways_are_searched_quickly(tmp_path: Path) -> None:
    lines = [f"a{n}@example.org: a{n + 1}@example.org, b{n + 1}@example.org" for n in range(2000)]
    lines += [f"b{n}@example.org: a{n + 1}@example.org, b{n + 1}@example.org" for n in range(2000)]
    lines += ["a2000@example.org: bob@example.org", "b2000@example.org: a0@example.org", ""]
    directory = Directory(make(tmp_path, "\n".join(lines)))
    loop = directory.loop_with(parse_mailbox("x@example.org"), (parse_mailbox("a0@example.org"),))
    assert loop.startswith("a0@example.org -> ")
    assert loop.endswith("b2000@example.org -> a0@example.org")


# --- transforms ------------------------------------------------------------------------------------

TRANSFORMS = """inbound bob@old.example -> carol@example.org
inbound *@old.example -> *@example.org
inbound gone@example.org -> gone@example.net
inbound x@other.example -> y@another.example
"""


@pytest.mark.parametrize(
    ("address", "expected", "is_ours"),
    [
        ("bob@old.example", "carol@example.org", True),
        ("alice@OLD.example", "alice@example.org", True),
        ("ghost@old.example", str(reply.NO_SUCH_MAILBOX), True),
        ("gone@example.org", "gone@example.net", True),
        ("x@other.example", "y@another.example", False),  # both elsewhere: not for strangers
        ("bob@example.org", "bob@example.org", True),
    ],
)
def test_an_inbound_transform_comes_before_everything_else(
    tmp_path: Path, address: str, expected: str, is_ours: bool
) -> None:
    found = route_in(make(tmp_path, transforms=TRANSFORMS), address)
    assert ends(found) == [expected]
    assert found.is_ours == is_ours


def test_what_an_alias_leads_to_is_not_transformed(tmp_path: Path) -> None:
    config = make(tmp_path, "team@example.org: bob@old.example\n", transforms=TRANSFORMS)
    assert ends(route_in(config, "team@example.org")) == ["bob@old.example"]


def test_nobody_is_refused_for_good_while_lists_or_transforms_are_broken(tmp_path: Path) -> None:
    for name in ("lists", "transforms"):
        config = make(tmp_path / name)
        directory = Directory(config)
        (config.var / name).write_text("nonsense\n")
        refusal = directory.route(parse_mailbox("ghost@example.org"), ALICE).refusal
        assert refusal is not None
        assert not refusal.is_permanent
        assert [mistake.line for mistake in directory.mistakes()] == [1]
        assert directory.route(parse_mailbox("bob@example.org"), ALICE).refusal is None


def test_a_broken_edit_of_lists_keeps_the_last_good_one(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS)
    directory = Directory(config)
    config.lists.write_text("[team@example.org]\nnonsense\n")
    assert len(ends(directory.route(parse_mailbox("team@example.org"), ALICE))) == 3
    config.lists.write_text(LISTS.replace("dave@example.net\n", ""))
    assert len(ends(directory.route(parse_mailbox("team@example.org"), ALICE))) == 2
    assert directory.mistakes() == []


# --- explained -------------------------------------------------------------------------------------


def test_every_rule_that_was_asked_is_told_in_order(tmp_path: Path) -> None:
    aliases = "info@example.org: team@example.org, ghost@example.org\n"
    directory = Directory(make(tmp_path, aliases, LISTS, TRANSFORMS))
    found, notes = directory.explain(parse_mailbox("info+x@old.example"), ALICE, judges_posting=True)
    told = [(each.depth, each.address, each.rule, each.result) for each in notes]
    assert told[:6] == [
        (0, "info+x@old.example", "transform", "bob@old.example -> carol@example.org: does not match"),
        (0, "info+x@old.example", "transform", "*@old.example -> *@example.org: now info+x@example.org"),
        (0, "info+x@example.org", "name", "no list, no alias, no account"),
        (0, "info+x@example.org", "detail", "without it: info@example.org"),
        (0, "info@example.org", "alias", "leads to team@example.org, ghost@example.org"),
        (
            1,
            "team@example.org",
            "list",
            "carol@example.org hears of failures; it leads to alice@example.org, bob@example.org, dave@example.net",
        ),
    ]
    assert (2, "alice@example.org", "account", "delivered here") in told
    assert (2, "dave@example.net", "domain", "is elsewhere: sent on") in told
    assert told[-1] == (1, "ghost@example.org", "nowhere", str(reply.NO_SUCH_MAILBOX))
    assert found.refusal is reply.NO_SUCH_MAILBOX


def test_the_transform_of_the_sender_is_told_where_mail_goes_elsewhere(tmp_path: Path) -> None:
    transforms = "outbound x@example.org -> y@z\noutbound *@example.org -> *@outside.example\n"
    directory = Directory(make(tmp_path, transforms=transforms))
    _, notes = directory.explain(parse_mailbox("x@example.net"), ALICE, judges_posting=True)
    assert [each.result for each in notes if each.rule == "transform of the sender"] == [
        "x@example.org -> y@z: does not match",
        "*@example.org -> *@outside.example: now alice@outside.example",
    ]
    _, notes = directory.explain(parse_mailbox("bob@example.org"), ALICE, judges_posting=True)
    assert [each for each in notes if each.rule == "transform of the sender"] == []


def test_explaining_comes_to_the_same_as_doing(tmp_path: Path) -> None:
    aliases = (
        "a@example.org: b@example.org\nb@example.org: a@example.org, bob@example.org\n@example.org: carol@example.org\n"
    )
    directory = Directory(make(tmp_path, aliases, LISTS, TRANSFORMS))
    for address in ("a@example.org", "b@example.org", "team@example.org", "x@example.org", "x@old.example", "y@z.net"):
        mailbox = parse_mailbox(address)
        explained, _ = directory.explain(mailbox, ALICE, judges_posting=True)
        assert explained == directory.route(mailbox, ALICE)
