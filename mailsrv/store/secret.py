"""The secret of an instance: random octets in a file that only its programs may read."""

import secrets
from pathlib import Path
from typing import Final

from mailsrv.store.durable import write_file

SECRET_OCTETS: Final = 32


def write_secret(path: Path) -> None:
    """A new secret, for the owner alone; raises OSError."""
    write_file(path, secrets.token_bytes(SECRET_OCTETS))


def read_secret(path: Path) -> bytes | None:
    """The secret, or None where there is none that can be used."""
    try:
        octets = path.read_bytes()
    except OSError:
        return None
    return octets if len(octets) >= SECRET_OCTETS else None
