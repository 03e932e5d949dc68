"""The format of a spool file: an envelope block, then the message; docs/SPOOL.md shows it.

It is the Exchange Replay and IIS pickup convention: SMTP's own grammar on disk, one `X-Sender`, then an `X-Receiver`
for each recipient, each with the parameters of MAIL and RCPT. What machines write here people can write as well:
a display name before the path, folded lines, LF, a `;` behind a parameter and any case are understood.
Addresses are in UTF-8 (RFC 6531), parameters in ASCII.
"""

import contextlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final

from mailsrv.model.address import (
    GrammarError,
    Mailbox,
    ReversePath,
    parse_forward_path,
    parse_reverse_path,
    render_path,
)
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import EntryId
from mailsrv.model.parameters import Parameters, parse_parameters, render_parameters

MAX_BLOCK: Final = 4 * 1024 * 1024  # octets; some 10,000 recipients
END_OF_BLOCK: Final = "x-endofinjectedxheaders"

# Fields that belong to the block; those that we do not know how to use are passed over.
_FIRST: Final = frozenset({"x-sender", "x-receiver"})
_BLOCK: Final = _FIRST | {
    "x-arrived",
    "x-createdby",
    "x-extendedmessageprops",
    "x-extendedprops",
    "x-helodomain",
    "x-source",
    "x-sourceipaddress",
    END_OF_BLOCK,
}
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_WORD: Final = re.compile(r"[^ \t]+")
_DISPLAY_NAME: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^<"])*(?=<)')
_ARRIVED: Final = re.compile(
    r'(\S+)(?: id=\S+)? with=(\S+)(?: from="([^"]*)" \[([^\]]*)\])?(?: tls="([^"]*)")?(?: auth=(.+))?'
)


class FormatError(ValueError):
    """A file that is not what the format asks for: why, at which line (from 1; 0 is the whole) and octet (from 0)."""

    def __init__(self, reason: str, line: int, octet: int) -> None:
        super().__init__(f"line {line}, octet {octet}: {reason}" if line else reason)
        self.reason = reason
        self.line = line
        self.octet = octet


@dataclass(frozen=True, slots=True)
class Block:
    """An envelope block as it was read; the message begins `length` octets and `lines` lines into the file."""

    envelope: Envelope
    arrival: Arrival | None
    length: int
    lines: int


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    value: str
    line: int
    octet: int


def render(envelope: Envelope, arrival: Arrival, entry_id: EntryId) -> bytes:
    """The block that stands before the message in every file that mailsrv writes into the spool."""
    sender = envelope.sender
    lines = [f"X-Sender: {render_path(sender.reverse_path)}{render_parameters(sender.parameters)}"]
    lines += [
        f"X-Receiver: {render_path(r.forward_path)}{render_parameters(r.parameters)}" for r in envelope.recipients
    ]
    client = f' from="{arrival.helo}" [{arrival.peer}]' if arrival.helo or arrival.peer else ""
    client += f' tls="{arrival.encryption}"' if arrival.encryption else ""
    client += f" auth={arrival.identity}" if arrival.identity else ""
    lines.append(f"X-Arrived: {arrival.moment.isoformat()} id={entry_id} with={arrival.protocol}{client}")
    lines.append("X-EndOfInjectedXHeaders: 0")
    return "".join(f"{line}\r\n" for line in lines).encode()


def read_block(file: BinaryIO) -> Block | None:
    """The block that `file` begins with, or None where there is none; raises FormatError.

    A lone `X-Sender` without any `X-Receiver` is no block: old mail programs wrote such a field of their own.
    """
    fields, length, lines = _read_fields(file)
    receivers = [field for field in fields if field.name == "x-receiver"]
    if not receivers:
        return None
    senders = [field for field in fields if field.name == "x-sender"]
    if len(senders) != 1:
        at = senders[1] if senders else receivers[0]
        raise FormatError(f"expected one X-Sender, found {len(senders)}", at.line, at.octet)
    arrivals = [_arrival_of(field) for field in fields if field.name == "x-arrived"]
    sender = Sender(*_sender_of(senders[0], is_ours=bool(arrivals)))
    recipients = tuple(Recipient(*_receiver_of(field, is_ours=bool(arrivals))) for field in receivers)
    envelope = Envelope(sender, recipients)
    return Block(envelope, arrivals[0] if arrivals else None, length, lines)


def _read_fields(file: BinaryIO) -> tuple[list[_Field], int, int]:
    """The fields of the block, unfolded, and the octets and lines that they take."""
    fields: list[_Field] = []
    raw = file.readline(MAX_BLOCK)
    octet, line = 0, 1
    while name := _name_of(raw, first=not fields):
        start, at = octet, line
        value_at = octet + raw.index(b":") + 1
        value = [raw[value_at - octet :]]
        octet, line, raw = octet + len(raw), line + 1, file.readline(MAX_BLOCK)
        # Behind the end mark a message may begin with anything.
        while raw[:1] in (b" ", b"\t") and name != END_OF_BLOCK and octet <= MAX_BLOCK:
            value.append(raw)
            octet, line, raw = octet + len(raw), line + 1, file.readline(MAX_BLOCK)
        if octet > MAX_BLOCK:
            raise FormatError(f"expected an envelope of at most {MAX_BLOCK} octets", at, start)
        fields.append(_Field(name, _text_of(b"".join(value), at, value_at), at, start))
        if name == END_OF_BLOCK:
            break
    return fields, octet, line - 1


def _name_of(raw: bytes, *, first: bool) -> str | None:
    field = _FIELD.match(raw)
    if field is None:
        return None
    name = field.group(1).decode("ascii").lower()
    return name if name in (_FIRST if first else _BLOCK) else None


def _text_of(value: bytes, line: int, octet: int) -> str:
    """The value, unfolded; the spaces within stay, as a local part may have them."""
    try:
        return value.decode("utf-8").replace("\r\n", "").replace("\n", "").strip(" \t")
    except UnicodeDecodeError as error:
        raise FormatError("expected UTF-8 in the envelope", line, octet + error.start) from error


def _sender_of(field: _Field, *, is_ours: bool) -> tuple[ReversePath, Parameters]:
    try:
        path, rest = parse_reverse_path(_bracketed(field.value))
        return path, _parameters_of(rest, is_ours=is_ours)
    except GrammarError as error:
        raise FormatError(f"X-Sender: {error}", field.line, field.octet) from error


def _receiver_of(field: _Field, *, is_ours: bool) -> tuple[Mailbox, Parameters]:
    try:
        path, rest = parse_forward_path(_bracketed(field.value))
        return path, _parameters_of(rest, is_ours=is_ours)
    except GrammarError as error:
        raise FormatError(f"X-Receiver: {error}", field.line, field.octet) from error


def _bracketed(value: str) -> str:
    """`value` from its path on: without a display name, and with the angle brackets that a person may leave out."""
    if name := _DISPLAY_NAME.match(value):
        return value[name.end() :]
    address = _WORD.match(value)
    end = address.end() if address else 0
    return f"<{value[:end]}>{value[end:]}"


def _parameters_of(text: str, *, is_ours: bool) -> Parameters:
    """The parameters; in a block that we wrote, a `;` at the end of a value was the client's."""
    if is_ours:
        with contextlib.suppress(GrammarError):  # a person may have added to it
            return parse_parameters(text)
    words = (word.rstrip(";") for word in _WORD.findall(text))
    return parse_parameters(" ".join(word for word in words if not word.upper().startswith("X-")))


def _arrival_of(field: _Field) -> Arrival:
    try:
        match = _ARRIVED.match(" ".join(_WORD.findall(field.value)))
        if match is None:
            raise ValueError("no such form")
        moment = datetime.fromisoformat(match.group(1))
        if moment.tzinfo is None:
            raise ValueError("no time zone")
    except ValueError as error:
        raise FormatError("X-Arrived: expected a time, id= and with=", field.line, field.octet) from error
    return Arrival(moment, match.group(2), *(match.group(number) or "" for number in (3, 4, 5, 6)))
