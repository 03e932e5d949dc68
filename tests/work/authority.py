"""A certificate authority of the test's own, and what it signs."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Certified:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spki(self) -> bytes:
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self.certificate.public_key().public_bytes(*form)

    def context(self, folder: Path, *above: "Certified") -> ssl.SSLContext:
        """For a server that shows it, with those above it."""
        path = folder / f"{self.certificate.serial_number}.pem"
        form = (PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        chain = b"".join(each.certificate.public_bytes(PEM) for each in (self, *above))
        path.write_bytes(chain + self.key.private_bytes(*form))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context


def authority(name: str = "an authority") -> Certified:
    """One that signs itself."""
    return _made(name, None, (), timedelta(days=10), is_authority=True)


def certified(by: Certified | None, *names: str, days: float = 10) -> Certified:
    """A certificate of a server, signed by an authority or by itself; of the past where the days are negative."""
    return _made(names[0], by, names, timedelta(days=days), is_authority=False)


def _made(
    name: str, by: Certified | None, names: tuple[str, ...], lasts: timedelta, *, is_authority: bool
) -> Certified:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = by.key if by else key
    begin = datetime.now(UTC) - timedelta(days=20)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=20) + lasts)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if is_authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternatives, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return Certified(builder.sign(signer, hashes.SHA256()), key)
