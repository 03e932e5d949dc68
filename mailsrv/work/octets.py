"""Files as pieces of octets: memory stays flat whatever the size of a message."""

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final

PIECE: Final = 1024 * 1024


def no_tick() -> None:
    """Nobody wants to know."""


def pieces_of(file: BinaryIO, tick: Callable[[], None] = no_tick) -> Iterator[bytes]:
    """What is left of `file`, in pieces; `tick` is called for each, that work on a large one shows. Raises OSError."""
    while piece := file.read(PIECE):
        tick()
        yield piece


def unparted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets in blocks of which none ends between a CR and its LF; a CR that ends them all comes last."""
    held = b""
    for piece in pieces:
        block = held + piece
        held = b"\r" if block.endswith(b"\r") else b""
        yield block[: len(block) - len(held)]
    if held:
        yield held
