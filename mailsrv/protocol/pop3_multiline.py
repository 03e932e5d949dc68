"""The multi-line responses of POP3 that are made of lines of ours (RFC 1939 §3), in pieces: long ones are never whole.

None of these lines begins with a dot.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from mailsrv.protocol.pop3_commands import Verb
from mailsrv.protocol.pop3_events import Listing, Policy, Security

LINES_AT_ONCE: Final = 500


def capabilities(security: Security, policy: Policy) -> list[str]:
    """What holds now. Both states announce the same (RFC 2449 §6); TLS changes it (RFC 2595 §4)."""
    return [
        "TOP",
        *(["USER"] if security.takes_passwords else []),
        "UIDL",
        *([f"SASL {' '.join(security.mechanisms)}"] if security.mechanisms else []),
        *(["STLS"] if security.can_encrypt and not security.is_encrypted else []),
        "PIPELINING",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        f"EXPIRE {policy.expire_days or 'NEVER'}",
        *([f"LOGIN-DELAY {policy.login_delay}"] if policy.login_delay else []),
        "UTF8 USER",
        "LANG",
        "IMPLEMENTATION mailsrv",
    ]


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
