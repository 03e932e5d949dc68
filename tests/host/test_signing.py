"""Keys of DKIM: made, read, and what is none."""

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mailsrv.host.signing import Algorithm, make_key, read_key

# RSA with 512 bits, which `cryptography` does not make.
_WEAK = b"""\
-----BEGIN PRIVATE KEY-----
MIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEAsCweMaE6A/nk31Hj
w5lGr3rF/rUkRLYD87nQ/knA1Fp59wq9eutfm2icj0Zmbsikx4rdvqAhPoAv20Hu
uut8oQIDAQABAkBupBaGZtIvwxaJZj2cDzxEYt/MOmk/uew7elyWBy3SbsDsLUBg
l9H2VhEvP0THWb5vj2I14VPSjHagnX9clsDRAiEA4SJgWCJzGS2MvZX6bUHwe0rA
uv7kKys031GVXPZYOCUCIQDIU041hDTDHCMQytUJ2+cyVIFUEfgFc5GEJJCGSR47
zQIgKTScg6USgeo3Vz/LDRJDjJ1a9x7N7iTDUZhiCRjBfs0CIQC8KCLpeUfliuQU
va7kF7xMNbtTr5z54dbn+0AUIVFYcQIgbR8xAgwqdhLxip05SooT7bLtMfgNxKSf
8N3z908H1fw=
-----END PRIVATE KEY-----
"""


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_signs_the_same_octets_the_same_way_each_time(algorithm: Algorithm) -> None:
    key = read_key(make_key(algorithm))
    assert key.algorithm is algorithm
    assert key.sign(b"octets") == key.sign(b"octets")
    assert key.sign(b"octets") != key.sign(b"others")


def test_the_public_key_of_ed25519_is_its_32_octets_and_that_of_rsa_has_2048_bits() -> None:
    assert len(base64.b64decode(read_key(make_key(Algorithm.ED25519)).public)) == 32
    public = serialization.load_der_public_key(base64.b64decode(read_key(make_key(Algorithm.RSA)).public))
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 2048


def test_a_key_of_few_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="1024 to 4096 bits"):
        read_key(_WEAK)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no key",
        pem_of(ec.generate_private_key(ec.SECP256R1())),
        pem_of(rsa.generate_private_key(65537, 2048), b"secret"),
    ],
)
def test_what_is_no_key_of_dkim_is_refused_with_what_was_expected(pem: bytes) -> None:
    with pytest.raises(ValueError, match="expected a"):
        read_key(pem)
