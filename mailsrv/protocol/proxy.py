"""The PROXY protocol, versions 1 and 2: what a proxy says of its client before the client's own octets.

By HAProxy's doc/proxy-protocol.txt, whose sections are cited. A preface is never guessed: whoever listens knows which
peers send one, and ends the connection of one that does not. Of its facts only the client's address is used;
the type-length-values of version 2 are skipped, and so is their checksum (§2.2.3 leaves it to the receiver).
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

MAX_LINE: Final = 107  # octets with CRLF (§2.1)
MAX_LENGTH: Final = 4096  # octets after the fixed part; §2.2 allows 65,535, and proxies send a few hundred
FIXED: Final = 16  # octets of version 2 before the addresses

_WORD: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")

_LOCAL, _PROXY = 0, 1
_TCP4, _TCP6 = 0x11, 0x21  # family and transport
_ADDRESSES_LENGTH: Final = (0, 12, 36, 216)  # by family: none, IPv4, IPv6, unix; both addresses with their ports
_MAX_TRANSPORT: Final = 2


class PrefaceError(Exception):
    """What the peer sent is no preface; says why. The connection is to be ended without an answer (§2)."""


@dataclass(frozen=True, slots=True)
class Preface:
    """What the proxy told, and the client's first octets.

    `address` is the client's IP address, IPv4 also where it came through an IPv6 socket; None: the connection's own
    address holds, because the proxy speaks for itself (LOCAL) or for a client without one (UNKNOWN, unix, datagrams).
    """

    address: str | None
    rest: bytes


class PrefaceReader:
    """Reads the preface out of octets in any pieces. Holds 4,112 octets at most, and one piece."""

    def __init__(self) -> None:
        self._buffer = b""
        self.preface: Preface | None = None  # None while more octets are needed

    def feed(self, octets: bytes) -> None:
        """Go on with `octets`; not after the preface is whole. Raises PrefaceError, as early as it is certain."""
        if self.preface is not None:
            raise RuntimeError("the preface is whole")
        self._buffer += octets
        if _begins(self._buffer, _SIGNATURE):
            self.preface = _read_binary(self._buffer)
        elif _begins(self._buffer, _WORD):
            self.preface = _read_line(self._buffer)
        else:
            raise PrefaceError("neither PROXY nor the signature of version 2")


def _begins(octets: bytes, expected: bytes) -> bool:
    """Whether `octets` begin as expected, as far as they reach."""
    return octets[: len(expected)] == expected[: len(octets)]


def _read_line(octets: bytes) -> Preface | None:
    """Version 1 (§2.1)."""
    end = octets.find(b"\r\n", 0, MAX_LINE)
    if end >= 0:
        return Preface(_address_in(octets[len(_WORD) : end].decode("latin-1")), octets[end + 2 :])
    if len(octets) >= MAX_LINE:
        raise PrefaceError(f"no CRLF in the first {MAX_LINE} octets")
    return None


def _address_in(line: str) -> str | None:
    family, *rest = line.split(" ")
    if family == "UNKNOWN":  # whatever follows
        return None
    if family not in {"TCP4", "TCP6"}:
        raise PrefaceError("expected TCP4, TCP6 or UNKNOWN")
    if len(rest) != 4:
        raise PrefaceError("expected two addresses and two ports, one space before each")
    source, destination, *ports = rest
    if not all(_PORT.fullmatch(port) and int(port) <= 65535 for port in ports):
        raise PrefaceError("expected ports from 0 to 65535")
    kind = IPv4Address if family == "TCP4" else IPv6Address
    try:
        _told(kind(destination))
        return _told(kind(source))
    except ValueError as error:
        raise PrefaceError(f"expected two addresses of {family}") from error


def _told(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    if address.scope_id is not None:
        raise ValueError("a zone means nothing on another machine")
    return str(address.ipv4_mapped or address)


def _read_binary(octets: bytes) -> Preface | None:
    """Version 2 (§2.2)."""
    if len(octets) < FIXED:
        return None
    version, command = divmod(octets[12], 16)
    length = int.from_bytes(octets[14:FIXED], "big")
    if version != 2 or command not in {_LOCAL, _PROXY}:
        raise PrefaceError("expected version 2 and LOCAL or PROXY")
    if length > MAX_LENGTH:
        raise PrefaceError(f"expected at most {MAX_LENGTH} octets of addresses and values")
    if command == _PROXY:
        _check(*divmod(octets[13], 16), length)
    end = FIXED + length
    if len(octets) < end:
        return None
    address = _address_of(octets[13], octets[FIXED:end]) if command == _PROXY else None
    return Preface(address, octets[end:])


def _check(family: int, transport: int, length: int) -> None:
    if family >= len(_ADDRESSES_LENGTH) or transport > _MAX_TRANSPORT:
        raise PrefaceError("expected a family and a transport of version 2")
    if length < _ADDRESSES_LENGTH[family]:
        raise PrefaceError("expected addresses as long as their family's")


def _address_of(kind: int, addresses: bytes) -> str | None:
    """The source; None for what is not TCP and so has no address that mail could come from."""
    if kind == _TCP4:
        return _told(IPv4Address(addresses[:4]))
    return _told(IPv6Address(addresses[:16])) if kind == _TCP6 else None
