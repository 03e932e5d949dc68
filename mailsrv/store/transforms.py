"""The file `transforms`: one line each, `inbound PATTERN -> RESULT` or `outbound PATTERN -> RESULT`, tried in order.

inbound:   a forward-path, before anything else is asked of it
outbound:  a reverse-path, and the addresses in From, Sender and Reply-To, of mail for elsewhere
"""

from dataclasses import dataclass
from pathlib import Path

from mailsrv.model.address import GrammarError, Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.model.transform import Transform, parse_transform
from mailsrv.store.lines import content_lines

DIRECTIONS = ("inbound", "outbound")


@dataclass(frozen=True, slots=True)
class Transforms:
    """Both kinds, each in the order of the file."""

    inbound: tuple[Transform, ...] = ()
    outbound: tuple[Transform, ...] = ()


def parse_transforms(path: Path, text: str) -> Transforms:
    """The meaning of the file `transforms`; raises Mistake."""
    found: dict[str, list[Transform]] = {direction: [] for direction in DIRECTIONS}
    for number, line in content_lines(text):
        try:
            direction, transform = parse_line(line)
        except GrammarError as error:
            raise Mistake(path, number, f"{error} (found {line!r})") from error
        found[direction].append(transform)
    return Transforms(tuple(found["inbound"]), tuple(found["outbound"]))


def parse_line(line: str) -> tuple[str, Transform]:
    """A line: its direction, and its transform; raises GrammarError."""
    words = line.split()
    if len(words) != 4 or words[0] not in DIRECTIONS or words[2] != "->":
        raise GrammarError("expected inbound or outbound, PATTERN -> RESULT")
    return words[0], parse_transform(words[1], words[3], is_inbound=words[0] == "inbound")


def transformed(mailbox: Mailbox, transforms: tuple[Transform, ...]) -> tuple[Mailbox, Transform | None]:
    """What the first that matches makes of `mailbox`, and which it was."""
    for transform in transforms:
        result = transform.apply(mailbox)
        if result is not None:
            return result, transform
    return mailbox, None
