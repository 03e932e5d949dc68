"""Accounts and aliases: read by line, edited by line, and kept when an edit is broken."""

import os
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.model.verifier import Verifier
from mailsrv.store.accounts import parse_account_address, parse_accounts, parse_aliases, render_account
from mailsrv.store.kept import MAX_HOLD, Hold, Kept
from mailsrv.store.lines import put_line
from mailsrv.store.maildir import mailbox_path
from tests.model import words

ALICE, BOB = Mailbox("alice", "example.org"), Mailbox("bob", "example.org")
FILE = Path("accounts")
VERIFIER = str(Verifier(4096, b"s" * 16, b"k" * 32, b"k" * 32))


def test_accounts_are_read_in_their_order_and_found_in_any_case() -> None:
    text = "# people\n\n  Bob@Example.org   $argon2id$b  \nalice@example.org $argon2id$a\n"
    accounts = parse_accounts(FILE, text)
    assert list(accounts) == ["bob@example.org", "alice@example.org"]
    assert accounts["bob@example.org"].mailbox == Mailbox("Bob", "Example.org")
    assert accounts["bob@example.org"].password_hash == "$argon2id$b"


def test_an_account_may_have_a_verifier_and_is_written_as_it_is_read() -> None:
    text = f"alice@example.org $argon2id$a {VERIFIER}\nbob@example.org\t$argon2id$b\n"
    alice, bob = parse_accounts(FILE, text).values()
    assert (alice.password_hash, alice.scram_verifier) == ("$argon2id$a", VERIFIER)
    assert (bob.password_hash, bob.scram_verifier) == ("$argon2id$b", "")
    assert render_account(alice) == f"alice@example.org $argon2id$a {VERIFIER}"
    assert render_account(bob) == "bob@example.org $argon2id$b"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("alice@example.org\n", 1),
        ("alice@example.org $argon2id$a SCRAM-SHA-256$1:a$b:c\n", 1),
        (f"alice@example.org {VERIFIER}\n", 1),
        (f"\nalice@example.org $argon2id$a {VERIFIER} more\n", 2),
        ("# people\nalice@example.org secret\n", 2),
        ("alice@example.org $argon2id$a\n\nALICE@example.org $argon2id$b\n", 3),
        ("alice $argon2id$a\n", 1),
        ("../alice@example.org $argon2id$a\n", 1),
        (".@example.org $argon2id$a\n", 1),
        ("a/b@example.org $argon2id$a\n", 1),
        ('"a b"@example.org $argon2id$a\n', 1),
        ("a@[192.0.2.1] $argon2id$a\n", 1),
        ("a\u2044b@example.org $argon2id$a\n", 1),  # a slash, nearly
        ("\u0308a@example.org $argon2id$a\n", 1),
        ("a\U0001f600@example.org $argon2id$a\n", 1),
        ("jörg@x.org $argon2id$a\nJO\u0308RG@x.org $argon2id$b\n", 2),
        ("a@bücher.example $argon2id$a\na@xn--bcher-kva.example $argon2id$b\n", 2),
    ],
)
def test_a_mistake_in_accounts_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Mistake) as caught:
        parse_accounts(FILE, text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"accounts:{line}: ")


def test_aliases_have_one_target_or_several() -> None:
    aliases = parse_aliases(FILE, "# lists\nTeam@example.org : alice@example.org,bob@example.org ,\nx@y: dave@z\n")
    assert parse_aliases(FILE, '"a:b"@x: "c,d"@y, e@z\n') == {"a:b@x": (Mailbox("c,d", "y"), Mailbox("e", "z"))}
    assert aliases == {"team@example.org": (ALICE, BOB), "x@y": (parse_mailbox("dave@z"),)}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("team@example.org\n", 1),
        ("team@example.org: \n", 1),
        ("team@example.org: , ,\n", 1),
        ("a@b: c@d\nteam: alice@example.org\n", 2),
        ("team@example.org: alice\n", 1),
        ("a@b: c@d\n#\nA@B: c@d\n", 3),
        ('a@b: c@d\na@c: "c@d\n', 2),
        ("a@b c@d: e@f\n", 1),
    ],
)
def test_a_mistake_in_aliases_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Mistake) as caught:
        parse_aliases(FILE, text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        "tmp@example.org",
        "a.b@example.org",
        "a+b@example.org",
        "_@example.org",
        "jörg@bücher.example",
        "用户.২@example.org",
        "हिन्दी@example.org",  # with marks, which are part of its letters
    ],
)
def test_the_address_of_an_account_can_name_a_folder(text: str) -> None:
    assert str(parse_account_address(text)) == text


@given(words.mailboxes)
def test_an_account_has_one_folder_however_its_address_is_spelled(mailbox: Mailbox) -> None:
    mail = Path("mail")
    folder = mailbox_path(mail, mailbox)
    for spelling in (mailbox.local_part.upper(), unicodedata.normalize("NFD", mailbox.local_part)):
        other = Mailbox(spelling, mailbox.domain)
        assert (mailbox_path(mail, other) == folder) == (other.key == mailbox.key)
    try:
        parse_account_address(str(mailbox))
    except GrammarError:
        return
    assert folder.parent.parent == mail
    assert not folder.name.startswith(".")
    assert len(os.fsencode(folder.name)) <= 255


@pytest.mark.parametrize("address", ["JÖRG@bücher.example", "jo\u0308rg@xn--bcher-kva.example", "jörg@BÜCHER.example"])
def test_the_folder_of_an_account_is_in_nfc_and_a_labels(address: str) -> None:
    assert mailbox_path(Path("mail"), parse_mailbox(address)) == Path("mail/xn--bcher-kva.example/jörg")


# --- editing ---------------------------------------------------------------------------------------


def test_an_edit_keeps_comments_and_order(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("# one: x\nbob@example.org: x@y\n\n# alice@example.org: old\nalice@example.org: x@y\n")
    assert put_line(path, BOB, "bob@example.org: new@y")
    assert path.read_text() == (
        "# one: x\nbob@example.org: new@y\n\n# alice@example.org: old\nalice@example.org: x@y\n"
    )


def test_a_line_is_added_at_the_end_found_in_any_case_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    assert not put_line(path, BOB, "bob@example.org one")
    assert not put_line(path, ALICE, "alice@example.org two")
    assert put_line(path, Mailbox("BOB", "example.ORG"), "bob@example.org three")
    assert path.read_text() == "bob@example.org three\nalice@example.org two\n"
    assert put_line(path, BOB, None)
    assert not put_line(path, BOB, None)
    assert path.read_text() == "alice@example.org two\n"


def test_a_line_is_added_to_a_file_whose_last_line_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("# no line end")
    put_line(path, BOB, "bob@example.org: x@y")
    assert path.read_text() == "# no line end\nbob@example.org: x@y\n"


@pytest.mark.parametrize(
    "address",
    ['"a b"@example.org', '"a:b"@example.org', r'"a\"b"@example.org', "a#b@example.org", '"ö ü"@bücher.example'],
)
def test_an_alias_for_an_odd_address_is_found_again(tmp_path: Path, address: str) -> None:
    path = tmp_path / "aliases"
    mailbox = parse_mailbox(address)
    assert not put_line(path, mailbox, f"{mailbox}: alice@example.org")
    assert put_line(path, Mailbox(mailbox.local_part.upper(), mailbox.domain), f"{mailbox}: bob@example.org")
    assert parse_aliases(path, path.read_text()) == {mailbox.key: (BOB,)}


# --- kept ------------------------------------------------------------------------------------------


def change(path: Path, text: str) -> None:
    """Edit as an editor does; the time of the last change always differs."""
    path.write_text(text)
    change.moment += 1_000_000_000  # type: ignore[attr-defined]
    os.utime(path, ns=(change.moment, change.moment))  # type: ignore[attr-defined]


change.moment = time.time_ns()  # type: ignore[attr-defined]


def kept(path: Path, *, is_optional: bool = False) -> Kept[tuple[str, ...]]:
    return Kept(path, lambda path, text: tuple(parse_accounts(path, text)), (), is_optional=is_optional)


def test_an_edit_takes_effect_at_the_next_question(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    change(path, "alice@example.org $argon2id$a\n")
    accounts = kept(path)
    assert accounts.current() == ("alice@example.org",)
    change(path, "bob@example.org $argon2id$b\n")
    assert accounts.current() == ("bob@example.org",)


def test_a_broken_edit_keeps_the_last_good_one_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    change(path, "alice@example.org $argon2id$a\n")
    accounts = kept(path)
    accounts.current()
    for broken in ("alice@example.org\n", "\0"):
        change(path, broken)
        assert accounts.current() == ("alice@example.org",)
        assert accounts.mistake is not None
        assert accounts.mistake.line == 1
    path.write_bytes(b"\xff\xfe")
    assert accounts.current() == ("alice@example.org",)
    assert "UTF-8" in str(accounts.mistake)
    change(path, "bob@example.org $argon2id$b\n")
    assert accounts.current() == ("bob@example.org",)
    assert accounts.mistake is None


def test_a_file_that_is_no_file_keeps_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    change(path, "alice@example.org $argon2id$a\n")
    accounts = kept(path)
    accounts.current()
    path.unlink()
    path.mkdir()
    assert accounts.current() == ("alice@example.org",)
    assert "readable" in str(accounts.mistake)


def test_a_file_that_may_be_absent_is_empty_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    accounts = kept(path, is_optional=True)
    assert accounts.current() == ()
    assert accounts.mistake is None
    change(path, "bob@example.org $argon2id$b\n")
    assert accounts.current() == ("bob@example.org",)
    path.unlink()
    assert accounts.current() == ()
    assert accounts.mistake is None


def test_a_file_that_must_be_there_keeps_the_last_good_one_while_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    change(path, "alice@example.org $argon2id$a\n")
    accounts = kept(path)
    accounts.current()
    path.unlink()
    assert accounts.current() == ("alice@example.org",)
    assert accounts.mistake is not None
    change(path, "bob@example.org $argon2id$b\n")
    assert accounts.current() == ("bob@example.org",)
    assert accounts.mistake is None


def held(path: Path, hold: Hold) -> Kept[tuple[str, ...]]:
    no_accounts: tuple[str, ...] = ()
    return Kept(path, lambda path, text: tuple(parse_accounts(path, text)), no_accounts, is_optional=False, hold=hold)


def test_within_a_hold_a_file_is_looked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    change(path, "bob@example.org $argon2id$b\n")
    hold = Hold()
    accounts = held(path, hold)
    hold.begin()
    assert list(accounts.current()) == ["bob@example.org"]
    change(path, "eve@example.org $argon2id$e\n")
    assert list(accounts.current()) == ["bob@example.org"]
    hold.end()
    assert list(accounts.current()) == ["eve@example.org"]
    change(path, "bob@example.org $argon2id$b\n")
    hold.begin()
    assert list(accounts.current()) == ["bob@example.org"]


def test_a_hold_that_nobody_ends_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accounts"
    change(path, "bob@example.org $argon2id$b\n")
    hold = Hold()
    accounts = held(path, hold)
    hold.begin()
    accounts.current()
    change(path, "eve@example.org $argon2id$e\n")
    later = time.monotonic() + MAX_HOLD
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert list(accounts.current()) == ["eve@example.org"]
