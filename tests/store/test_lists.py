"""The files `lists` and `transforms`: read, edited by section and by line, mistakes told by line."""

from pathlib import Path

import pytest

from mailsrv.model.address import Mailbox, parse_mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store.lists import DistributionList, change_members, parse_lists, put_list, render_list
from mailsrv.store.transforms import parse_transforms, transformed

FILE = Path("lists")
TEXT = """# our lists
[Team@example.org]
owner = alice@example.org
post = members, boss@example.net, @partner.example

bob@example.org
# far away
dave@example.net
owner=x@example.net.verp.example

[news@example.org]
owner=carol@example.org
"""
TEAM = parse_mailbox("team@example.org")


def team(text: str = TEXT) -> DistributionList:
    return parse_lists(FILE, text)["team@example.org"]


def test_a_list_has_an_owner_and_members_and_says_who_may_post() -> None:
    text = TEXT.replace("owner=x@example.net.verp.example\n", "")
    lists = parse_lists(FILE, text)
    assert list(lists) == ["team@example.org", "news@example.org"]
    assert lists["team@example.org"].owner == Mailbox("alice", "example.org")
    assert [str(each) for each in lists["team@example.org"].members] == ["bob@example.org", "dave@example.net"]
    assert lists["news@example.org"].members == ()


@pytest.mark.parametrize(
    ("post", "yes", "no"),
    [
        ("members", ["BOB@example.org", "dave@EXAMPLE.net", "alice@example.org"], ["boss@example.net"]),
        ("anybody", ["x@y.z"], []),
        ("boss@example.net", ["Boss@example.net", "alice@example.org"], ["bob@example.org"]),
        ("@partner.example, members", ["any@partner.example", "bob@example.org"], ["x@sub.partner.example"]),
    ],
)
def test_who_may_post(post: str, yes: list[str], no: list[str]) -> None:
    section = f"[team@example.org]\nowner = alice@example.org\npost = {post}\nbob@example.org\ndave@example.net\n"
    found = team(section)
    assert [address for address in yes if not found.takes_from(parse_mailbox(address))] == []
    assert [address for address in no if found.takes_from(parse_mailbox(address))] == []
    assert not found.takes_from(None)  # a report never goes to a list


def test_members_may_post_where_nothing_is_said() -> None:
    found = team("[team@example.org]\nowner = alice@example.org\nbob@example.org\n")
    assert found.takes_from(parse_mailbox("bob@example.org"))
    assert not found.takes_from(parse_mailbox("x@example.org"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bob@example.org\n", 1),
        ("[team@example.org\n", 1),
        ("[team]\n", 1),
        ("\n[team@example.org]\nbob@example.org\n", 2),
        ("[team@example.org]\nowner = alice@example.org\nowner = bob@example.org\n", 3),
        ("[team@example.org]\nowner = alice\n", 2),
        ("[team@example.org]\nowner = alice@example.org\npost = friends\n", 3),
        ("[team@example.org]\nowner = alice@example.org\nposts = members\n", 3),
        ("[team@example.org]\nowner = alice@example.org\nbob\n", 3),
        ("[a@b.c]\nowner = x@y.z\n[A@b.c]\nowner = x@y.z\n", 3),
    ],
)
def test_a_mistake_in_lists_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Mistake) as caught:
        parse_lists(FILE, text)
    assert caught.value.line == line


def test_members_with_an_equals_sign_are_members() -> None:
    found = team("[team@example.org]\nowner = alice@example.org\nb=c@example.org\n")
    assert found.members == (Mailbox("b=c", "example.org"),)


def test_edits_of_one_list_leave_the_others_and_the_comments(tmp_path: Path) -> None:
    path = tmp_path / "lists"
    path.write_text(TEXT.replace("owner=x@example.net.verp.example\n", ""))
    change_members(path, TEAM, [parse_mailbox("eve@example.net")], [parse_mailbox("BOB@example.org")])
    text = path.read_text()
    assert [str(each) for each in team(text).members] == ["dave@example.net", "eve@example.net"]
    assert "# our lists\n" in text
    assert "# far away\n" in text
    assert text.endswith("\n\n[news@example.org]\nowner=carol@example.org\n")
    assert put_list(path, TEAM, None)
    assert list(parse_lists(path, path.read_text())) == ["news@example.org"]
    assert not put_list(path, TEAM, None)
    made = DistributionList(TEAM, Mailbox("a", "b"), "anybody", (Mailbox("c", "d"),), frozenset())
    assert not put_list(path, TEAM, render_list(made))
    assert put_list(path, TEAM, render_list(made))
    assert path.read_text().endswith("\n\n[team@example.org]\nowner = a@b\npost = anybody\nc@d\n")


def test_a_list_is_added_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "lists"
    put_list(path, TEAM, ["[team@example.org]", "owner = alice@example.org"])
    change_members(path, TEAM, [parse_mailbox("bob@example.org")], [])
    assert path.read_text() == "[team@example.org]\nowner = alice@example.org\nbob@example.org\n"


# --- transforms ------------------------------------------------------------------------------------


def test_transforms_are_tried_in_order_and_the_first_that_matches_counts() -> None:
    text = "# moved\ninbound bob@old.example -> robert@example.org\ninbound *@old.example -> *@example.org\n"
    text += "outbound *@example.org -> *@outside.example\n"
    transforms = parse_transforms(Path("transforms"), text)
    found = [str(transformed(Mailbox(name, "old.example"), transforms.inbound)[0]) for name in ("bob", "eve")]
    assert found == ["robert@example.org", "eve@example.org"]
    assert transformed(Mailbox("x", "y"), transforms.inbound) == (Mailbox("x", "y"), None)
    assert [str(each) for each in transforms.outbound] == ["*@example.org -> *@outside.example"]


@pytest.mark.parametrize(
    "line", ["*@a -> *@b", "inbound *@a *@b", "inwards *@a -> *@b", "inbound *@a -> *@*", "inbound a -> b", "inbound"]
)
def test_a_mistake_in_transforms_is_told_with_its_line(line: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse_transforms(Path("transforms"), f"# one\n{line}\n")
    assert caught.value.line == 2
