"""Changes an smtp input by what a dialogue is made of: octets alone seldom make a chunk of the size that it tells."""

from collections.abc import Callable
from random import Random
from typing import Final

from tests.fuzz.driver import HEAD, LINE_OCTETS, MESSAGE_OCTETS
from tests.fuzz.reference import WORDS

_ENDS: Final = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n")
_PATHS: Final = (b"<a@b>", b"<c@d.example>", b"<>", b"<Postmaster>", b'<"a b"@[192.0.2.1]>')
_COMMANDS: Final = (
    b"EHLO c",
    b"LHLO c",
    b"HELO c",
    b"DATA",
    b"RSET",
    b"NOOP",
    b"QUIT",
    b"HELP STARTTLS",
    b"VRFY x",
    b"STARTTLS",
    b"AUTH PLAIN AGEAYg==",
    b"AUTH LOGIN",
    b"AUTH SCRAM-SHA-256 " + b"bixh" * 150,
    b"*",
    b"YWI=",
)
_WORDS: Final = sorted(WORDS)
_PARAMETERS: Final = (b" SIZE=12", b" BODY=8BITMIME", b" SMTPUTF8", b" RET=HDRS", b" ENVID=a+2Bb", b" AUTH=<>", b"\t")
_TEXTS: Final = (b"Received: x", b"Date: x", b" folded", b"", b".", b"..", b".x", b"x", b"\0", b"\xff", b"a:b", b"QUIT")
# Not ASCII themselves, their capitals are: S, I and ST.
_ALIKE: Final = ((b"S", "\u017f".encode()), (b"I", "\u0131".encode()), (b"ST", "\ufb06".encode()))


def mutated(octets: bytes, most: int, seed: int, by_octets: Callable[[bytes, int], bytes]) -> bytes:
    """The input with a line more, less or changed; half of the time with what `by_octets` makes of it."""
    dice = Random(seed)
    if len(octets) <= HEAD or dice.random() < 0.5:
        return by_octets(octets, most)
    head, *lines = [octets[:HEAD], *octets[HEAD:].splitlines(keepends=True)]
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(lines) + 1)
        match dice.randrange(8):
            case 0:
                head = _with_one_changed(head, dice)
            case 1 if lines:
                del lines[place % len(lines)]
            case 2 if lines:
                lines.insert(place, dice.choice(lines))
            case 3 if lines:
                old, new = dice.choice(_ALIKE)
                lines[place % len(lines)] = lines[place % len(lines)].upper().replace(old, new)
            case 4:
                lines.insert(place, _content(dice))
            case 5:
                lines.insert(place, _chunk(dice))
            case 6:
                lines.insert(place, _transaction(dice))
            case _:
                lines.insert(place, _command(dice))
    return (head + b"".join(lines))[:most]


def _with_one_changed(head: bytes, dice: Random) -> bytes:
    place = dice.randrange(HEAD)
    value = dice.randrange(256) if dice.random() < 0.5 else head[place] ^ 1 << dice.randrange(8)
    return head[:place] + bytes([value]) + head[place + 1 :]


def _command(dice: Random) -> bytes:
    """Any command, or one with another's verb for its argument."""
    command = dice.choice(_COMMANDS)
    if dice.random() < 0.2:
        command = command.split(b" ")[0] + b" " + dice.choice(_WORDS)
    return command + dice.choice(_ENDS)


def _content(dice: Random) -> bytes:
    """A few lines, some of them about as long as a limit."""
    lines = []
    for _ in range(dice.randint(0, 3)):
        line = dice.choice(_TEXTS) + dice.choice(_ENDS)
        if dice.random() < 0.3:
            limit = dice.choice([*LINE_OCTETS, *MESSAGE_OCTETS]) + dice.randint(-3, 3)
            line = b"x" * (limit - len(line)) + line
        lines.append(line)
    return b"".join(lines)


def _chunk(dice: Random) -> bytes:
    octets = _content(dice)
    if dice.random() < 0.5:
        octets = octets.rstrip(b"\r\n")
    size = len(octets) + (dice.random() < 0.1)
    return b"BDAT %d%s\r\n%s" % (size, dice.choice([b"", b" LAST"]), octets)


def _transaction(dice: Random) -> bytes:
    mail = b"MAIL FROM:" + dice.choice(_PATHS) + b"".join(dice.sample(_PARAMETERS, dice.randint(0, 2))) + b"\r\n"
    recipients = b"".join(b"RCPT TO:" + dice.choice(_PATHS) + b"\r\n" for _ in range(dice.randint(1, 3)))
    if dice.random() < 0.5:
        return mail + recipients + _chunk(dice)
    return mail + recipients + b"DATA\r\n" + _content(dice) + dice.choice([b"\r\n.\r\n", b".\r\n"])
