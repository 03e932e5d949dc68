"""TLS between two memory buffers, and certificates that change while they are in use."""

import hashlib
import itertools
import logging
import os
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from mailsrv.host import certificates, tls
from mailsrv.host.tls import Certificates, Channel, Encryption, TlsError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
FATAL_ALERT = b"\x15\x03\x03\x00\x02\x02"


class Client:
    """A TLS client between two memory buffers, that believes every certificate."""

    def __init__(self, name: str | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)

    def receive(self, octets: bytes) -> bytes:
        """What the octets from the server say; b"" while there is nothing, and at the end."""
        self._in.write(octets)
        decrypted = b""
        try:
            self.tls.do_handshake()
            while piece := self.tls.read(65536):
                decrypted += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return decrypted

    def outgoing(self) -> bytes:
        return self._out.read()

    def shake_hands(self, channel: Channel) -> None:
        self.receive(b"")
        while octets := self.outgoing():
            assert channel.receive(octets) == b""
            self.receive(channel.outgoing())

    @property
    def certificate(self) -> bytes:
        return self.tls.getpeercert(binary_form=True) or b""


class Clock:
    """Seconds that pass when it is told so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += tls.LOOK_INTERVAL


def pair(key: PrivateKey, algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None) -> tuple[bytes, bytes]:
    """A certificate of `key` with a signature of this kind, and the key, both PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).serial_number(4711)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM), private(key)


def private(key: PrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def put(folder: Path, made: tuple[bytes, bytes]) -> bytes:
    """Write a pair into `folder`; the certificate as clients see it."""
    folder.mkdir(exist_ok=True)
    (folder / "cert.pem").write_bytes(made[0])
    (folder / "key.pem").write_bytes(made[1])
    return ssl.PEM_cert_to_DER_cert(made[0].decode())


def context_of(found: Certificates) -> ssl.SSLContext:
    context = found.context()
    assert context is not None
    return context


def shown(found: Certificates, name: str | None = None) -> bytes:
    """The certificate that a client sees that names the server so."""
    client = Client(name)
    client.shake_hands(Channel(context_of(found)))
    return client.certificate


def connected(context: ssl.SSLContext, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[Client, Channel]:
    client, channel = Client(version=version), Channel(context)
    client.shake_hands(channel)
    return client, channel


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def found(tmp_path: Path, clock: Clock) -> Certificates:
    put(tmp_path, certificates.self_signed("mail.example.org"))
    return Certificates(tmp_path, clock)


@pytest.fixture
def context(found: Certificates) -> ssl.SSLContext:
    return context_of(found)


# --- channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_octets_go_both_ways_in_pieces_of_any_size(context: ssl.SSLContext, version: ssl.TLSVersion, size: int) -> None:
    client, channel = Client(version=version), Channel(context)

    def carry() -> bytes:
        octets = client.outgoing()
        return b"".join(channel.receive(octets[at : at + size]) for at in range(0, len(octets), size))

    client.receive(b"")
    while not channel.is_established:
        assert carry() == b""
        client.receive(channel.outgoing())
    client.tls.write(b"EHLO client.example\r\n")
    assert carry() == b"EHLO client.example\r\n"
    channel.send(b"250 mail.example.org\r\n")
    assert client.receive(channel.outgoing()) == b"250 mail.example.org\r\n"
    assert channel.outgoing() == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_octets_glued_to_the_last_flight_of_the_handshake_arrive(
    context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client, channel = Client(version=version), Channel(context)
    client.receive(b"")
    channel.receive(client.outgoing())
    client.receive(channel.outgoing())
    if version is ssl.TLSVersion.TLSv1_2:  # there the client waits for the server before it may send
        channel.receive(client.outgoing())
        client.receive(channel.outgoing())
    client.tls.write(b"QUIT\r\n")
    assert channel.receive(client.outgoing()) == b"QUIT\r\n"
    assert channel.is_established


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_five_megabytes_go_through_both_ways(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    client, channel = connected(context, version)
    large = os.urandom(5 * 1024 * 1024)
    client.tls.write(large)
    assert channel.receive(client.outgoing()) == large
    channel.send(large)
    assert client.receive(channel.outgoing()) == large


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_a_client_that_knows_no_more_than_tls_1_1_is_refused(context: ssl.SSLContext) -> None:
    client = Client(version=ssl.TLSVersion.TLSv1_2)
    client.tls.context.set_ciphers("DEFAULT:@SECLEVEL=0")
    client.tls.context.minimum_version = ssl.TLSVersion.TLSv1
    client.tls.context.maximum_version = ssl.TLSVersion.TLSv1_1
    client.tls = client.tls.context.wrap_bio(client._in, client._out)
    client.receive(b"")
    channel = Channel(context)
    with pytest.raises(TlsError, match="handshake failed: unsupported protocol"):
        channel.receive(client.outgoing())
    assert channel.outgoing()[5:] == b"\x02\x46"  # fatal, protocol_version
    assert not channel.is_established


@pytest.mark.parametrize("octets", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 11, b"\xff" * 300])
def test_what_is_not_tls_is_told_and_answered_with_an_alert(context: ssl.SSLContext, octets: bytes) -> None:
    channel = Channel(context)
    with pytest.raises(TlsError, match=r"^handshake failed: [a-z ]+$"):
        channel.receive(octets)
    assert channel.outgoing().startswith(FATAL_ALERT)


def test_a_record_that_was_tampered_with_is_told_and_answered_with_an_alert(context: ssl.SSLContext) -> None:
    client, channel = connected(context)
    client.tls.write(b"QUIT\r\n")
    octets = bytearray(client.outgoing())
    octets[-1] ^= 1
    with pytest.raises(TlsError, match="record failed: decryption failed or bad record mac"):
        channel.receive(bytes(octets))
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        client.receive(channel.outgoing())


def test_a_client_that_does_not_believe_the_certificate_is_told_of(context: ssl.SSLContext) -> None:
    client = Client()
    client.tls.context.verify_mode = ssl.CERT_REQUIRED
    client.tls = client.tls.context.wrap_bio(client._in, client._out)
    client.receive(b"")
    channel = Channel(context)
    channel.receive(client.outgoing())
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        client.receive(channel.outgoing())
    with pytest.raises(TlsError, match="handshake failed: tlsv1 alert unknown ca"):
        channel.receive(client.outgoing())
    assert channel.outgoing() == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_end_of_the_client_is_noticed_and_it_still_gets_its_answers(
    context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client, channel = connected(context, version)
    client.tls.write(b"QUIT\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert channel.receive(client.outgoing()) == b"QUIT\r\n"
    assert channel.has_ended
    channel.send(b"221 bye\r\n")
    channel.close()
    client._in.write(channel.outgoing())
    if version is ssl.TLSVersion.TLSv1_3:  # before it, the end of one side was that of the connection
        assert client.tls.read(100) == b"221 bye\r\n"


def test_what_follows_the_end_of_the_client_is_not_kept(context: ssl.SSLContext) -> None:
    client, channel = connected(context)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert channel.receive(client.outgoing() + bytes(100_000)) == b""
    assert channel.has_ended
    assert channel.receive(bytes(100_000)) == b""
    assert channel._from_wire.pending < tls.MAX_PIECE


def test_our_end_is_told_once_and_what_the_client_still_sends_arrives(context: ssl.SSLContext) -> None:
    client, channel = connected(context)
    channel.close()
    octets = channel.outgoing()
    assert octets
    channel.close()
    assert channel.outgoing() == b""
    client._in.write(octets)
    assert client.tls.read(1) == b""  # its end
    client.tls.write(b"NOOP\r\n")
    assert channel.receive(client.outgoing()) == b"NOOP\r\n"
    assert not channel.has_ended
    client.tls.unwrap()
    assert channel.receive(client.outgoing()) == b""
    assert channel.has_ended


def test_closing_and_sending_at_the_wrong_time(context: ssl.SSLContext) -> None:
    channel = Channel(context)
    with pytest.raises(RuntimeError):
        channel.send(b"220 too early\r\n")
    with pytest.raises(RuntimeError):
        _ = channel.description
    channel.close()
    assert channel.outgoing() == b""
    _client, channel = connected(context)
    channel.close()
    with pytest.raises(RuntimeError):
        channel.send(b"220 too late\r\n")


def test_a_channel_tells_what_was_agreed_on(context: ssl.SSLContext) -> None:
    client, channel = connected(context)
    assert channel.description == Encryption("TLSv1.3", client.tls.cipher()[0])  # type: ignore[index]
    _client, channel = connected(context, ssl.TLSVersion.TLSv1_2)
    assert channel.description.version == "TLSv1.2"


# --- channel bindings ------------------------------------------------------------------------------


def test_tls_unique_is_what_the_client_has_and_there_is_none_for_tls_1_3(context: ssl.SSLContext) -> None:
    client, channel = connected(context, ssl.TLSVersion.TLSv1_2)
    assert channel.bindings()["tls-unique"] == client.tls.get_channel_binding("tls-unique")
    _client, channel = connected(context)
    assert set(channel.bindings()) == {"tls-exporter", "tls-server-end-point"}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: pair(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()), hashlib.sha256),
        (lambda: pair(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()), hashlib.sha384),
        (lambda: pair(rsa.generate_private_key(65537, 2048), hashes.SHA512()), hashlib.sha512),
        (lambda: pair(ed25519.Ed25519PrivateKey.generate(), None), None),
    ],
    ids=["EC, SHA-256", "EC, SHA-384", "RSA, SHA-512", "Ed25519"],
)
def test_the_end_point_is_the_hash_of_the_certificate_that_the_client_sees(
    tmp_path: Path, made: Callable[[], tuple[bytes, bytes]], expected: Callable[[bytes], "hashlib._Hash"] | None
) -> None:
    put(tmp_path, made())
    client, channel = connected(context_of(Certificates(tmp_path)))
    binding = expected(client.certificate).digest() if expected else None
    assert channel.bindings().get("tls-server-end-point") == binding


def test_a_certificate_signed_with_sha_1_is_bound_with_sha_256() -> None:
    # One made by hand: what cryptography signs no more. Only the algorithm's name in it matters.
    der = ssl.PEM_cert_to_DER_cert(pair(rsa.generate_private_key(65537, 2048), hashes.SHA256())[0].decode())
    sha256_with_rsa, sha1_with_rsa = (bytes.fromhex(f"2a864886f70d0101{each}") for each in ("0b", "05"))
    der = der.replace(sha256_with_rsa, sha1_with_rsa)
    pem = ssl.DER_cert_to_PEM_cert(der).encode()
    assert certificates.end_point_binding(pem) == hashlib.sha256(der).digest()


def test_the_end_point_is_of_the_certificate_for_the_server_that_the_client_named(
    found: Certificates, tmp_path: Path
) -> None:
    named = put(tmp_path / "pop.example.org", certificates.self_signed("pop.example.org"))
    client, channel = Client("pop.example.org"), Channel(context_of(found))
    client.shake_hands(channel)
    assert channel.bindings()["tls-server-end-point"] == hashlib.sha256(named).digest()


# --- server names ----------------------------------------------------------------------------------


def test_a_client_gets_the_certificate_of_the_server_it_names(tmp_path: Path) -> None:
    default = put(tmp_path, certificates.self_signed("mail.example.org"))
    named = put(tmp_path / "POP.example.org", certificates.self_signed("pop.example.org"))
    wild = put(tmp_path / "*.example.org", certificates.self_signed("*.example.org"))
    found = Certificates(tmp_path)
    expected = {
        "pop.example.org": named,
        "Pop.Example.ORG": named,
        "smtp.example.org": wild,
        "a.smtp.example.org": default,
        "example.org": default,
        "localhost": default,
        None: default,
    }
    assert {name: shown(found, name) for name in expected} == expected
    assert found.mistakes() == []


def test_a_server_name_that_is_not_ascii_fails_the_handshake_and_prints_nothing(
    found: Certificates, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "pop.example.org", certificates.self_signed("pop.example.org"))
    client, channel = Client("pop.example.org"), Channel(context_of(found))
    client.receive(b"")
    with pytest.raises(TlsError, match="handshake failed: callback failed"):
        channel.receive(client.outgoing().replace(b"pop.example", b"p\xf6p.example"))
    assert channel.outgoing().startswith(FATAL_ALERT)
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_names_no_server_is_told(found: Certificates, tmp_path: Path) -> None:
    put(tmp_path / "b\N{LATIN SMALL LETTER U WITH DIAERESIS}ro.example", certificates.self_signed("x"))
    put(tmp_path / ".old", certificates.self_signed("x"))
    (told,) = found.mistakes()
    assert "expected a server's name" in str(told)


# --- certificates that change ----------------------------------------------------------------------


def test_a_changed_certificate_is_used_for_the_next_handshake_and_not_for_a_running_one(
    found: Certificates, tmp_path: Path, clock: Clock
) -> None:
    before = shown(found)
    running, running_channel = Client(), Channel(context_of(found))
    after = put(tmp_path, certificates.self_signed("new.example.org"))
    assert shown(found) == before  # not looked at yet
    clock.tick()
    assert shown(found) == after
    running.shake_hands(running_channel)
    assert running.certificate == before


def test_a_named_server_comes_changes_and_goes(found: Certificates, tmp_path: Path, clock: Clock) -> None:
    default = shown(found, "pop.example.org")
    for _ in range(2):
        named = put(tmp_path / "pop.example.org", certificates.self_signed("pop.example.org"))
        clock.tick()
        assert shown(found, "pop.example.org") == named
    for each in ("cert.pem", "key.pem"):
        (tmp_path / "pop.example.org" / each).unlink()
    (tmp_path / "pop.example.org").rmdir()
    clock.tick()
    assert shown(found, "pop.example.org") == default


def broken_pairs() -> Iterable[tuple[str, str, bytes]]:
    """What is wrong, in which file, and what it says then."""
    other = certificates.self_signed("other.example.org")
    encrypted = private(ec.generate_private_key(ec.SECP256R1()), b"secret")
    yield "another's key", "key.pem", other[1]
    yield "another's certificate", "cert.pem", other[0]
    yield "half a key", "key.pem", other[1][:100]
    yield "half a certificate", "cert.pem", other[0][:100]
    yield "an empty key", "key.pem", b""
    yield "an empty certificate", "cert.pem", b""
    yield "a key with a password", "key.pem", encrypted


@pytest.mark.parametrize(("file", "octets"), [pytest.param(*each[1:], id=each[0]) for each in broken_pairs()])
@pytest.mark.parametrize("name", ["", "pop.example.org"])
def test_a_broken_pair_leaves_the_last_good_one_in_use_and_is_told_once(  # noqa: PLR0917
    found: Certificates,
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    name: str,
    file: str,
    octets: bytes,
) -> None:
    good = put(tmp_path / name, certificates.self_signed("good.example.org"))
    assert shown(found, name or None) == good
    (tmp_path / name / file).write_bytes(octets)
    for _ in range(3):
        clock.tick()
        assert shown(found, name or None) == good
    (told,) = found.mistakes()
    assert told.path.parent == tmp_path / name
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    mended = put(tmp_path / name, certificates.self_signed("good.example.org"))
    clock.tick()
    assert shown(found, name or None) == mended
    assert found.mistakes() == []


@pytest.mark.parametrize("file", ["cert.pem", "key.pem"])
def test_a_missing_file_leaves_the_last_good_pair_in_use_and_is_told(
    found: Certificates, tmp_path: Path, clock: Clock, file: str
) -> None:
    before = shown(found)
    (tmp_path / file).unlink()
    clock.tick()
    assert shown(found) == before
    assert [str(each) for each in found.mistakes()] == [f"{tmp_path / file}: expected to be there"]


def test_what_cannot_be_read_for_a_while_is_read_although_it_does_not_change(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, certificates.self_signed("mail.example.org"))
    found = Certificates(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        assert found.context() is None
    clock.tick()
    assert found.context() is not None
    assert found.mistakes() == []


def test_without_certificates_there_is_no_context_until_there_are_some(tmp_path: Path, clock: Clock) -> None:
    found = Certificates(tmp_path / "tls", clock)
    assert found.context() is None
    assert [each.path for each in found.mistakes()] == [tmp_path / "tls" / "cert.pem"]
    put(tmp_path / "tls", certificates.self_signed("mail.example.org"))
    clock.tick()
    assert found.context() is not None


def test_a_flood_of_handshakes_looks_once_a_second(
    found: Certificates, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    look_at = tls._look_at
    monkeypatch.setattr(tls, "_look_at", lambda path: (next(looks), look_at(path))[1])
    contexts = {id(found.context()) for _ in range(1000)}
    clock.tick()
    contexts |= {id(found.context()) for _ in range(1000)}
    assert len(contexts) == 1
    assert next(looks) == 4  # two files, twice
