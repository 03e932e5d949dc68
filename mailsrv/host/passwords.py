"""argon2-cffi: password hashes, and a memory of what was verified, so that polling does not cost 50 ms each time.

The memory holds no password: its keys are made with a secret of this process, from the hash as well, so that a changed
password is forgotten at once.
"""

import base64
import hashlib
import secrets
import time
from typing import Final

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

REMEMBERED_SECONDS: Final = 600.0
REMEMBERED_MOST: Final = 10_000

_hasher: Final = argon2.PasswordHasher()


def hash_password(password: str) -> str:
    """A new argon2id hash."""
    return _hasher.hash(password)


def verify(password_hash: str, password: str) -> bool:
    """Whether `password` is the one; takes its time, on purpose."""
    try:
        return _hasher.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


def _hash_of_nothing() -> str:
    """A hash that no password has, and that takes as long to verify; made without the 64 MB that hashing takes."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (_hasher.salt_len, _hasher.hash_len)
    )
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


class Memory:
    """What was verified within the last ten minutes."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, float] = {}
        self._nobody = _hash_of_nothing()

    def knows(self, password_hash: str, password: str) -> bool:
        """Whether this very pair was verified not long ago; costs microseconds."""
        until = self._known.get(self._key(password_hash, password))
        return until is not None and time.monotonic() < until

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Verify, and remember; None, for a user who does not exist, takes as long. Safe in any thread."""
        is_right = verify(password_hash or self._nobody, password)
        if password_hash is None or not is_right:
            return False
        if len(self._known) >= REMEMBERED_MOST:
            self._known.clear()
        self._known[self._key(password_hash, password)] = time.monotonic() + REMEMBERED_SECONDS
        return True

    def _key(self, password_hash: str, password: str) -> bytes:
        text = f"{password_hash}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._secret).digest()
