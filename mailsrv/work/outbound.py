"""Mail for elsewhere as others may see it: without Bcc if it began here, its senders under their outside names.

Outbound transforms are of the envelope and of the header. Of that only the addresses in From, Sender and Reply-To are
touched, and no field that is not understood.
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

_BCC: Final = re.compile(rb"^(?:resent-)?bcc[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)


def outside_sender(sender: Sender, transforms: tuple[Transform, ...]) -> Sender:
    """The sender as others are to know it."""
    if sender.reverse_path is None:
        return sender
    return Sender(transformed(sender.reverse_path, transforms)[0], sender.parameters)


def outside_header(header: bytes, transforms: tuple[Transform, ...], *, is_ours: bool) -> bytes:
    """The header with the senders in it as others are to know them; the same octets where there is nothing to do.

    As `Attempt.header` it has no line end behind its last field. What only passes through us has Bcc only where its
    sender wants everybody to see it, and perhaps a signature over that.
    """
    if is_ours:
        header = _BCC.sub(b"", header + b"\r\n").removesuffix(b"\r\n")  # RFC 5322 §3.6.3
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
