"""A TLS 1.3 client that forges records: encrypted as agreed, so that the server has to look at what is in them."""

import ssl
import struct
import tempfile

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.system.dialogue import Client

HANDSHAKE = 22  # types of content, RFC 8446 §5.1
APPLICATION_DATA = 23


class Forger:
    """Does the handshake over the socket of `client`; from then on the client's own records are forged."""

    def __init__(self, client: Client) -> None:
        self._socket = client.socket
        self._from_wire, to_wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        with tempfile.NamedTemporaryFile("r") as log:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.keylog_filename = log.name
            self._tls = context.wrap_bio(self._from_wire, to_wire)
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._socket.sendall(to_wire.read())
                    self._from_wire.write(self._socket.recv(65536))
            self._socket.sendall(to_wire.read())
            secrets = dict(line.split(" ", 1) for line in log.read().splitlines() if line.startswith("CLIENT"))
        secret = bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"].split()[1])
        self._cipher = AESGCM(_expanded(secret, b"key", 32))  # of TLS_AES_256_GCM_SHA384, the first that both have
        self._iv = int.from_bytes(_expanded(secret, b"iv", 12), "big")
        self._records = 0

    def record(self, kind: int, octets: bytes) -> bytes:
        """The next record (RFC 8446 §5.2)."""
        nonce = (self._iv ^ self._records).to_bytes(12, "big")
        self._records += 1
        head = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(octets) + 17)
        return head + self._cipher.encrypt(nonce, octets + bytes([kind]), head)

    def send(self, kind: int, octets: bytes) -> None:
        """Send the next record."""
        self._socket.sendall(self.record(kind, octets))

    def hear(self) -> bytes:
        """What the server says next; empty where it has closed."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                octets = self._socket.recv(65536)
                if not octets:
                    return b""
                self._from_wire.write(octets)


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1) with no context."""
    info = struct.pack("!HB", length, len(label) + 6) + b"tls13 " + label + b"\0"
    return HKDFExpand(hashes.SHA384(), length, info).derive(secret)
