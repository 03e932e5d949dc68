"""Accounts and aliases: plain text, edited by hand or by the command line.

accounts:  one line each, `ADDRESS HASH [VERIFIER]`: argon2id, in its usual `$argon2id$...` form, for those who send
           the password; and for SCRAM what `model.verifier` describes
aliases:   one line each, `ADDRESS: TARGET, TARGET ...`; `@example.org: TARGET ...` for everybody else in a domain

`store.lines` tells what is common to both. Addresses are held equal in any case and in any spelling that Unicode and
IDNA hold equal.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.international import local_part_key
from mailsrv.model.mistake import Mistake
from mailsrv.model.verifier import parse_verifier
from mailsrv.store.lines import address_in, content_lines, parse_address_or_domain, parse_at


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has a mailbox here."""

    mailbox: Mailbox
    password_hash: str
    scram_verifier: str = ""  # where there is none, nobody can log in by SCRAM


Accounts: TypeAlias = Mapping[str, Account]  # by Mailbox.key, in the order of the file
Aliases: TypeAlias = Mapping[str, tuple[Mailbox, ...]]  # by Mailbox.key

# The local part becomes the name of a folder, so it must be a plain one: letters and digits of any script, with the
# marks that are part of letters in many, and these signs.
_PLAIN_SIGNS: Final = frozenset("._+=-")
_PLAIN_CATEGORIES: Final = frozenset({"Ll", "Lu", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd"})

# A comma within quotes belongs to the address.
_TARGET: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')


def parse_account_address(text: str) -> Mailbox:
    """The address of an account; raises GrammarError where it cannot name a folder."""
    mailbox = parse_mailbox(text)
    if not _is_plain(local_part_key(mailbox.local_part)):
        raise GrammarError("expected a local part of letters, digits, and . _ + = - for an account")
    if mailbox.domain.startswith("["):
        raise GrammarError("expected a domain name for an account")
    return mailbox


def _is_plain(name: str) -> bool:
    is_visible_file = not name.startswith(".") and not unicodedata.category(name[0]).startswith("M")
    return is_visible_file and all(
        each in _PLAIN_SIGNS or unicodedata.category(each) in _PLAIN_CATEGORIES for each in name
    )


def parse_accounts(path: Path, text: str) -> Accounts:
    """The meaning of the file `accounts`; raises Mistake."""
    accounts: dict[str, Account] = {}
    for number, line in content_lines(text):
        account = _parse_account(path, number, line.split())
        if account.mailbox.key in accounts:
            raise Mistake(path, number, f"expected {account.mailbox} only once")
        accounts[account.mailbox.key] = account
    return accounts


def _parse_account(path: Path, number: int, words: list[str]) -> Account:
    mailbox = parse_at(path, number, words[0], parse_account_address)
    if len(words) not in (2, 3) or not words[1].startswith("$argon2"):
        raise Mistake(
            path, number, "expected ADDRESS and an argon2 hash, maybe a SCRAM verifier; `mailsrv user add` writes them"
        )
    verifier = words[2] if len(words) == 3 else ""
    try:
        if verifier:
            parse_verifier(verifier)
    except GrammarError as error:  # what stands there may be a secret, so it is not repeated
        raise Mistake(path, number, str(error)) from error
    return Account(mailbox, words[1], verifier)


def render_account(account: Account) -> str:
    """The line of an account."""
    return f"{account.mailbox} {account.password_hash} {account.scram_verifier}".rstrip()


def parse_aliases(path: Path, text: str) -> Aliases:
    """The meaning of the file `aliases`; raises Mistake."""
    aliases: dict[str, tuple[Mailbox, ...]] = {}
    for number, line in content_lines(text):
        address = address_in(line)
        targets = line[len(address) :].lstrip()
        words = [word.strip() for word in _TARGET.findall(targets[1:]) if word.strip()]
        if not targets.startswith(":") or not words:
            raise Mistake(path, number, "expected ADDRESS: TARGET, TARGET ...")
        mailbox = parse_at(path, number, address, parse_address_or_domain)
        if mailbox.key in aliases:
            raise Mistake(path, number, f"expected {mailbox} only once")
        aliases[mailbox.key] = tuple(parse_at(path, number, word, parse_mailbox) for word in words)
    return aliases
