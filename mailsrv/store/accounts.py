"""Accounts and aliases: plain text, edited by hand or by the command line.

accounts:  one line each, `ADDRESS HASH` (argon2id, in its usual `$argon2id$...` form)
aliases:   one line each, `ADDRESS: TARGET, TARGET ...`

`#` begins a comment line. Addresses are held equal in any case.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store.durable import write_file


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has a mailbox here."""

    mailbox: Mailbox
    password_hash: str


Accounts: TypeAlias = Mapping[str, Account]  # by Mailbox.key, in the order of the file
Aliases: TypeAlias = Mapping[str, tuple[Mailbox, ...]]  # by Mailbox.key

# The local part becomes the name of a folder, so it must be a plain one.
_PLAIN_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9_+=-][A-Za-z0-9._+=-]*")

# A colon, a comma or a space within quotes or brackets belongs to the address.
_ADDRESS: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s:])*')
_TARGET: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')


def parse_account_address(text: str) -> Mailbox:
    """The address of an account; raises GrammarError where it cannot name a folder."""
    mailbox = parse_mailbox(text)
    if not _PLAIN_LOCAL_PART.fullmatch(mailbox.local_part):
        raise GrammarError("expected a local part of letters, digits, and . _ + = - for an account")
    if mailbox.domain.startswith("["):
        raise GrammarError("expected a domain name for an account")
    return mailbox


def parse_accounts(path: Path, text: str) -> Accounts:
    """The meaning of the file `accounts`; raises Mistake."""
    accounts: dict[str, Account] = {}
    for number, line in _content_lines(text):
        address, _, password_hash = line.partition(" ")
        mailbox = _parse_at(path, number, address, parse_account_address)
        if not password_hash.strip().startswith("$argon2"):
            raise Mistake(path, number, "expected ADDRESS and an argon2 hash; `mailsrv user add` writes both")
        if mailbox.key in accounts:
            raise Mistake(path, number, f"expected {mailbox} only once")
        accounts[mailbox.key] = Account(mailbox, password_hash.strip())
    return accounts


def parse_aliases(path: Path, text: str) -> Aliases:
    """The meaning of the file `aliases`; raises Mistake."""
    aliases: dict[str, tuple[Mailbox, ...]] = {}
    for number, line in _content_lines(text):
        address = _address_in(line)
        targets = line[len(address) :].lstrip()
        words = [word.strip() for word in _TARGET.findall(targets[1:]) if word.strip()]
        if not targets.startswith(":") or not words:
            raise Mistake(path, number, "expected ADDRESS: TARGET, TARGET ...")
        mailbox = _parse_at(path, number, address, parse_mailbox)
        if mailbox.key in aliases:
            raise Mistake(path, number, f"expected {mailbox} only once")
        aliases[mailbox.key] = tuple(_parse_at(path, number, word, parse_mailbox) for word in words)
    return aliases


def put_line(path: Path, address: Mailbox, line: str | None) -> bool:
    """Set, or with None remove, the line of `address` in either file; says whether there was one. Raises OSError.

    Comments and the order of the lines stay as they are. Two editors at once take turns.
    """
    with _only_editor(path):
        old = path.read_text("utf-8").splitlines() if path.exists() else []
        new, found = [], False
        for each in old:
            if not _is_line_of(each, address):
                new.append(each)
            elif line is not None and not found:
                new.append(line)
                found = True
            else:
                found = True
        if line is not None and not found:
            new.append(line)
        write_file(path, "".join(f"{each}\n" for each in new).encode())
    return found


def _is_line_of(line: str, address: Mailbox) -> bool:
    try:
        return parse_mailbox(_address_in(line.strip())).key == address.key
    except GrammarError:
        return False


def _address_in(line: str) -> str:
    """The address that a line begins with."""
    match = _ADDRESS.match(line)
    return match.group() if match else ""


@contextmanager
def _only_editor(path: Path) -> Iterator[None]:
    fd = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _content_lines(text: str) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _parse_at(path: Path, number: int, text: str, parse: Callable[[str], Mailbox]) -> Mailbox:
    try:
        return parse(text)
    except GrammarError as error:
        raise Mistake(path, number, f"{error} (found {text!r})") from error
