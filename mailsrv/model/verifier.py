"""What a server keeps for SCRAM-SHA-256 in place of a password: RFC 5803 §2, in the form that PostgreSQL writes."""

import base64
import re
from dataclasses import dataclass
from typing import Final

from mailsrv.model.address import GrammarError

KEY_OCTETS: Final = 32  # of SHA-256
MIN_SALT_OCTETS: Final = 12
MIN_ITERATIONS: Final = 4096  # RFC 7677 §4
MAX_ITERATIONS: Final = 10_000_000  # a client would work on more for many seconds

_FORM: Final = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{3,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_EXPECTED: Final = "expected SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY"


@dataclass(frozen=True, slots=True)
class Verifier:
    """StoredKey, ServerKey, salt and iteration count of RFC 5802 §3."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        salt, stored, server = (
            base64.b64encode(each).decode() for each in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def parse_verifier(text: str) -> Verifier:
    """The meaning of a verifier's text; raises GrammarError."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise GrammarError(_EXPECTED)
    try:
        octets = [base64.b64decode(each, validate=True) for each in form.groups()[1:]]
    except ValueError as error:
        raise GrammarError(f"{_EXPECTED}, the last three in base64") from error
    verifier = Verifier(int(form[1]), *octets)
    if not MIN_ITERATIONS <= verifier.iterations <= MAX_ITERATIONS:
        raise GrammarError(f"expected {MIN_ITERATIONS} to {MAX_ITERATIONS} iterations")
    if len(verifier.salt) < MIN_SALT_OCTETS or not len(verifier.stored_key) == len(verifier.server_key) == KEY_OCTETS:
        raise GrammarError(f"expected a salt of {MIN_SALT_OCTETS} octets at least and keys of {KEY_OCTETS}")
    return verifier
