"""Golden dialogues: text files of who says what, read and played; the format stands in dialogues/README.md."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).parent / "dialogues"

Cut = Callable[[list[bytes]], Iterable[bytes]]

_ESCAPE = re.compile(r"\\(?:\{(\d+)\*((?:[^\\}]|\\.)*)\}|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_REPETITION = re.compile(r"\\\{(\d+)\*((?:[^\\}]|\\.)*)\}")
_TIMES = re.compile(r"(\d+) times ")
# Where we are the client, the file says the same, and the session hears what the server says.
_OTHER_SIDE = {"S:": "C:", "S>": "C>", "C:": "S:", "C!": "S!"}
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "s": " ", "\\": "\\"}


@dataclass(slots=True)
class Turn:
    """What the client sends (or the daemon does), and all that follows from it."""

    sent: list[bytes] = field(default_factory=list)
    done: str = ""
    world: list[tuple[str, str]] = field(default_factory=list)  # what is asked, how it is answered
    said: bytes = b""
    closes: bool = False
    waits: bool = False  # the client sends nothing before it has heard what was said


@dataclass(slots=True)
class Dialogue:
    """One file."""

    title: str
    settings: list[tuple[str, str]]
    turns: list[Turn]


class World(Protocol):
    """One session and what stands around it."""

    @property
    def is_closed(self) -> bool: ...
    def do(self, what: str) -> None: ...
    def receive(self, octets: bytes) -> None: ...
    def replies(self) -> bytes: ...
    def events(self, answer: Callable[[str], str]) -> None:
        """Take all events there are; each is put into words, and answered as `answer` says."""


def read(path: Path, *, is_client: bool = False) -> Dialogue:
    """The dialogue in the file, in which the session is the server's or the client's."""
    dialogue = Dialogue("", [], [Turn(done="greet")])
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        kind, text = line[:2], line[2:].removeprefix(" ")
        kind = _OTHER_SIDE.get(kind, kind) if is_client else kind
        if line.startswith("#"):
            dialogue.title = dialogue.title or line[1:].strip()
        elif line.startswith("! "):
            name, _, value = line[2:].partition(" ")
            dialogue.settings.append((name, value))
        elif line:
            try:
                _take(dialogue.turns, kind, text)
            except KeyError as error:
                raise AssertionError(f"{path.name}:{number}: {line}") from error
    return dialogue


def _take(turns: list[Turn], kind: str, text: str) -> None:
    last = turns[-1]
    match kind:
        case "C:" | "C>":
            if (not last.sent and not last.waits) or last.world or last.said:
                turns.append(Turn())
            octets = unescaped(text)
            turns[-1].sent.append(octets + b"\r\n" if kind == "C:" else octets)
        case "..":
            turns.append(Turn(waits=True))
        case "D:":
            is_first = len(turns) == 1 and not last.said
            turns[-1:] = [Turn(done=text)] if is_first else [last, Turn(done=text)]
        case "W:":
            times = _TIMES.match(text)
            line = _REPETITION.sub(lambda each: each[2] * int(each[1]), text[times.end() if times else 0 :])
            asked, _, answer = line.partition(" -> ")
            last.world += [(asked, answer)] * (int(times[1]) if times else 1)
        case "S:":
            last.said += unescaped(text) + b"\r\n"
        case "S!":
            last.closes = True
        case _:
            raise KeyError(kind)


def unescaped(text: str) -> bytes:
    """The octets that an escaped text stands for."""

    def octets(escape: re.Match[str]) -> str:
        count, repeated, octet, plain = escape.groups()
        if count is not None:
            return _ESCAPE.sub(octets, repeated) * int(count)
        return chr(int(octet, 16)) if octet else _PLAIN[plain]

    return _ESCAPE.sub(octets, text).encode("latin-1")


def escaped(octets: bytes) -> str:
    """The octets, as world lines show them."""
    named = {value: rf"\{name}" for name, value in _PLAIN.items() if name != "s"}
    return "".join(
        named.get(each, each if " " <= each <= "~" else f"\\x{ord(each):02x}") for each in octets.decode("latin-1")
    )


# --- three ways to cut the same octets -------------------------------------------------------------


def whole(lines: list[bytes]) -> Iterator[bytes]:
    """All at once."""
    yield b"".join(lines)


def octet_by_octet(lines: list[bytes]) -> Iterator[bytes]:
    """The slowest client there is."""
    for octet in b"".join(lines):
        yield bytes([octet])


def glued(lines: list[bytes]) -> Iterator[bytes]:
    """Each line arrives with the beginning of the next one."""
    held = b""
    for line in lines:
        middle = len(line) // 2
        yield held + line[:middle]
        held = line[middle:]
    yield held


def play(dialogue: Dialogue, world: World, cut: Cut) -> None:
    """Play the dialogue; whatever differs from the file is an AssertionError."""
    expected = [each for turn in dialogue.turns for each in turn.world]
    asked: list[tuple[str, str]] = []

    def answer(what: str) -> str:
        if what.startswith("content ") and asked and asked[-1][0].startswith("content "):
            asked[-1] = (asked[-1][0] + what.removeprefix("content "), "")
            return ""
        if what == "abandoned" and asked and asked[-1][0].startswith("content "):
            asked.pop()  # how much was told before depends on how the octets came
        place = len(asked)
        reply = expected[place][1] if place < len(expected) else "yes"
        asked.append((what, reply))
        return reply

    heard, said, closes = b"", b"", False
    for stretch in _stretches(dialogue.turns, at_once=cut is not octet_by_octet):
        if stretch.done:
            world.do(stretch.done)
        for octets in cut(stretch.sent):
            world.receive(octets)
            world.events(answer)
            heard += world.replies()
        world.events(answer)
        heard += world.replies()
        said, closes = said + stretch.said, closes or stretch.closes
        assert heard.decode("latin-1") == said.decode("latin-1")
        assert world.is_closed == closes
    assert asked == expected


def _stretches(turns: list[Turn], *, at_once: bool) -> Iterator[Turn]:
    """The turns one by one, or put together as far as no act of the daemon stands between them."""
    joined: Turn | None = None
    for turn in turns:
        if joined is not None and at_once and not turn.done and not turn.waits:
            joined.sent += turn.sent
            joined.said += turn.said
            joined.closes |= turn.closes
        else:
            if joined is not None:
                yield joined
            joined = Turn(list(turn.sent), turn.done, [], turn.said, turn.closes)
    if joined is not None:
        yield joined
