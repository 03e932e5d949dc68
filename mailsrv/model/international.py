"""Addresses beyond ASCII (RFC 6531, RFC 5890): which characters they may have, and the one form to compare them by.

An address may have what can be seen. A control or format character, a bidi override, a separator or a zero-width
joiner would make two addresses look alike, or one address look like something else in a log, a table or a trace line.
An unassigned, private or surrogate code point means nothing to anybody.
"""

import functools
import re
import unicodedata
from typing import Final

import idna

MAX_ENCODED_DOMAIN: Final = 253  # octets of a domain in A-labels, as the DNS can hold it (RFC 1035 §2.3.4)

_LDH: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*")

# Characters that Unicode shows as nothing (Default_Ignorable_Code_Point) or as a blank, and Python calls printable.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_visible(text: str) -> bool:
    """Whether every character can be seen: no Cc, Cf, Cs, Co, Cn, Zl, Zp, no Zs but the space of ASCII, no blank."""
    return text.isprintable() and (text.isascii() or not _BLANK.search(text))


def local_part_key(local_part: str) -> str:
    """The form to compare local parts by: in NFC (RFC 6532 §3.1) and in small letters."""
    if local_part.isascii():
        return local_part.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local_part).lower())


def domain_key(domain: str) -> str:
    """The form to compare domains by: in A-labels and small letters; of what is no domain, in NFC."""
    if domain.isascii():
        return domain.lower()
    try:
        return to_a_labels(domain)
    except ValueError:
        return local_part_key(domain)


@functools.lru_cache(maxsize=1024)
def to_a_labels(domain: str) -> str:
    """`domain` with A-labels for its U-labels (RFC 5891 §4, mapped by UTS 46); raises ValueError where one is none."""
    if len(domain) > MAX_ENCODED_DOMAIN:  # idna takes long over long ones
        raise ValueError(f"expected at most {MAX_ENCODED_DOMAIN} characters")
    encoded = idna.encode(domain, uts46=True).decode("ascii")
    if not _LDH.fullmatch(encoded):  # mapped to something else, as a full stop at the end
        raise ValueError("expected letters, digits and hyphens")
    return encoded
