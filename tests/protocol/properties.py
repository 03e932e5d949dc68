"""How the property tests of this layer run: bounded, and the same examples every time."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st

BOUNDED: Final = settings(max_examples=250, deadline=None, derandomize=True, database=None)

# Where octets may be cut: sizes of pieces, used in turn.
SIZES: Final = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def pieces(octets: bytes, sizes: list[int]) -> list[bytes]:
    """`octets` in pieces of these sizes, in turn."""
    found, at, turn = [], 0, 0
    while at < len(octets):
        size = sizes[turn % len(sizes)]
        found.append(octets[at : at + size])
        at, turn = at + size, turn + 1
    return found
