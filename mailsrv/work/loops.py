"""Messages that go in circles: by the trace lines in their header (RFC 5321 §6.3, RFC 9228)."""

import re
from typing import Final

from mailsrv.model.address import GrammarError, parse_mailbox
from mailsrv.protocol.smtp_content import MAX_RECEIVED

_DELIVERED_TO: Final = re.compile(rb"^delivered-to:[ \t]*<?([^\r\n>]*[^\s>])>?[ \t]*\r?$", re.I | re.M)


def has_too_many_hops(header: bytes) -> bool:
    """Whether more than MAX_RECEIVED servers were on its way before us; the first Received line is our own."""
    small = header.lower()
    return small.count(b"\nreceived:") + small.startswith(b"received:") > MAX_RECEIVED + 1


def delivered_to(header: bytes) -> frozenset[str]:
    """The addresses, as Mailbox.key, that a message was delivered to before."""
    if b"delivered-to:" not in header.lower():
        return frozenset()
    keys = set()
    for found in _DELIVERED_TO.findall(header):
        try:
            keys.add(parse_mailbox(found.decode("utf-8", "replace")).key)
        except GrammarError:  # another program's idea of an address
            continue
    return frozenset(keys)
