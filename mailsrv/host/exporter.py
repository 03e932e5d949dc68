"""The channel binding tls-exporter (RFC 9266) of our TLS 1.3 connections, which Python's ssl has no call for.

Clients with GNU SASL choose SCRAM-SHA-256-PLUS with it where -PLUS is offered, and give up without it. pyOpenSSL has
the call, and takes 23.6 KiB of memory for an idle connection; ssl takes 16.1, and the budget is 20. But ssl writes the
secrets of connections into a file for debugging, EXPORTER_SECRET among them, and the binding follows from that. The
file is a memfd of ours, read and emptied after each call for a connection: 0.1 ms of CPU for a handshake.

Why that is safe: the memfd has no name in any folder, no program that we start inherits it, and who may open it through
/proc/PID/fd may read our memory as well. What was written is gone from it before the call returns, also when it fails;
it is never mapped, so no core dump has it. We keep the binding, which is no secret. libc's buffer keeps the last line
of each context, and freed memory may keep another for a while: OpenSSL itself keeps as much of every connection.

A connection is used within one call and all belongs to one thread, so what was written meanwhile is its own. Nothing is
looked up by the client's random, which a client may use twice. A process that forks must begin anew.
"""

import binascii
import hashlib
import hmac
import logging
import os
import re
import ssl
import weakref
from typing import Final

logger = logging.getLogger(__name__)

TLS_EXPORTER: Final = "tls-exporter"
_OCTETS: Final = 32  # RFC 9266 §2
_LABEL: Final = b"EXPORTER-Channel-Binding"  # with an empty context

_MAX_WRITTEN: Final = 4096  # octets that are looked at; a handshake writes some 900, changes of keys come after it
_CLIENT_RANDOM: Final = re.compile(rb"^[A-Z0-9_]+ ([0-9a-f]+) ", re.MULTILINE)
_SECRET: Final = re.compile(rb"^EXPORTER_SECRET [0-9a-f]{64} ([0-9a-f]{64}|[0-9a-f]{96})\n", re.MULTILINE)
_HASHES: Final = ("sha256", "sha384")  # a suite of TLS 1.3 ends with the name of its hash (RFC 8446 §B.4)


class Exporter:
    """What the contexts given to `attach` write: after each call for a connection of theirs, `take` it.

    Raises OSError where the system has no such file, or no /proc.
    """

    def __init__(self) -> None:
        try:
            self._file = os.memfd_create("tls", os.MFD_CLOEXEC)
        except AttributeError as error:  # a Python made for older systems
            raise OSError("no memfd_create") from error
        weakref.finalize(self, os.close, self._file)
        self._path = f"/proc/self/fd/{self._file}"
        self._written = bytearray(_MAX_WRITTEN)
        os.close(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))  # as `attach` will

    def attach(self, context: ssl.SSLContext) -> None:
        """Have `context` write here, through a descriptor of its own; where that fails, it has no such binding."""
        try:
            context.keylog_filename = self._path
        except OSError as error:
            logger.warning("with this certificate and TLS 1.3 there is no SCRAM-SHA-256-PLUS: %s", error)
        os.ftruncate(self._file, 0)  # Python begins with a comment

    def take(self, connection: ssl.SSLObject) -> bytes:
        """The binding of the connection that was just used, if the secret for it was written, else nothing.

        What was written is gone, whatever it was.
        """
        size = os.preadv(self._file, [self._written], 0)
        if not size:
            return b""
        os.ftruncate(self._file, 0)
        cipher = connection.cipher()
        try:
            return self._binding(size, cipher[0] if cipher else "")
        finally:
            self._written[:size] = bytes(size)

    def _binding(self, size: int, suite: str) -> bytes:
        randoms = set(_CLIENT_RANDOM.findall(self._written, 0, size))
        if len(randoms) > 1:
            logger.error("secrets of %d TLS connections were written at once: none is used", len(randoms))
            return b""
        found = _SECRET.search(self._written, 0, size)
        hash_name = suite.rpartition("_")[2].lower()
        if found is None or hash_name not in _HASHES:
            return b""
        return channel_binding(binascii.unhexlify(found[1]), hash_name)


def open_exporter() -> Exporter | None:
    """One for the contexts of one thread; None where the system lacks what it takes, which is logged."""
    try:
        return Exporter()
    except OSError as error:
        logger.warning("with TLS 1.3 there is no SCRAM-SHA-256-PLUS: tls-exporter is out of reach: %s", error)
        return None


def channel_binding(secret: bytes, hash_name: str) -> bytes:
    """What follows from a connection's exporter_master_secret (RFC 8446 §7.5)."""
    nothing = hashlib.new(hash_name, b"").digest()
    derived = _expand_label(secret, _LABEL, nothing, len(nothing), hash_name)
    return _expand_label(derived, b"exporter", nothing, _OCTETS, hash_name)


def _expand_label(secret: bytes, label: bytes, context: bytes, length: int, hash_name: str) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1) of up to the length of the hash: one block of HKDF-Expand (RFC 5869)."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + bytes((len(context),)) + context
    return hmac.digest(secret, info + b"\x01", hash_name)[:length]
