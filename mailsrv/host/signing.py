"""cryptography: the keys of DKIM, made, read and signed with.

Signatures of both kinds are the same each time (RSASSA-PKCS1-v1_5 and Ed25519 take nothing from chance), so a message
that is tried again leaves as it did before.
"""

import base64
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

RSA_BITS: Final = 2048  # RFC 8301 §3.2
LEAST_RSA_BITS: Final = 1024
MOST_RSA_BITS: Final = 4096


class Algorithm(Enum):
    """The kinds of keys, by the k= of their record."""

    RSA = "rsa"
    ED25519 = "ed25519"

    @property
    def signs(self) -> str:
        """The a= of a signature."""
        return f"{self.value}-sha256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that can be used."""

    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.RSA if isinstance(self.key, rsa.RSAPrivateKey) else Algorithm.ED25519

    @property
    def public(self) -> str:
        """The p= of its record: a SubjectPublicKeyInfo of RSA (RFC 6376 §3.6.1), 32 octets of Ed25519 (RFC 8463 §4)."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        else:
            form = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.b64encode(self.key.public_key().public_bytes(*form)).decode("ascii")

    def sign(self, octets: bytes) -> bytes:
        """Sign with SHA-256 of the octets."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        digest = hashes.Hash(hashes.SHA256())
        digest.update(octets)
        return self.key.sign(digest.finalize())  # RFC 8463 §3: of the hash


def make_key(algorithm: Algorithm) -> bytes:
    """A new private key, in PEM."""
    made: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if algorithm is Algorithm.RSA:
        made = rsa.generate_private_key(65537, RSA_BITS)
    else:
        made = ed25519.Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.private_bytes(*form)


def read_key(pem: bytes) -> SigningKey:
    """The key in `pem`; raises ValueError, with what was expected."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("expected a private key in PEM, without a password") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return SigningKey(key)
    if isinstance(key, rsa.RSAPrivateKey) and LEAST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
        return SigningKey(key)
    raise ValueError(f"expected a key of Ed25519, or of RSA with {LEAST_RSA_BITS} to {MOST_RSA_BITS} bits")
