"""cryptography: a self-signed TLS pair for a new instance, and a look at the one in use."""

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_DAYS: Final = 3650


def self_signed(hostname: str) -> tuple[bytes, bytes]:
    """A certificate for `hostname` and its private key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def expiry(path: Path) -> datetime:
    """When the certificate at `path` ends; raises OSError, ValueError."""
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def end_point_binding(pem: bytes) -> bytes | None:
    """The channel binding tls-server-end-point of the first certificate in `pem`; raises ValueError where is none.

    It is the certificate's hash, with the hash of its signature, or SHA-256 for MD5 and SHA-1 (RFC 5929 §4.1). None
    where the signature has not one hash of its own, as Ed25519: there the binding is not defined.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    algorithm: hashes.HashAlgorithm | None = None
    with contextlib.suppress(UnsupportedAlgorithm):
        algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return None
    return certificate.fingerprint(hashes.SHA256() if isinstance(algorithm, hashes.MD5 | hashes.SHA1) else algorithm)
