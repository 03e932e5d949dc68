"""Text in the parameters ORCPT and ENVID: xtext (RFC 3461 §4), and addresses of the type utf-8 (RFC 6533 §3)."""

import re
from typing import Final

_XTEXT_OCTET: Final = re.compile(r"\+([0-9A-F]{2})")  # hexchar
_EMBEDDED: Final = re.compile(r"\\x\{((?:10|[0-9A-F])?[0-9A-F]{1,4})\}")  # EmbeddedUnicodeChar
_NO_XCHAR: Final = re.compile(r"[^!-*,-<>-~]")
_NO_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")


def original_recipient(address: str) -> str:
    """The value of ORCPT (RFC 3461 §4.2, RFC 6533 §3) that says `address`."""
    if address.isascii():
        return f"rfc822;{_NO_XCHAR.sub(lambda character: f'+{ord(character.group()):02X}', address)}"
    return f"utf-8;{to_utf8_addr_xtext(address)}"


def from_xtext(text: str) -> str:
    """`text` decoded, or as it stands where that gives what a field cannot hold."""
    decoded = _XTEXT_OCTET.sub(lambda octet: chr(int(octet.group(1), 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else text


def from_utf8_addr(text: str) -> str:
    """The address behind the type `utf-8;`, decoded, or as it stands where that gives what a field cannot hold."""
    decoded = _EMBEDDED.sub(lambda point: chr(int(point.group(1), 16)), from_xtext(text))
    return decoded if decoded.isprintable() else text


def to_utf8_addr_xtext(address: str) -> str:
    r"""`address` as utf-8-addr-xtext, which is ASCII: `\x{F6}` for an o with diaeresis."""
    return _NO_QCHAR.sub(lambda character: rf"\x{{{ord(character.group()):X}}}", address)
