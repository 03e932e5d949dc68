"""The parameters of MAIL and RCPT that the extensions define: which there are, what they may be, what they cost."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mailsrv.model import reply
from mailsrv.model.parameters import Parameters
from mailsrv.model.reply import Reply

MAX_ENVID: Final = 100  # characters, RFC 3461 §4.4
MAX_ORCPT: Final = 500  # characters, RFC 3461 §4.2
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 §4
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9-]+")
_REASONS: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@dataclass(frozen=True, slots=True)
class _Parameter:
    """`room`: octets that it adds to the longest command line; `is_good` judges its value, None being its absence."""

    room: int
    is_good: Callable[[str | None], bool]
    fault: Reply


def _is_size(value: str | None) -> bool:
    return value is not None and value.isdigit() and len(value) <= 20  # RFC 1870 §4: up to 20 digits


def _is_body(value: str | None) -> bool:
    return (value or "").upper() in {"7BIT", "8BITMIME"}  # RFC 6152 §2; BINARYMIME is not offered


def _is_absent(value: str | None) -> bool:
    return value is None


def _is_xtext(value: str | None) -> bool:
    return value is not None and _XTEXT.fullmatch(value) is not None


def _is_envelope_id(value: str | None) -> bool:
    return bool(value) and _is_xtext(value) and len(value or "") <= MAX_ENVID


def _is_extent(value: str | None) -> bool:
    return (value or "").upper() in {"FULL", "HDRS"}  # RFC 3461 §4.3


def _is_notify(value: str | None) -> bool:
    """RFC 3461 §4.1: NEVER stands alone, the others each once."""
    words = (value or "").upper().split(",")
    return words == ["NEVER"] or (set(words) <= _REASONS and len(set(words)) == len(words))


def _is_original_recipient(value: str | None) -> bool:
    kind, separator, address = (value or "").partition(";")
    is_short = len(value or "") <= MAX_ORCPT
    return bool(separator and _ADDRESS_TYPE.fullmatch(kind) and address and is_short and _is_xtext(address))


def _syntax_of(text: str) -> Reply:
    return reply.SYNTAX.saying(f"expected {text}")


MAIL: Final[Mapping[str, _Parameter]] = {
    "SIZE": _Parameter(26, _is_size, _syntax_of("SIZE=octets")),  # RFC 1870 §3
    "BODY": _Parameter(17, _is_body, reply.UNKNOWN_BODY),  # RFC 6152 §2
    "SMTPUTF8": _Parameter(10, _is_absent, _syntax_of("SMTPUTF8 without a value")),  # RFC 6531 §3.1
    "RET": _Parameter(9, _is_extent, _syntax_of("RET=FULL or RET=HDRS")),
    "ENVID": _Parameter(107, _is_envelope_id, _syntax_of("ENVID=xtext")),
    "AUTH": _Parameter(500, _is_xtext, _syntax_of("AUTH=<> or AUTH=xtext")),  # RFC 4954 §3
    "REQUIRETLS": _Parameter(11, _is_absent, _syntax_of("REQUIRETLS without a value")),  # RFC 8689 §2
}
RCPT: Final[Mapping[str, _Parameter]] = {
    "NOTIFY": _Parameter(28, _is_notify, _syntax_of("NOTIFY=NEVER, or a list of SUCCESS, FAILURE, DELAY")),
    "ORCPT": _Parameter(507, _is_original_recipient, _syntax_of("ORCPT=type;xtext")),
}


def room_of(known: Mapping[str, _Parameter]) -> int:
    """Octets that these parameters add to the longest command line."""
    return sum(each.room for each in known.values())


def fault_of(given: Parameters, known: Mapping[str, _Parameter]) -> Reply | None:
    """What is wrong with the parameters, or None."""
    for keyword, value in given:
        if keyword not in known:
            return reply.UNKNOWN_PARAMETER
        if not known[keyword].is_good(value):
            return known[keyword].fault
    return None
