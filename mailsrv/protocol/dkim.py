"""DKIM signatures (RFC 6376): what of a message is signed, and the field that says so. Keys and I/O are elsewhere.

Header and body are canonicalised `relaxed`, the body piece by piece, so that a message of any size takes no memory.
There is no `l=`: something could be added behind what is signed. Fields that readers are shown are named once more
than they stand in the header, so that none can be added on the way without breaking the signature.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mailsrv.protocol.header import Field

MOST_NAMES: Final = 200  # in h=; no sound message has so many of these fields
LINE: Final = 72  # characters of a folded line

# RFC 6376 §5.4.1 and §8.15: signed as often as they are there, and once more.
_OVERSIGNED: Final = (
    "from",
    "reply-to",
    "subject",
    "date",
    "to",
    "cc",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
)
# Signed where they are there. Others, such as Received and what lists add, may change on the way (RFC 6376 §5.4).
_SIGNED: Final = (
    "sender",
    "content-id",
    "content-description",
    "content-disposition",
    "content-language",
    "resent-date",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-message-id",
    "auto-submitted",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
)
_SPACES: Final = re.compile(rb"[ \t]{2,}|\t")  # those that are not one space already
_LINE_ENDS: Final = re.compile(rb"(?:\r\n)*+")
_CUT: Final = re.compile(rb" ?\r?")
_MANY_LINE_ENDS: Final = 1024


class NotSignableError(ValueError):
    """A header that is not signed: why."""


class BodyHash:
    """SHA-256 of a body in relaxed form (RFC 6376 §3.4.4), of pieces that may be cut anywhere.

    Spaces and line ends are kept back until something follows them: those at the end do not count.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._lines = 0  # line ends that are kept back,
        self._held = b""  # and behind them a space, or a CR whose LF is in the next piece
        self._is_empty = True

    def feed(self, octets: bytes) -> None:
        """The next piece."""
        octets = _with_single_spaces(self._held + octets)
        text = octets.rstrip(b" \r\n")
        if text:
            self._add(text)
        rest = octets[len(text) :]
        ends = _LINE_ENDS.match(rest)
        self._lines += ends.end() // 2 if ends else 0
        self._held = rest[ends.end() :] if ends else rest
        if not _CUT.fullmatch(self._held):  # with a bare CR or LF, which no entry has: text like any other
            self._add(self._held)
            self._held = b""

    def digest(self) -> bytes:
        """Of all of it; what is not empty ends with one line end."""
        whole = self._hash.copy()
        if not self._is_empty:
            whole.update(b"\r\n")
        return whole.digest()

    def _add(self, text: bytes) -> None:
        while self._lines:
            number = min(self._lines, _MANY_LINE_ENDS)
            self._hash.update(b"\r\n" * number)
            self._lines -= number
        self._hash.update(text)
        self._is_empty = False


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signature says of itself; `algorithm` is its a=, moments are in seconds since 1970, 0 is no end."""

    domain: str
    selector: str
    algorithm: str
    moment: int
    expires: int = 0


class Signed:
    """What one signature is made over: `octets` is to be signed, and `field(...)` is what goes before the message.

    Raises NotSignableError where the header has too many of the fields that are signed.
    """

    def __init__(self, fields: Sequence[Field], body_hash: bytes, signature: Signature) -> None:
        names = names_to_sign(fields)
        end = f" x={signature.expires};" if signature.expires else ""
        self._field = (
            f"DKIM-Signature: v=1; a={signature.algorithm}; c=relaxed/relaxed; d={signature.domain};\r\n"
            f" s={signature.selector}; t={signature.moment};{end}\r\n"
            f" h={_folded(names)};\r\n"
            f" bh={_base64(body_hash)};\r\n"
            " b="
        ).encode("ascii")
        head = b"".join(_relaxed(each.name, each.raw) for each in _taken(fields, names))
        self.octets = head + _relaxed("dkim-signature", self._field).removesuffix(b"\r\n")

    def field(self, signed: bytes) -> bytes:
        """The field, with its line end, by the signature of `octets`."""
        text = _base64(signed)
        lines = [text[at : at + LINE] for at in range(0, len(text), LINE)]
        return self._field + "\r\n ".join(lines).encode("ascii") + b"\r\n"


def names_to_sign(fields: Sequence[Field]) -> tuple[str, ...]:
    """The value of h=; raises NotSignableError where it would be too long."""
    there = [each.name for each in fields]
    names = [name for name in _OVERSIGNED for _ in range(there.count(name) + 1)]
    names += [name for name in _SIGNED for _ in range(there.count(name))]
    if len(names) > MOST_NAMES:
        raise NotSignableError(f"its header has more than {MOST_NAMES} of the fields that are signed")
    return tuple(names)


def _taken(fields: Sequence[Field], names: Iterable[str]) -> Iterable[Field]:
    """The fields that the names stand for: of several, from the last one up; of none, nothing (RFC 6376 §5.4.2)."""
    left = list(fields)
    for name in names:
        at = next((at for at in range(len(left) - 1, -1, -1) if left[at].name == name), None)
        if at is not None:
            yield left.pop(at)


def _relaxed(name: str, raw: bytes) -> bytes:
    """A field in relaxed form (RFC 6376 §3.4.2)."""
    value = raw.partition(b":")[2].replace(b"\r\n", b"")
    return name.encode("ascii") + b":" + _with_single_spaces(value).strip(b" ") + b"\r\n"


def _with_single_spaces(octets: bytes) -> bytes:
    """Each run of spaces as one, and none before a line end. In linear time, whatever the octets are."""
    return _SPACES.sub(b" ", octets).replace(b" \r\n", b"\r\n")


def _folded(names: Iterable[str]) -> str:
    lines = [""]
    for name in names:
        word = f"{name}:"
        if len(lines[-1]) + len(word) > LINE:
            lines.append("")
        lines[-1] += word
    return "\r\n ".join(lines).removesuffix(":")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
