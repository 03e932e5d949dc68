"""cryptography: a self-signed TLS pair for a new instance, a look at the one in use, and at those of other servers."""

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from mailsrv.host.resolver import Association

VALID_DAYS: Final = 3650
# Usages of an association that SMTP knows (RFC 7672 §3.1).
DANE_TA: Final = 2
DANE_EE: Final = 3


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


def dane_match(chain: Sequence[bytes], associations: Iterable[Association], names: Sequence[str]) -> Association | None:
    """The first association (TLSA) by which the certificates of a server, in DER and its own first, are good.

    Usage 3 (DANE-EE) is its certificate, whatever name and time that says. Usage 2 (DANE-TA) is an authority of its
    chain, which vouches for one of the names (RFC 7672 §3.1, §3.2).
    """
    try:
        certificates = [x509.load_der_x509_certificate(each) for each in chain]
    except ValueError:
        return None
    for each in associations:
        if each.usage == DANE_EE and _is_meant(certificates[:1], each):
            return each
        if each.usage == DANE_TA and any(_vouches(each, certificates, name) for name in names):
            return each
    return None


def _is_meant(certificates: Iterable[x509.Certificate], association: Association) -> bool:
    return any(_selected(each, association) == association.data for each in certificates)


def _vouches(association: Association, certificates: Sequence[x509.Certificate], name: str) -> bool:
    """Whether the authority that is meant, from the chain or from the record, vouches for the first certificate."""
    authorities = [each for each in certificates[1:] if _is_meant([each], association)]
    if (association.selector, association.matching) == (0, 0):
        with contextlib.suppress(ValueError):  # the record has it whole, so the server need not send it
            authorities.append(x509.load_der_x509_certificate(association.data))
    for authority in authorities:
        with contextlib.suppress(verification.VerificationError, ValueError):
            builder = verification.PolicyBuilder().store(verification.Store([authority]))
            verifier = builder.build_server_verifier(x509.DNSName(name))
            verifier.verify(certificates[0], list(certificates[1:]))
            return True
    return False


def _selected(certificate: x509.Certificate, association: Association) -> bytes | None:
    """What the association is about (RFC 6698 §2.1.2, §2.1.3)."""
    if association.selector == 0:
        octets = certificate.public_bytes(serialization.Encoding.DER)
    elif association.selector == 1:
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        octets = certificate.public_key().public_bytes(*form)
    else:
        return None
    digests = {0: lambda: octets, 1: hashlib.sha256(octets).digest, 2: hashlib.sha512(octets).digest}
    return digests[association.matching]() if association.matching in digests else None
