"""Where a forward-path leads."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import Mailbox, parse_mailbox
from mailsrv.work.route import Route
from mailsrv.work.routing import Directory
from tests.work.instance import config_of, make


def route(root: Path, forward_path: str, aliases: str = "") -> Route:
    return Directory(make(root, aliases)).route(parse_mailbox(forward_path))


def summary(found: Route) -> tuple[list[str], list[str], object]:
    return sorted(found.local), sorted(found.remote), found.refusal


def test_an_account_is_found_in_any_case(tmp_path: Path) -> None:
    assert summary(route(tmp_path, "BOB@Example.ORG")) == (["bob@example.org"], [], None)


def test_nobody_is_refused(tmp_path: Path) -> None:
    assert summary(route(tmp_path, "ghost@example.org")) == ([], [], reply.NO_SUCH_MAILBOX)


@pytest.mark.parametrize("address", ["x@example.net", "x@sub.example.org", "x@[127.0.0.1]"])
def test_another_domain_is_remote(tmp_path: Path, address: str) -> None:
    assert summary(route(tmp_path, address)) == ([], [address], None)


def test_mailboxes_elsewhere_are_told_apart_by_case_and_their_domains_are_not(tmp_path: Path) -> None:
    aliases = "team@example.org: Dave@example.net, dave@example.net, dave@EXAMPLE.net\n"
    assert summary(route(tmp_path, "team@example.org", aliases)) == (
        [],
        ["Dave@example.net", "dave@example.net"],
        None,
    )


def test_an_alias_leads_to_all_of_its_targets_each_once(tmp_path: Path) -> None:
    aliases = "team@example.org: alice@example.org, ALICE@example.org, inner@example.org, x@example.net\n"
    aliases += "inner@example.org: bob@example.org, x@example.net, alice@example.org\n"
    found = route(tmp_path, "Team@example.org", aliases)
    assert summary(found) == (["alice@example.org", "bob@example.org"], ["x@example.net"], None)


def test_an_alias_of_which_a_part_leads_nowhere_serves_the_rest(tmp_path: Path) -> None:
    found = route(tmp_path, "team@example.org", "team@example.org: alice@example.org, ghost@example.org\n")
    assert summary(found) == (["alice@example.org"], [], reply.NO_SUCH_MAILBOX)


def test_an_alias_that_names_its_own_address_means_the_account(tmp_path: Path) -> None:
    aliases = "bob@example.org: bob@example.org, copy@example.net\n"
    assert summary(route(tmp_path, "bob@example.org", aliases)) == (["bob@example.org"], ["copy@example.net"], None)


@pytest.mark.parametrize(
    "aliases",
    [
        "a@example.org: a@example.org\n",
        "a@example.org: b@example.org\nb@example.org: a@example.org\n",
        "a@example.org: b@example.org\nb@example.org: c@example.org\nc@example.org: b@example.org\n",
    ],
)
def test_an_alias_that_leads_back_to_itself_is_refused(tmp_path: Path, aliases: str) -> None:
    assert summary(route(tmp_path, "a@example.org", aliases)) == ([], [], reply.ALIAS_LOOP)


def test_accounts_that_forward_to_each_other_end_no_mail_in_a_loop(tmp_path: Path) -> None:
    aliases = "alice@example.org: alice@example.org, bob@example.org\nbob@example.org: alice@example.org\n"
    found = route(tmp_path, "bob@example.org", aliases)
    assert summary(found) == (["alice@example.org", "bob@example.org"], [], None)


def test_lists_of_lists_are_followed_once_each(tmp_path: Path) -> None:
    lines = [f"l{n}@example.org: l{n + 1}@example.org, m{n + 1}@example.org" for n in range(60)]
    lines += [f"m{n}@example.org: l{n + 1}@example.org, m{n + 1}@example.org" for n in range(60)]
    lines += ["l60@example.org: alice@example.org", "m60@example.org: bob@example.org", ""]
    found = route(tmp_path, "l0@example.org", "\n".join(lines))  # 2 to the 60th ways lead there
    assert summary(found) == (["alice@example.org", "bob@example.org"], [], None)


def test_a_long_chain_of_aliases_is_followed_to_its_end(tmp_path: Path) -> None:
    lines = [f"a{n}@example.org: a{n + 1}@example.org" for n in range(3000)]
    found = route(tmp_path, "a0@example.org", "\n".join([*lines, "a3000@example.org: bob@example.org\n"]))
    assert summary(found) == (["bob@example.org"], [], None)


# --- who may send as whom --------------------------------------------------------------------------

ALIASES = """
team@example.org: inner@example.org, carol@example.org
inner@example.org: bob@example.org, x@example.net
loop@example.org: pool@example.org, bob@example.org
pool@example.org: loop@example.org
alice@example.org: alice@example.org, bob@example.org
elsewhere@example.net: bob@example.org
"""


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("bob@example.org", True),
        ("BOB@Example.ORG", True),
        ("team@example.org", True),
        ("Inner@example.org", True),
        ("loop@example.org", True),
        ("alice@example.org", False),  # her mail is passed on to him, and the address is hers
        ("carol@example.org", False),
        ("ghost@example.org", False),
        ("postmaster@example.org", False),
        ("x@example.net", False),
        ("elsewhere@example.net", False),
    ],
)
def test_an_account_sends_as_itself_and_as_the_aliases_that_lead_to_it(tmp_path: Path, address: str, may: bool) -> None:
    directory = Directory(make(tmp_path, ALIASES))
    bob = directory.account("bob")
    assert bob
    assert directory.may_send_as(bob, parse_mailbox(address)) == may


def test_who_hears_what_postmaster_is_told_answers_as_postmaster(tmp_path: Path) -> None:
    directory = Directory(make(tmp_path))
    alice, bob = directory.account("alice"), directory.account("bob")
    assert alice
    assert bob
    for mailbox in (Mailbox("postmaster", ""), Mailbox("Postmaster", "example.org")):
        assert directory.may_send_as(alice, mailbox)
        assert not directory.may_send_as(bob, mailbox)


def test_an_account_that_passes_its_mail_on_still_sends_as_itself(tmp_path: Path) -> None:
    directory = Directory(make(tmp_path, "bob@example.org: bob@example.net\n"))
    bob = directory.account("bob")
    assert bob
    assert directory.may_send_as(bob, bob.mailbox)


# --- postmaster ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mailbox", [Mailbox("Postmaster", ""), Mailbox("postMASTER", "example.org")])
def test_the_first_account_hears_what_postmaster_is_told(tmp_path: Path, mailbox: Mailbox) -> None:
    assert list(Directory(make(tmp_path)).route(mailbox).local) == ["alice@example.org"]


@pytest.mark.parametrize("mailbox", [Mailbox("postmaster", ""), Mailbox("Postmaster", "Example.org")])
def test_postmaster_may_be_an_alias(tmp_path: Path, mailbox: Mailbox) -> None:
    directory = Directory(make(tmp_path, "postmaster@example.org: carol@example.org\n"))
    assert list(directory.route(mailbox).local) == ["carol@example.org"]


def test_postmaster_may_be_an_account(tmp_path: Path) -> None:
    config = make(tmp_path)
    with config.accounts.open("a") as file:
        file.write("postmaster@example.org $argon2id$none\n")
    assert list(Directory(config).route(Mailbox("postmaster", "")).local) == ["postmaster@example.org"]


def test_the_postmaster_of_another_domain_is_remote(tmp_path: Path) -> None:
    assert summary(route(tmp_path, "postmaster@example.net")) == ([], ["postmaster@example.net"], None)


# --- the files -------------------------------------------------------------------------------------


def test_edits_take_effect_at_the_next_question(tmp_path: Path) -> None:
    config = make(tmp_path)
    directory = Directory(config)
    assert directory.account("bob@example.org") is not None
    assert directory.account("BOB") == directory.account("bob@example.org")
    assert directory.account("dave") is None
    with config.accounts.open("a") as file:
        file.write("dave@example.org $argon2id$none\n")
    assert directory.account("dave") is not None


def test_a_broken_edit_keeps_the_last_good_one_and_is_told(tmp_path: Path) -> None:
    config = make(tmp_path, "team@example.org: bob@example.org\n")
    directory = Directory(config)
    assert directory.mistakes() == []
    for path in (config.accounts, config.aliases):
        with path.open("a") as file:
            file.write("nonsense\n")
    assert [(mistake.path, mistake.line) for mistake in directory.mistakes()] == [
        (config.accounts, 4),
        (config.aliases, 2),
    ]
    assert summary(directory.route(parse_mailbox("team@example.org"))) == (["bob@example.org"], [], None)


def broken(config: Config, how: str) -> Config:
    match how:
        case "nonsense":
            config.accounts.write_text("nonsense\n")
        case "missing":
            config.accounts.unlink()
        case "no file":
            config.accounts.unlink()
            config.accounts.mkdir()
        case "not UTF-8":
            config.accounts.write_bytes(b"\xff\n")
        case "aliases":
            config.aliases.write_text("nonsense\n")
    return config


@pytest.mark.parametrize("how", ["nonsense", "missing", "no file", "not UTF-8", "aliases"])
def test_nobody_is_refused_for_good_while_a_file_cannot_be_read(tmp_path: Path, how: str) -> None:
    directory = Directory(broken(make(tmp_path), how))
    for name in ("dave", "ghost"):
        refusal = directory.route(Mailbox(name, "example.org")).refusal
        assert refusal is not None
        assert not refusal.is_permanent


def test_aliases_need_not_be_there(tmp_path: Path) -> None:
    config = make(tmp_path)
    config.aliases.unlink()
    directory = Directory(config)
    assert directory.mistakes() == []
    assert directory.route(Mailbox("ghost", "example.org")).refusal is reply.NO_SUCH_MAILBOX


def test_aliases_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    aliases = "a@example.org: ghost@example.org\nb@example.org: b@example.org\nc@example.org: bob@example.org\n"
    found = Directory(make(tmp_path, aliases)).dangling()
    assert [key for key, _ in found] == ["a@example.org", "b@example.org"]


def test_the_domain_of_a_mailbox_decides_whether_it_is_ours(tmp_path: Path) -> None:
    directory = Directory(config_of(tmp_path))
    assert directory.is_local(Mailbox("x", "EXAMPLE.org"))
    assert directory.is_local(Mailbox("postmaster", ""))
    assert not directory.is_local(Mailbox("x", "example.net"))


# --- beyond ASCII ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example"])
@pytest.mark.parametrize("asked", ["bücher.example", "bu\u0308cher.example", "XN--bcher-kva.example"])
def test_a_domain_is_ours_in_whichever_form_it_is_written(tmp_path: Path, ours: str, asked: str) -> None:
    directory = Directory(replace(make(tmp_path), domains=("example.org", ours)))
    assert directory.is_local(Mailbox("x", asked))
    assert not directory.is_local(Mailbox("x", "bucher.example"))


def test_accounts_and_aliases_of_any_script_are_found_in_any_spelling(tmp_path: Path) -> None:
    config = replace(
        make(tmp_path, "büro@example.org: jörg@bücher.example\n"), domains=("example.org", "bücher.example")
    )
    with config.accounts.open("a", encoding="utf-8") as file:
        file.write("jörg@xn--bcher-kva.example $argon2id$none\n用户@example.org $argon2id$none\n")
    directory = Directory(config)
    for address in ("büro@example.org", "BU\u0308RO@example.org", "jo\u0308rg@bücher.example"):
        assert list(directory.route(parse_mailbox(address)).local) == ["jörg@xn--bcher-kva.example"]
    assert directory.route(parse_mailbox("buero@example.org")).refusal is reply.NO_SUCH_MAILBOX
    for name in ("jörg@bücher.example", "JO\u0308RG@xn--bcher-kva.example"):
        account = directory.account(name)
        assert account is not None
        assert account.mailbox == Mailbox("jörg", "xn--bcher-kva.example")
    assert directory.account("用户") is not None
    assert directory.account("jörg") is None
    assert directory.dangling() == []
