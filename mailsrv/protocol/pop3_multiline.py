"""The multi-line responses of POP3 that are made of lines of ours (RFC 1939 §3), in pieces: long ones are never whole.

None of these lines begins with a dot.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from mailsrv.protocol.pop3_commands import Verb
from mailsrv.protocol.pop3_events import Listing

LINES_AT_ONCE: Final = 500


def in_pieces(lines: Iterator[str]) -> Iterator[bytes]:
    """The lines with their ends, some at a time."""
    while piece := list(itertools.islice(lines, LINES_AT_ONCE)):
        yield ("\r\n".join(piece) + "\r\n").encode()


def line_of(listing: Listing, verb: Verb, index: int) -> str:
    """The line of a message in the answer to LIST or UIDL."""
    return f"{index + 1} {listing.uidl(index) if verb is Verb.UIDL else listing.octets[index]}"


def all_messages(listing: Listing, verb: Verb) -> Iterator[bytes]:
    """The answer to LIST or UIDL with nothing deleted, in pieces; made once for as long as the listing stays.

    Where it has grown, what was made of the first messages is still good, but for a last piece that was not full.
    """
    number, pieces = len(listing.octets), list(listing.memo.get(verb.name, []))
    if pieces and (len(pieces) - 1) * LINES_AT_ONCE + pieces[-1].count(b"\n") < number:
        pieces = pieces[: len(pieces) - (pieces[-1].count(b"\n") < LINES_AT_ONCE)]
        made = len(pieces) * LINES_AT_ONCE
    else:
        made = number if pieces else 0
    yield from pieces
    for piece in in_pieces(line_of(listing, verb, index) for index in range(made, number)):
        pieces.append(piece)
        yield piece
    listing.memo[verb.name] = pieces
