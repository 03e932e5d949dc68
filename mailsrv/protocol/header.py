"""The header of a message (RFC 5322 §2.2), as far as a server must read it: to learn an envelope, never to repair.

Addresses are found by the grammar of address lists (comments, groups, display names); each must then be a mailbox
by SMTP's own. Whatever is left over is an error: an address that was not understood would be a message not delivered.
The standard library's parser is not used: it drops what it does not understand (`a@b.c; d@e.f`), takes addresses out
of encoded display names, recurses, and takes minutes for a few thousand comments.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox

_FIELD_NAME: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")

# RFC 5322 §3.2, RFC 2047 §2. A quote or a bracket that stands alone is no token.
_TOKEN: Final = re.compile(
    r"""[ \t]+
    | (?P<word> =\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=  # an encoded word, whatever stands in it
              | "(?:[^"\\]|\\.)*"
              | \[[^\[\]\\]*\]
              | [^\s()<>\[\]:;@,."]+ )
    | (?P<special> [<>:;@,.])""",
    re.VERBOSE | re.DOTALL | re.ASCII,  # other spaces than those of ASCII are part of a display name
)
_SPECIALS: Final = frozenset("<>:;@,.")
_COMMENT_MARK: Final = re.compile(r"\\.|[()]", re.DOTALL)
_SHOWN: Final = 80  # characters of what was found, in an error


@dataclass(frozen=True, slots=True)
class Field:
    """One field as it stands, folded and with its line ends; `name` is in small letters, `line` counts from 1."""

    name: str
    raw: bytes
    line: int

    @property
    def value(self) -> str:
        """The value, unfolded; octets that are not UTF-8 are kept as escapes."""
        octets = self.raw.partition(b":")[2].replace(b"\r", b"").replace(b"\n", b"")
        return octets.decode("utf-8", "surrogateescape").strip()


class HeaderError(ValueError):
    """A header from which no envelope can be learnt: why, and at which line (from 1)."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(f"line {line}: {reason}")
        self.reason = reason
        self.line = line


def split_fields(header: bytes) -> tuple[Field, ...]:
    """The fields of `header` (the octets before the empty line); raises HeaderError where it begins with none.

    A line inside that is no field counts as part of the one before it: it is carried, not judged.
    """
    fields: list[tuple[str, list[bytes], int]] = []
    for number, line in enumerate(header.splitlines(keepends=True) if b"\r" not in header else _lines(header), 1):
        name = _FIELD_NAME.match(line)
        if name:
            fields.append((name.group(1).decode("ascii").lower(), [line], number))
        elif fields:
            fields[-1][1].append(line)
        else:
            raise HeaderError("expected a message that begins with its header, such as From: or Subject:", number)
    return tuple(Field(name, b"".join(lines), number) for name, lines, number in fields)


def mailboxes(fields: Iterable[Field], names: frozenset[str]) -> tuple[Mailbox, ...]:
    """The addresses in the fields of these names, each once, in order; raises HeaderError at one that is none."""
    found: dict[str, Mailbox] = {}
    for field in fields:
        if field.name in names:
            for mailbox in _mailboxes_of(field):
                found.setdefault(mailbox.key, mailbox)
    return tuple(found.values())


def _mailboxes_of(field: Field) -> Iterator[Mailbox]:
    try:
        for addr_spec in _addr_specs(field.value):
            yield parse_mailbox(addr_spec)
    except GrammarError as error:
        raise HeaderError(f"{field.name.title()}: {error} (found {field.value[:_SHOWN]!r})", field.line) from error


def _addr_specs(text: str) -> Iterator[str]:
    """What stands for a mailbox in `text`, an address-list (RFC 5322 §3.4 and, for empty places, §4.4)."""
    item: list[str] = []
    is_in_group = is_in_path = False
    for token in _tokens(text):
        if is_in_path or token not in ",:;":
            item.append(token)
            is_in_path = token != ">" if is_in_path else token == "<"
            continue
        is_name = item and not {"<", "@"} & set(item)  # of a group, if a colon follows
        if (token == ":" and (is_in_group or not is_name)) or (token == ";" and not is_in_group):
            raise GrammarError(f"expected ',' between addresses, not {token!r}")
        if token != ":":
            yield from _addr_spec(item)
        is_in_group = token == ":" or (is_in_group and token == ",")
        item = []
    yield from _addr_spec(item)


def _addr_spec(item: list[str]) -> Iterator[str]:
    """The addr-spec of one mailbox, with or without a display name; nothing of an empty place."""
    if "<" not in item:
        if item:
            yield _joined(item)
        return
    start = item.index("<")
    if item[-1] != ">":
        raise GrammarError("expected '>' to end the address")
    inside = item[start + 1 : -1]
    if inside[:1] == ["@"] and ":" in inside:  # §4.4: a route is accepted, and ignored
        inside = inside[inside.index(":") + 1 :]
    addr_spec = _joined(inside)
    # A display name with an @ in it needs quotes: else it may well be an address, its comma forgotten.
    if "@" in item[:start] and _joined(item[:start]) != addr_spec:
        raise GrammarError("expected ',' between addresses")
    yield addr_spec


def _joined(tokens: list[str]) -> str:
    for one, next_one in itertools.pairwise(tokens):
        if one not in _SPECIALS and next_one not in _SPECIALS:
            raise GrammarError(f"expected one address or ',' between {one[:_SHOWN]!r} and {next_one[:_SHOWN]!r}")
    return "".join(tokens)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        if text[at] == "(":
            at = _end_of_comment(text, at)
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise GrammarError(f"expected addresses, not {text[at]!r} at character {at + 1} of the value")
        if match.lastgroup is not None:
            yield match.group()
        at = match.end()


def _end_of_comment(text: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark.group(), 0)
        if depth == 0:
            return mark.end()
    raise GrammarError("expected ')' to end a comment")


def _lines(header: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", header)
