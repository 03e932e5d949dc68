"""Real and adversarial messages from drop to mailbox: carried octet for octet, or refused whole with a reason."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.work.instance import deliver, drop, letters, make, names_in, unfinished

CORPUS: Final = Path(__file__).parents[2].parent / "shared" / "corpus"
FILES: Final = sorted(path for path in CORPUS.glob("*/**/*") if path.is_file())
BLOCK: Final = b"X-Sender: <alice@example.org>\r\nX-Receiver: <bob@example.org>\r\nX-EndOfInjectedXHeaders: 0\r\n"
TRACE: Final = re.compile(
    rb"\AReturn-Path: <alice@example\.org>\nDelivered-To: bob@example\.org\nReceived: [^\n]*\n(?:\t[^\n]*\n)+"
    rb"(?:Date: [^\n]*\n)?(?:Message-ID: <\S+@mail\.example\.org>\n)?"
)

pytestmark = pytest.mark.skipif(not FILES, reason=f"there is no corpus at {CORPUS}")


def normalised(octets: bytes) -> bytes:
    """As a Maildir holds it: lines end in LF, the last one too."""
    octets = octets.replace(b"\r\n", b"\n")
    return octets if octets.endswith(b"\n") or not octets else octets.removesuffix(b"\r") + b"\n"


def is_refused(octets: bytes) -> bool:
    """A bare CR could not be sent on; at the very end of a file it is an unfinished line end."""
    return b"\r" in octets.replace(b"\r\n", b"\n").removesuffix(b"\r")


def test_every_message_reaches_the_mailbox_as_it_is(tmp_path: Path) -> None:
    config = make(tmp_path)
    originals: list[bytes] = []
    for path in FILES:
        octets = path.read_bytes()
        if not is_refused(octets):
            originals.append(octets)
            drop(config, f"{len(originals):04}.eml", BLOCK + octets)
    while unfinished(config):
        deliver(config)
    assert names_in(config.spool / "bad") == []
    for original, letter in zip(originals, letters(config, "bob"), strict=True):
        trace = TRACE.match(letter)
        assert trace is not None
        # What was added is told apart from an original that begins with the same fields by its length alone.
        assert letter.endswith(normalised(original))
        assert TRACE.fullmatch(letter[: len(letter) - len(normalised(original))])


def test_a_message_with_a_bare_cr_is_set_aside_as_it_is(tmp_path: Path) -> None:
    config = make(tmp_path)
    refused = []
    for path in FILES[::7]:  # none of them has one of its own
        octets = path.read_bytes()
        middle = len(octets) // 2
        refused.append(octets[:middle] + b"\rx" + octets[middle:])
    for number, octets in enumerate(refused):
        drop(config, f"{number:04}.eml", BLOCK + octets)
    deliver(config)
    assert letters(config, "bob") == []
    for number, octets in enumerate(refused):
        place = config.spool / "bad" / f"{number:04}.eml"
        assert place.read_bytes() == BLOCK + octets
        reason = place.with_name(f"{place.name}.txt").read_text()
        found = re.match(r"line (\d+), octet (\d+): a bare CR", reason)
        assert found is not None
        line, octet = map(int, found.groups())
        before = (BLOCK + octets)[:octet]
        assert (BLOCK + octets)[octet : octet + 1] == b"\r"
        assert is_refused(before + b"\rx")
        assert not is_refused(before)
        assert line == before.count(b"\n") + 1


def test_a_message_that_is_dropped_as_it_is_becomes_mail_or_is_set_aside(tmp_path: Path) -> None:
    config = make(tmp_path)
    for number, path in enumerate(FILES):
        drop(config, f"{number:04}.eml", path.read_bytes())
    for _ in range(20):
        deliver(config)
    assert unfinished(config) == []
    bad = [name for name in names_in(config.spool / "bad") if name.endswith(".eml")]
    for name in bad:
        assert (config.spool / "bad" / name).read_bytes() == FILES[int(name[:4])].read_bytes()
        assert (config.spool / "bad" / f"{name}.txt").read_text().strip()
    taken = {name for state in ("remote", "hold") for name in names_in(config.spool / state) if ".txt" not in name}
    assert len({name[:20] for name in taken}) <= len(FILES) - len(bad)
    assert taken
