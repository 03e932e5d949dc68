"""Line ends at the edges of pieces, and of files."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.config import Config
from mailsrv.store.entry import FormatError
from mailsrv.work.intake import Intake, _with_crlf
from mailsrv.work.octets import pieces_of, unparted

PIECES = st.lists(st.text(alphabet="\r\na", max_size=4).map(str.encode), max_size=6)


@given(PIECES)
def test_blocks_hold_the_same_octets_and_part_no_cr_from_its_lf(pieces: list[bytes]) -> None:
    blocks = list(unparted(pieces))
    octets = b"".join(pieces)
    assert b"".join(blocks) == octets
    assert sum(block.count(b"\r\n") for block in blocks) == octets.count(b"\r\n")


@given(PIECES)
def test_a_bare_cr_is_refused_wherever_it_stands_but_at_the_very_end(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    has_bare = re.search(rb"\r(?!\n)(?!\Z)", octets, re.S) is not None
    if has_bare:
        with pytest.raises(FormatError, match="a bare CR is refused"):
            Intake(Config(Path()))._check_line_ends(io.BytesIO(octets), 0, 0)
    else:
        Intake(Config(Path()))._check_line_ends(io.BytesIO(octets), 0, 0)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", b""),
        (b"a\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\n\r", b"a\r\n\r\n"),  # was lost: a line that only began to end
    ],
)
def test_the_last_line_of_a_file_is_ended_however_it_stops(octets: bytes, expected: bytes) -> None:
    for size in (1, 2, 100):
        pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
        assert b"".join(_with_crlf(pieces)) == expected


def test_a_file_comes_in_pieces_from_where_it_stands() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    assert b"".join(pieces_of(file)) == b"456789"
