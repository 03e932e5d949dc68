"""Text files in lines that people and the command line edit: read with the number of each line, edited one at a time.

`#` begins a comment line. The files are UTF-8. An edit keeps comments and the order of the lines as they are.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store.durable import write_file

T = TypeVar("T")

# A colon, a comma or a space within quotes or brackets belongs to the address.
_ADDRESS: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s:])*')


def content_lines(text: str) -> Iterable[tuple[int, str]]:
    """The lines that say something, without the spaces around them, each with its number from 1."""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def address_in(line: str) -> str:
    """The address that a line begins with."""
    match = _ADDRESS.match(line)
    return match.group() if match else ""


def parse_at(path: Path, number: int, text: str, parse: Callable[[str], T]) -> T:
    """What `parse` makes of `text`, which stands in this line; raises Mistake for its GrammarError."""
    try:
        return parse(text)
    except GrammarError as error:
        raise Mistake(path, number, f"{error} (found {text!r})") from error


def parse_address_or_domain(text: str) -> Mailbox:
    """A mailbox; or `@example.org`, everything in a domain, as one without a local part. Raises GrammarError."""
    if text.startswith("@"):
        return Mailbox("", parse_mailbox(f"x{text}").domain)
    return parse_mailbox(text)


def read_text(path: Path) -> str:
    """What the file says, nothing where it is not there; raises Mistake where it is not UTF-8, OSError."""
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise Mistake(path, 0, "expected UTF-8 text") from error


def edit_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Put what `change` makes of the lines in their place; two editors at once take turns. Raises OSError, Mistake."""
    with _only_editor(path):
        lines = change(read_text(path).splitlines())
        write_file(path, "".join(f"{each}\n" for each in lines).encode())


def put_line(path: Path, address: Mailbox, line: str | None) -> bool:
    """Set, or with None remove, the line that begins with `address`; says whether there was one. Raises OSError."""
    was_there = False

    def change(old: list[str]) -> list[str]:
        nonlocal was_there
        places = [number for number, each in enumerate(old) if _is_line_of(each, address)]
        was_there = bool(places)
        new = [each for number, each in enumerate(old) if number not in places]
        if line is not None:
            new.insert(places[0] if places else len(new), line)
        return new

    edit_lines(path, change)
    return was_there


def _is_line_of(line: str, address: Mailbox) -> bool:
    try:
        return parse_address_or_domain(address_in(line.strip())).key == address.key
    except GrammarError:
        return False


@contextmanager
def _only_editor(path: Path) -> Iterator[None]:
    fd = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
