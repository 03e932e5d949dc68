"""Outbound transforms: senders of mail for elsewhere, in the envelope and in the header, under their outside names.

Of the header only the addresses in From, Sender and Reply-To are touched, and no field that is not understood.
"""

import re
from typing import Final

from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Sender
from mailsrv.model.transform import Transform
from mailsrv.protocol.header import Field, HeaderError, mailboxes, split_fields
from mailsrv.store.transforms import transformed

_FIELDS: Final = frozenset({"from", "sender", "reply-to"})
_QUOTED_OR_COMMENT: Final = r'"(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)'


def outside_sender(sender: Sender, transforms: tuple[Transform, ...]) -> Sender:
    """The sender as others are to know it."""
    if sender.reverse_path is None:
        return sender
    return Sender(transformed(sender.reverse_path, transforms)[0], sender.parameters)


def outside_header(header: bytes, transforms: tuple[Transform, ...]) -> bytes:
    """The header with the senders in it as others are to know them; the same octets where there is nothing to do."""
    if not transforms:
        return header
    try:
        fields = split_fields(header)
    except HeaderError:
        return header
    return b"".join(_outside_field(each, transforms) if each.name in _FIELDS else each.raw for each in fields)


def _outside_field(field: Field, transforms: tuple[Transform, ...]) -> bytes:
    try:
        found = mailboxes((field,), _FIELDS)
    except HeaderError:
        return field.raw
    changes: dict[str, Mailbox] = {}
    for mailbox in found:
        result, by = transformed(mailbox, transforms)
        if by is not None:
            changes[str(mailbox).lower()] = result
    if not changes:
        return field.raw
    # An address is one where it stands by itself: neither within quotes, nor a piece of a longer one.
    addresses = "|".join(re.escape(address) for address in changes)
    pattern = re.compile(rf"{_QUOTED_OR_COMMENT}|(?<![^\s<,:;])({addresses})(?![^\s>,;])", re.DOTALL | re.IGNORECASE)
    text = pattern.sub(
        lambda match: str(changes[match.group(1).lower()]) if match.group(1) else match.group(),
        field.raw.decode("utf-8", "surrogateescape"),
    )
    return text.encode("utf-8", "surrogateescape")
