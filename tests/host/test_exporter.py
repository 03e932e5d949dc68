"""tls-exporter is what the client has, whatever the handshake was like; no secret outlives the call that wrote it."""

import contextlib
import gc
import itertools
import logging
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from mailsrv.host import certificates
from mailsrv.host.exporter import Exporter, channel_binding
from mailsrv.host.tls import Certificates, Channel, TlsError
from tests.clients.client import skip_missing
from tests.host.test_tls import Client, Clock, connected, context_of, put

SUITES = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
HELLO_RETRY_REQUEST = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)  # RFC 8446 §4.1.3
PATIENCE = 20  # seconds
ROOT = Path(__file__).parents[2]


def expected(secret: bytes) -> bytes:
    """The binding by another's HKDF (RFC 8446 §7.5)."""
    algorithm = {32: hashes.SHA256(), 48: hashes.SHA384()}[len(secret)]
    digest = hashes.Hash(algorithm)
    nothing = digest.finalize()

    def expand(key: bytes, label: bytes, length: int) -> bytes:
        full = b"tls13 " + label
        info = struct.pack(f">HB{len(full)}sB{len(nothing)}s", length, len(full), full, len(nothing), nothing)
        return HKDFExpand(algorithm, length, info).derive(key)

    return expand(expand(secret, b"EXPORTER-Channel-Binding", len(nothing)), b"exporter", 32)


class TellingClient(Client):
    """A client that tells what it binds to."""

    def __init__(self, keys: Path, name: str | None = None) -> None:
        super().__init__(name)
        self._keys = keys
        self.tls.context.keylog_filename = str(keys)

    @property
    def binding(self) -> bytes:
        (secret,) = re.findall("^EXPORTER_SECRET [0-9a-f]{64} ([0-9a-f]+)$", self._keys.read_text(), re.M)
        return expected(bytes.fromhex(secret))


@pytest.fixture
def found(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    put(folder, certificates.self_signed("mail.example.org"))
    put(folder / "pop.example.org", certificates.self_signed("pop.example.org"))
    return Certificates(folder)


@pytest.fixture
def client(tmp_path: Path) -> TellingClient:
    return TellingClient(tmp_path / "keys")


def exporter_of(found: Certificates) -> Exporter:
    assert found._exporter is not None
    return found._exporter


def left(found: Certificates) -> int:
    """Octets in the memfd, and of what was read from it."""
    exporter = exporter_of(found)
    return os.fstat(exporter._file).st_size + len(bytes(exporter._written).strip(b"\0"))


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many octets were there each time that the memfd was emptied."""
    sizes: list[int] = []
    truncate = os.ftruncate

    def counted(file: int, size: int) -> None:
        sizes.append(os.fstat(file).st_size)
        truncate(file, size)

    monkeypatch.setattr(os, "ftruncate", counted)
    return sizes


# --- the same as the client's ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", [None, "pop.example.org"])
def test_the_binding_is_what_the_client_has_in_pieces_of_any_size_and_for_any_server(
    found: Certificates, tmp_path: Path, name: str | None, size: int
) -> None:
    client, channel = TellingClient(tmp_path / "keys", name), Channel(context_of(found))
    client.receive(b"")
    while octets := client.outgoing():
        for at in range(0, len(octets), size):
            channel.receive(octets[at : at + size])
            assert left(found) == 0
        client.receive(channel.outgoing())
    assert channel.bindings()["tls-exporter"] == client.binding
    assert set(channel.bindings()) == {"tls-exporter", "tls-server-end-point"}


def test_the_binding_is_what_the_client_has_after_a_hello_retry_request(
    found: Certificates, client: TellingClient, gone: list[int]
) -> None:
    context = context_of(found)
    context.set_ecdh_curve("secp384r1")  # the client can do it, and guesses another
    channel = Channel(context)
    client.receive(b"")
    channel.receive(client.outgoing())
    answer = channel.outgoing()
    assert HELLO_RETRY_REQUEST in answer
    assert len(gone) == 2  # of the two contexts: there are no secrets yet
    client.receive(answer)
    client.shake_hands(channel)
    assert channel.bindings()["tls-exporter"] == client.binding
    assert left(found) == 0


def test_a_resumed_session_has_a_binding_of_its_own(found: Certificates, tmp_path: Path) -> None:
    first, channel = TellingClient(tmp_path / "first"), Channel(context_of(found))
    first.shake_hands(channel)
    first.receive(channel.outgoing())  # tickets
    again, resumed = TellingClient(tmp_path / "again"), Channel(context_of(found))
    again.tls = first.tls.context.wrap_bio(again._in, again._out, session=first.tls.session)
    again.tls.context.keylog_filename = str(tmp_path / "again")
    again.shake_hands(resumed)
    assert again.tls.session_reused
    assert resumed.bindings()["tls-exporter"] == again.binding != first.binding
    assert channel.bindings()["tls-exporter"] == first.binding


def test_a_client_random_that_occurs_twice_leads_to_two_bindings(found: Certificates, client: TellingClient) -> None:
    channels = [Channel(context_of(found)) for _ in range(2)]
    client.receive(b"")
    hello = client.outgoing()
    for channel in channels:
        channel.receive(hello)
    client.receive(channels[0].outgoing())
    channels[0].receive(client.outgoing())
    assert channels[0].bindings()["tls-exporter"] == client.binding
    assert len({channel._exported for channel in channels}) == 2


def test_handshakes_in_turns_do_not_mix(found: Certificates, tmp_path: Path) -> None:
    pairs = [(TellingClient(tmp_path / f"keys {each}"), Channel(context_of(found))) for each in range(5)]
    pairs += [(TellingClient(tmp_path / "named", "pop.example.org"), Channel(context_of(found)))]
    for client, _channel in pairs:
        client.receive(b"")
    while flights := [client.outgoing() for client, _channel in pairs]:
        if not any(flights):
            break
        for at, (_client, channel) in itertools.product(range(max(map(len, flights))), pairs):
            channel.receive(flights[pairs.index((_client, channel))][at : at + 1])
        for client, channel in pairs:
            client.receive(channel.outgoing())
    assert [channel.bindings()["tls-exporter"] for _client, channel in pairs] == [each.binding for each, _ in pairs]
    assert len({channel.bindings()["tls-exporter"] for _client, channel in pairs}) == len(pairs)


@contextlib.contextmanager
def openssl(channel: Channel, *options: str) -> Iterator[tuple["subprocess.Popen[bytes]", socket.socket]]:
    """OpenSSL's own client after its handshake with the channel."""
    if shutil.which("openssl") is None:
        skip_missing("openssl", "openssl")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(PATIENCE)
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", *options]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = stack.enter_context(subprocess.Popen(command, **pipes))  # type: ignore[call-overload]
        stack.callback(process.kill)
        wire = stack.enter_context(listener.accept()[0])
        wire.settimeout(PATIENCE)
        while not channel.is_established:
            channel.receive(wire.recv(65536))
            wire.sendall(channel.outgoing())
        yield process, wire


@pytest.mark.parametrize("suite", SUITES)
def test_the_binding_is_what_openssl_itself_gives_with_every_cipher_suite(found: Certificates, suite: str) -> None:
    channel = Channel(context_of(found))
    ask = ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32", "-ciphersuites", suite]
    with openssl(channel, *ask) as (process, wire):
        assert channel.description.cipher == suite
        channel.close()
        wire.sendall(channel.outgoing())
        told, _ = process.communicate(timeout=PATIENCE)
    binding = re.search(rb"Keying material: ([0-9A-F]{64})\n", told)
    assert binding, told
    assert channel.bindings()["tls-exporter"].hex().upper().encode() == binding[1]


@pytest.mark.parametrize(("length", "name"), [(32, "sha256"), (48, "sha384")])
def test_the_derivation_is_that_of_another_hkdf(length: int, name: str) -> None:
    for each in range(10):
        secret = bytes((each,)) * length
        assert channel_binding(secret, name) == expected(secret)


# --- nothing is left -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_nothing_is_left_of_a_whole_connection(found: Certificates, version: ssl.TLSVersion, gone: list[int]) -> None:
    client, channel = connected(context_of(found), version)
    assert left(found) == 0
    assert sum(gone) > 150
    client.tls.write(b"QUIT\r\n")
    channel.receive(client.outgoing())
    channel.send(b"221 bye\r\n")
    channel.close()
    assert left(found) == 0
    assert ("tls-exporter" in channel.bindings()) == (version is ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_nothing_is_left_of_a_handshake_that_fails_at_its_end(found: Certificates, version: ssl.TLSVersion) -> None:
    client, channel = Client(version=version), Channel(context_of(found))
    client.receive(b"")
    channel.receive(client.outgoing())
    client.receive(channel.outgoing())
    octets = bytearray(client.outgoing())
    octets[-1] ^= 1  # in the client's Finished
    with pytest.raises(TlsError):
        channel.receive(bytes(octets))
    assert left(found) == 0
    with pytest.raises(RuntimeError):
        channel.bindings()


def test_nothing_is_left_of_a_call_that_writes_secrets_and_fails(
    found: Certificates, client: Client, gone: list[int]
) -> None:
    channel = Channel(context_of(found))
    client.receive(b"")
    with pytest.raises(TlsError):
        channel.receive(client.outgoing() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert gone[-1] > 150
    assert left(found) == 0


def test_nothing_is_left_of_what_is_not_tls_or_was_never_finished(found: Certificates, client: Client) -> None:
    channel = Channel(context_of(found))
    with pytest.raises(TlsError):
        channel.receive(b"EHLO client.example\r\n")
    assert left(found) == 0
    channel = Channel(context_of(found))
    client.receive(b"")
    channel.receive(client.outgoing())
    channel.close()
    assert left(found) == 0


def test_nothing_is_left_of_a_change_of_keys_and_the_binding_stays(found: Certificates, gone: list[int]) -> None:
    channel = Channel(context_of(found))
    with openssl(channel) as (process, wire):
        before = channel.bindings()
        assert process.stdin
        for _ in range(3):
            del gone[:]
            process.stdin.write(b"K\n")  # new keys, and ask for new ones of the server
            process.stdin.flush()
            assert channel.receive(wire.recv(65536)) == b""
            assert len(gone) == 1
            channel.send(b"250 done\r\n")
            wire.sendall(channel.outgoing())
            assert len(gone) == 2
            assert min(gone) > 150
            assert left(found) == 0
        assert channel.bindings() == before


def test_nothing_is_left_of_a_change_of_keys_that_is_read_when_we_close(found: Certificates, gone: list[int]) -> None:
    channel = Channel(context_of(found))
    with openssl(channel) as (process, wire):
        assert process.stdin
        process.stdin.write(b"k\n")
        process.stdin.flush()
        channel._from_wire.write(wire.recv(65536))
        del gone[:]
        channel.close()
    assert min(gone) > 150
    assert left(found) == 0


@pytest.mark.parametrize(
    "written",
    [
        "EARLY_EXPORTER_SECRET {0} {1}\n",  # of 0-RTT, which is off
        "CLIENT_TRAFFIC_SECRET_0 {0} {1}\n",
        "EXPORTER_SECRET {0} {1}",  # there was no memory for the rest
        "EXPORTER_SECRET {0} {1}1\n",
        "EXPORTER_SECRET {0}\n",
        "#\n\n",
        "",
    ],
)
def test_other_secrets_and_what_is_cut_off_give_no_binding(found: Certificates, written: str) -> None:
    _client, channel = connected(context_of(found))
    Path(exporter_of(found)._path).write_text(written.format("0" * 64, "1" * 96))
    assert exporter_of(found).take(channel._tls) == b""
    assert left(found) == 0
    Path(exporter_of(found)._path).write_text(f"EXPORTER_SECRET {'0' * 64} {'1' * 96}\n")
    assert exporter_of(found).take(channel._tls) == expected(b"\x11" * 48)


def test_a_channel_keeps_nothing_but_the_binding(found: Certificates, client: TellingClient, tmp_path: Path) -> None:
    channel = Channel(context_of(found))
    client.shake_hands(channel)
    secrets = [line.split()[2] for line in (tmp_path / "keys").read_text().splitlines() if not line.startswith("#")]
    kept = [each for each in vars(channel).values() if isinstance(each, bytes)]
    assert kept == [client.binding]
    assert not {each.hex() for each in kept} & set(secrets)


def test_secrets_of_two_connections_at_once_give_no_binding(
    found: Certificates, client: TellingClient, caplog: pytest.LogCaptureFixture
) -> None:
    channel = Channel(context_of(found))
    client.receive(b"")
    with open(exporter_of(found)._path, "ab") as another:
        another.write(b"CLIENT_RANDOM %b %b\n" % (b"0" * 64, b"1" * 96))
    client.shake_hands(channel)
    assert channel.is_established
    assert channel.bindings() == {}
    assert left(found) == 0
    assert [each.levelno for each in caplog.records] == [logging.ERROR]


# --- the file --------------------------------------------------------------------------------------


def descriptors() -> set[int]:
    """Those of ours that lead to a memfd."""
    gc.collect()
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that reads the folder
            if "memfd" in str(each.readlink()):
                found.add(int(each.name))
    return found


def test_no_program_that_we_start_inherits_it(found: Certificates) -> None:
    before = descriptors()
    context_of(found)
    ours = descriptors()
    assert len(ours - before) == 2  # one for each context
    assert not any(os.get_inheritable(each) for each in ours)


def test_certificates_that_change_keep_the_file_and_leave_no_descriptor(tmp_path: Path) -> None:
    before = descriptors()
    found = Certificates(tmp_path, clock := Clock())
    for each in range(5):
        clock.tick()
        put(tmp_path, certificates.self_signed("mail.example.org"))
        client, channel = TellingClient(tmp_path / f"keys {each}"), Channel(context_of(found))
        client.shake_hands(channel)
        assert channel.bindings()["tls-exporter"] == client.binding
    del channel
    assert len(descriptors() - before) == 2  # ours, and that of the last context
    del found
    assert descriptors() == before


NOBODY = """
import os, sys
from pathlib import Path
import encodings.idna
from mailsrv.host import certificates
from mailsrv.host.tls import Certificates, Channel
from tests.host.test_tls import Client, connected, context_of
folder = Path(sys.argv[1])
found = Certificates(folder) if sys.argv[2] == "before" else None
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
_client, channel = connected(context_of(found or Certificates(folder)))
assert len(channel.bindings()["tls-exporter"]) == 32
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("made", ["before", "after"])
def test_it_works_for_a_user_that_root_has_become(made: str) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are for root alone
        put(folder := Path(place), certificates.self_signed("mail.example.org"))
        for each in (folder, *folder.iterdir()):
            os.chown(each, 65534, 65534)
        command = [sys.executable, "-c", NOBODY, place, made]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- where the system lacks it ---------------------------------------------------------------------


def no_file(*_arguments: object) -> int:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("lacking", ["memfd_create", "/proc", "Python's memfd_create"])
def test_without_it_there_is_no_binding_with_tls_1_3_and_one_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lacking: str
) -> None:
    match lacking:
        case "memfd_create":
            monkeypatch.setattr(os, "memfd_create", no_file)
        case "/proc":
            monkeypatch.setattr(os, "open", no_file)
        case _:
            monkeypatch.delattr(os, "memfd_create")
    put(tmp_path, certificates.self_signed("mail.example.org"))
    found = Certificates(tmp_path)
    monkeypatch.undo()
    for _ in range(2):
        _client, channel = connected(context_of(found))
        assert channel.bindings() == {}
    _client, channel = connected(context_of(found), ssl.TLSVersion.TLSv1_2)
    assert set(channel.bindings()) == {"tls-server-end-point", "tls-unique"}
    (told,) = caplog.messages
    assert "tls-exporter is out of reach" in told


@pytest.mark.parametrize("name", [None, "pop.example.org"])
def test_a_context_that_cannot_be_attached_works_without_it(
    found: Certificates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str | None
) -> None:
    """The common one, or the one that the name leads to; the other has it."""
    exporter = exporter_of(found)
    attach = Exporter.attach
    attached = iter((name is None, name is not None))

    def failing(exporter: Exporter, context: ssl.SSLContext) -> None:
        if next(attached):
            monkeypatch.setattr(exporter, "_path", "/proc/self/fd/none")
        attach(exporter, context)
        monkeypatch.setattr(exporter, "_path", path)

    path = exporter._path
    monkeypatch.setattr(Exporter, "attach", failing)
    for each in (None, "pop.example.org"):
        client, channel = Client(each), Channel(context_of(found))
        client.shake_hands(channel)
        assert channel.is_established
        assert bool(channel.bindings()) == (each != name)
        assert left(found) == 0
    (told,) = caplog.records
    assert "SCRAM-SHA-256-PLUS" in told.message
