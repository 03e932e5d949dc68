"""The file `lists`: distribution lists, each in a section of its own.

[team@example.org]
owner = alice@example.org
post = members
bob@example.org
dave@example.net

`owner` gets the reports of failures. `post` says whose reverse-path may send to the list: `anybody`, `members` (who may
where nothing is said), addresses, and `@example.org` for everybody of a domain, with commas between them; the owner
always may. Every other line is a member, here or elsewhere. `store.lines` tells what is common to such files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from mailsrv.model.address import Mailbox, ReversePath, parse_mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store.lines import content_lines, edit_lines, parse_address_or_domain, parse_at

ANYBODY: Final = "anybody"
MEMBERS: Final = "members"
_SETTING: Final = re.compile(r"(owner|post|\w+(?=\s))\s*=\s*(.*)")  # a member may have an = within its local part


@dataclass(frozen=True, slots=True)
class DistributionList:
    """A list; `post` as it was written, `may` the keys of who may post besides the owner."""

    mailbox: Mailbox
    owner: Mailbox
    post: str
    members: tuple[Mailbox, ...]
    may: frozenset[str] = field(repr=False)

    def takes_from(self, reverse_path: ReversePath) -> bool:
        """Whether mail with this reverse-path may go to the list; what has none, a report say, never does."""
        if reverse_path is None:
            return False
        keys = {reverse_path.key, Mailbox("", reverse_path.domain).key}
        return ANYBODY in self.may or bool(keys & self.may) or reverse_path.key == self.owner.key


Lists: TypeAlias = Mapping[str, DistributionList]  # by Mailbox.key


@dataclass(slots=True)
class _Section:
    mailbox: Mailbox
    number: int
    settings: dict[str, str] = field(default_factory=dict)
    owner: Mailbox | None = None
    may: set[str] = field(default_factory=set)
    members: list[Mailbox] = field(default_factory=list)


def parse_lists(path: Path, text: str) -> Lists:
    """The meaning of the file `lists`; raises Mistake."""
    sections: dict[str, _Section] = {}
    section: _Section | None = None
    for number, line in content_lines(text):
        if line.startswith("["):
            section = _Section(_head(path, number, line), number)
            if section.mailbox.key in sections:
                raise Mistake(path, number, f"expected [{section.mailbox}] only once")
            sections[section.mailbox.key] = section
        elif section is None:
            raise Mistake(path, number, "expected the address of a list in brackets, such as [team@example.org]")
        elif setting := _SETTING.match(line):
            _read_setting(path, number, section, setting.group(1), setting.group(2))
        else:
            section.members.append(parse_at(path, number, line, parse_mailbox))
    return {key: _finished(path, each) for key, each in sections.items()}


def _head(path: Path, number: int, line: str) -> Mailbox:
    if not line.endswith("]"):
        raise Mistake(path, number, "expected ] at the end of the line")
    return parse_at(path, number, line[1:-1].strip(), parse_mailbox)


def _read_setting(path: Path, number: int, section: _Section, name: str, value: str) -> None:
    if name not in {"owner", "post"}:
        raise Mistake(path, number, f"expected owner = ADDRESS, post = WHO, or a member (found {name} =)")
    if name in section.settings:
        raise Mistake(path, number, f"expected {name} only once")
    section.settings[name] = value
    if name == "owner":
        section.owner = parse_at(path, number, value, parse_mailbox)
        return
    for word in (word.strip() for word in value.split(",")):
        if word in (ANYBODY, MEMBERS):
            section.may.add(word)
        else:
            section.may.add(parse_at(path, number, word, parse_address_or_domain).key)


def _finished(path: Path, section: _Section) -> DistributionList:
    if section.owner is None:
        raise Mistake(path, section.number, f"expected owner = ADDRESS for {section.mailbox}")
    may = section.may or {MEMBERS}
    if MEMBERS in may:
        may |= {member.key for member in section.members}
    post = section.settings.get("post", MEMBERS)
    return DistributionList(section.mailbox, section.owner, post, tuple(section.members), frozenset(may))


# --- edits -----------------------------------------------------------------------------------------


def render_list(found: DistributionList) -> list[str]:
    """The lines of a section."""
    return [f"[{found.mailbox}]", f"owner = {found.owner}", f"post = {found.post}", *map(str, found.members)]


def put_list(path: Path, address: Mailbox, section: list[str] | None) -> bool:
    """Set, or with None remove, the section of `address`; says whether there was one. Raises OSError."""
    was_there = False

    def change(old: list[str]) -> list[str]:
        nonlocal was_there
        start, end = _place_of(old, address)
        was_there = start < end
        if was_there:
            gap = [""] if section and end < len(old) else []
            return [*old[:start], *(section or []), *gap, *old[end:]]
        return [*old, *([""] if old and old[-1].strip() else []), *(section or [])]

    edit_lines(path, change)
    return was_there


def change_members(path: Path, address: Mailbox, joining: list[Mailbox], leaving: list[Mailbox]) -> None:
    """Add members at the end of a section, and take others out; raises OSError."""
    gone = {member.key for member in leaving}

    def change(old: list[str]) -> list[str]:
        start, end = _place_of(old, address)
        section = [line for line in old[start:end] if not _is_member_in(line, gone)]
        while section and not section[-1].strip():
            section.pop()
        return [*old[:start], *section, *map(str, joining), *([""] if end < len(old) else []), *old[end:]]

    edit_lines(path, change)


def _place_of(lines: list[str], address: Mailbox) -> tuple[int, int]:
    """From where to where the section of `address` stands; nowhere is an empty place."""
    heads = [number for number, line in enumerate(lines) if line.strip().startswith("[")]
    for start, end in zip(heads, [*heads[1:], len(lines)], strict=False):
        if parse_mailbox(lines[start].strip()[1:-1].strip()).key == address.key:
            return start, end
    return 0, 0


def _is_member_in(line: str, keys: set[str]) -> bool:
    text = line.strip()
    if not text or text[0] in "#[" or _SETTING.match(text):
        return False
    return parse_mailbox(text).key in keys
