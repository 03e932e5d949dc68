"""TLS: the certificates of an instance, and one encrypted connection without I/O.

A certificate is replaced by writing over its files, while we run: what has changed is read again, at most once a
second, and used for the next handshake; a pair that is broken, or half replaced, leaves the last good one in use.
A channel lives between two memory buffers, so that whoever moves its octets can begin it anywhere in a connection.
Both belong to one thread.
"""

import contextlib
import logging
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsrv.host import certificates
from mailsrv.host.exporter import TLS_EXPORTER, Exporter, open_exporter
from mailsrv.model.mistake import Mistake

logger = logging.getLogger(__name__)

CERTIFICATE: Final = "cert.pem"
PRIVATE_KEY: Final = "key.pem"
LOOK_INTERVAL: Final = 1.0  # seconds; a flood of handshakes costs no more looks than this
DEFAULT: Final = ""  # the name of the pair for clients that name no server, or one that we don't know

# Octets that go through a memory buffer at once. It stays as large as it ever was, as long as the connection: an idle
# one that has moved 256 KB holds 26 KiB with these, 58 KiB with 16 KiB; 0.75 GB/s go through, 1.6 with 16 KiB.
MAX_PIECE: Final = 4 * 1024
MAX_RECORD: Final = 16 * 1024  # octets in a record (RFC 8446 §5.1)

# Fatal, unexpected_message, in a plain record (RFC 8446 §5): OpenSSL itself says nothing where no TLS was spoken.
NOT_TLS: Final = bytes((21, 3, 3, 0, 2, 2, 10))

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_SERVER_NAME: Final = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", re.IGNORECASE)

# Of a file, what cannot all stay the same when it is written, replaced, or made readable.
_Look = tuple[int, int, int, int] | None


class TlsError(Exception):
    """The peer does not speak TLS as it should, for the log: what failed and why. The connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """What was agreed on: such as TLSv1.3, and TLS_AES_256_GCM_SHA384 (OpenSSL's name of it)."""

    version: str
    cipher: str

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


class PairContext(ssl.SSLContext):
    """The server's side of handshakes with one certificate."""

    end_point: bytes | None = None  # the certificate's channel binding tls-server-end-point, where it has one
    exporter: Exporter | None = None  # the same for all that a server name can lead to


class _PassingMistake(Mistake):
    """It may end without a change of the files: for want of descriptors, say."""


class Certificates:
    """The certificates in `folder`: its own pair for every client, and that of a subfolder for the server it names.

    A subfolder is named as clients name the server (SNI, RFC 6066 §3), in A-labels: `mail.example.org`, or
    `*.example.org` for names with exactly one label more. `clock` gives seconds that never go back.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next_look = -float("inf")
        self._folders: dict[str, Path] = {DEFAULT: folder}  # by server name
        self._seen: dict[str, tuple[_Look, _Look]] = {}
        self._good: dict[str, PairContext] = {}
        self._mistakes: list[Mistake] = []
        self._exporter = open_exporter()

    def context(self) -> ssl.SSLContext | None:
        """For a new handshake; None as long as there was never a usable pair in the folder itself."""
        self._look()
        return self._good.get(DEFAULT)

    def mistakes(self) -> list[Mistake]:
        """What is wrong with the files as they are now; what was there before is still in use."""
        self._look()
        return list(self._mistakes)

    def _look(self) -> None:
        if (now := self._clock()) < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        with contextlib.suppress(OSError):  # no such folder, perhaps: its pair tells
            self._folders = _folders(self._folder)
        seen = {
            name: (_look_at(each / CERTIFICATE), _look_at(each / PRIVATE_KEY)) for name, each in self._folders.items()
        }
        if seen != self._seen:
            self._seen = seen
            self._read()

    def _read(self) -> None:
        """Read all pairs again: a new context forgets the sessions begun under another's certificate."""
        good: dict[str, PairContext] = {}
        told = {str(each) for each in self._mistakes}
        self._mistakes = []
        for name, folder in self._folders.items():
            try:
                good[name] = _load(name, folder, self._exporter)
            except Mistake as mistake:
                if isinstance(mistake, _PassingMistake):
                    self._seen = {}  # so that the next look reads again
                if str(mistake) not in told:
                    logger.warning("%s", mistake)
                self._mistakes.append(mistake)
                if name in self._good:
                    good[name] = self._good[name]
        self._good = good
        if DEFAULT in good and len(good) > 1:
            good[DEFAULT].sni_callback = self._switch

    def _switch(self, handshake: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL asks which server the client means. Must not raise: OpenSSL has nobody to tell."""
        wanted = (name or "").lower()
        _first, _, rest = wanted.partition(".")
        found = self._good.get(wanted) or self._good.get(f"*.{rest}")
        if found is not None:
            handshake.context = found


def _folders(folder: Path) -> dict[str, Path]:
    """Server names with the folders of their pairs; raises OSError."""
    found = {DEFAULT: folder}
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not each.name.startswith("."):
            found[each.name.lower()] = each
    return found


def _look_at(path: Path) -> _Look:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _load(name: str, folder: Path, exporter: Exporter | None) -> PairContext:
    """The context of the pair in `folder`; raises Mistake."""
    if name != DEFAULT and not _SERVER_NAME.fullmatch(name):
        raise Mistake(folder, 0, "expected a server's name, such as mail.example.org or *.example.org")
    certificate, private_key = folder / CERTIFICATE, folder / PRIVATE_KEY
    octets = _octets(certificate)
    _octets(private_key)
    context = _new_context()
    try:
        # A password is given, if an empty one, because OpenSSL would ask the terminal for it.
        context.load_cert_chain(certificate, private_key, password=lambda: b"")
    except ssl.SSLError as error:
        raise _broken(certificate, octets, private_key) from error
    except OSError as error:
        raise _unreadable(certificate, error) from error
    if exporter is not None:
        context.exporter = exporter
        exporter.attach(context)
    with contextlib.suppress(ValueError):  # what OpenSSL takes and cryptography does not is of use all the same
        context.end_point = certificates.end_point_binding(octets)
    if _octets(certificate) != octets:
        raise _PassingMistake(certificate, 0, "expected to stay the same while it is read")
    return context


def _broken(certificate: Path, octets: bytes, private_key: Path) -> Mistake:
    """Which of the two it is: OpenSSL does not tell."""
    try:
        certificates.end_point_binding(octets)
    except ValueError:
        return Mistake(certificate, 0, "expected a certificate in PEM")
    return Mistake(private_key, 0, f"expected the private key of {certificate.name}, in PEM and without a password")


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> Mistake:
    match error:
        case FileNotFoundError():
            return Mistake(path, 0, "expected to be there")
        case PermissionError():
            return Mistake(path, 0, f"expected to be readable: {error.strerror}")
        case _:
            return _PassingMistake(path, 0, f"expected to be readable: {error.strerror}")


def _new_context() -> PairContext:
    """Python's defaults for servers (no compression, our order of ciphers) and what RFC 8996 and RFC 9325 add."""
    context = PairContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words, without the place in Python's source; of a certificate, what is wrong with it."""
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{reason}: {error.verify_message.rstrip('.')}"
    return reason


class Channel:
    """The server's side of one TLS connection, between octets from and for the wire.

    After each call, `outgoing` has what must be sent now: answers of the handshake, records, alerts.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._from_wire = ssl.MemoryBIO()
        self._to_wire = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_wire, self._to_wire, server_side=True)
        self._outgoing: list[bytes] = []
        self._has_answered = False
        self._is_closed = False
        self._exported = b""  # tls-exporter, from the middle of the handshake on; nothing where we have none
        self.is_established = False
        self.has_ended = False  # the peer sends no more, and said so; nobody has cut it short (RFC 8446 §6.1)

    def receive(self, octets: bytes) -> bytes:
        """What the octets from the wire say, nothing while the handshake lasts; raises TlsError."""
        decrypted: list[bytes] = []
        pieces = memoryview(octets)
        with self._secrets_gone():
            for at in range(0, len(octets), MAX_PIECE):
                if self.has_ended:  # what follows would stay in OpenSSL's buffer for ever
                    break
                self._from_wire.write(pieces[at : at + MAX_PIECE])
                with self._told_as("record" if self.is_established else "handshake"):
                    self._read(decrypted)
        return b"".join(decrypted)

    def send(self, octets: bytes) -> None:
        """Encrypt `octets`; only after the handshake and before `close`.

        Raises TlsError, also where the peer has begun a message of the handshake (a change of keys) and not ended it.
        """
        if not self.is_established or self._is_closed:
            raise RuntimeError("TLS is not established, or was closed by us")
        pieces = memoryview(octets)
        with self._secrets_gone():
            for at in range(0, len(octets), MAX_PIECE):
                with self._told_as("record"):
                    self._tls.write(pieces[at : at + MAX_PIECE])  # whole: a memory buffer takes everything

    def outgoing(self) -> bytes:
        """Take what must go over the wire now; empty where nothing must."""
        octets = b"".join(self._outgoing)
        self._outgoing.clear()
        return octets

    def close(self) -> None:
        """Queue our close_notify: no more comes from us. What the peer still sends can be received."""
        self._is_closed = True
        with self._secrets_gone(), contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # it would wait for the peer's, or there was no handshake
        self._take()

    @property
    def description(self) -> Encryption:
        """What was agreed on; only after the handshake."""
        version, cipher = self._tls.version(), self._tls.cipher()
        if not self.is_established or version is None or cipher is None:
            raise RuntimeError("TLS is not established")
        return Encryption(version, cipher[0])

    def bindings(self) -> Mapping[str, bytes]:
        """Channel bindings by name (RFC 5929), for SCRAM; only after the handshake.

        With TLS 1.3 none at all where tls-exporter is not to be had: clients may know no other there (RFC 9266 §3).
        """
        found: dict[str, bytes] = {}
        is_1_2 = self.description.version == "TLSv1.2"
        if self._exported:
            found[TLS_EXPORTER] = self._exported
        elif not is_1_2:
            return found
        context = self._tls.context  # of the certificate that was shown: the client may have named a server
        if isinstance(context, PairContext) and context.end_point is not None:
            found["tls-server-end-point"] = context.end_point
        unique = self._tls.get_channel_binding("tls-unique")
        if is_1_2 and unique is not None:
            found["tls-unique"] = unique
        return found

    def _read(self, decrypted: list[bytes]) -> None:
        """Go on as far as the octets from the wire reach."""
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.is_established:
                with _odd_server_names_not_printed():
                    self._tls.do_handshake()
                self.is_established = True
            try:
                while octets := self._tls.read(MAX_RECORD):
                    decrypted.append(octets)
            except ssl.SSLZeroReturnError:  # how reading ends after `close`
                pass
            self.has_ended = True

    @contextlib.contextmanager
    def _secrets_gone(self) -> Iterator[None]:
        """Have nothing left of what is written meanwhile: by the handshake, and where either side changes its keys."""
        try:
            yield
        finally:
            context = self._tls.context
            if isinstance(context, PairContext) and context.exporter is not None:
                self._exported = context.exporter.take(self._tls) or self._exported

    @contextlib.contextmanager
    def _told_as(self, what: str) -> Iterator[None]:
        """Have an error of OpenSSL told as TlsError, its alert queued."""
        try:
            yield
        except ssl.SSLError as error:
            self._take()
            if not self._has_answered:
                self._outgoing.append(NOT_TLS)
            raise TlsError(f"{what} failed: {reason_of(error)}") from error
        self._take()

    def _take(self) -> None:
        """Out of OpenSSL's buffer, which would grow with what waits and never shrink."""
        if octets := self._to_wire.read():
            self._has_answered = True
            self._outgoing.append(octets)


@contextlib.contextmanager
def _odd_server_names_not_printed() -> Iterator[None]:
    """A server name that is not ASCII fails the handshake, but Python prints a traceback of its own as well."""
    hook = sys.unraisablehook

    def unless_decoding(failure: "sys.UnraisableHookArgs") -> None:
        if not isinstance(failure.exc_value, UnicodeDecodeError):
            hook(failure)

    sys.unraisablehook = unless_decoding
    try:
        yield
    finally:
        sys.unraisablehook = hook
