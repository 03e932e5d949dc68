"""Signing mail for elsewhere with DKIM, as it leaves: the octets in the spool stay as they are.

Signed is what was submitted here, by somebody who logged in or as a file, or was made here, with the keys of the
domain in its From, where that is one of ours. What comes from elsewhere and is only sent on is not: its author is not
ours to vouch for. The moment of a signature is that of the arrival, so that each attempt sends the same octets.

A key that cannot be used makes mail wait: a domain whose policy asks for signatures would have its mail refused for
good, and that would be our fault. What has no keys, or a header that cannot be signed, goes as it is.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mailsrv.config import Config
from mailsrv.model.envelope import Arrival
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.model.international import domain_key
from mailsrv.model.mistake import Mistake
from mailsrv.protocol.dkim import BodyHash, NotSignableError, Signature, Signed
from mailsrv.protocol.header import Field, HeaderError, mailboxes, split_fields
from mailsrv.protocol.smtp_content import HeaderReader
from mailsrv.work.keyring import Key, Keyring

logger = logging.getLogger(__name__)

MAX_SIGNED_HEADER: Final = 1024 * 1024  # octets: all of it has to be in memory at once
DAY: Final = 86_400


class NotSignedError(Exception):
    """A key cannot be used: which, and why. The message is to wait."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A message as it is signed."""

    fields: tuple[Field, ...]
    body_hash: bytes


class Signer:
    """Makes the fields that go before a message. For any number of threads."""

    def __init__(self, config: Config) -> None:
        self._settings = config.dkim
        # Of a domain and one below it, the one below is looked at first.
        self._ours = tuple(sorted(map(domain_key, config.domains), key=len, reverse=True))
        hostname = domain_key(config.hostname)
        is_below = any(hostname.endswith(f".{each}") for each in self._ours)
        self._known = frozenset([*self._ours, *([hostname] if is_below else [])])
        self._keyring = Keyring(config.dkim_keys)

    def problems(self) -> list[str]:
        """Keys that cannot be used."""
        return list(map(str, self._keyring.mistakes().values()))

    def front(self, entry_id: EntryId, arrival: Arrival | None, pieces: Iterator[bytes]) -> bytes:
        """What goes before the message of an entry, nothing where it is not signed; raises NotSignedError, OSError."""
        try:
            header, rest = _header_of(pieces)
            domain = self._domain_of(header, arrival)
            keys = self._keys_of(domain) if domain else []
            if not keys:
                return b""
            body = BodyHash()
            for piece in rest:
                body.feed(piece)
            moment = int((arrival.moment if arrival else arrival_of(entry_id)).timestamp())
            return self._fields(keys, _Read(split_fields(header), body.digest()), moment)
        except (HeaderError, NotSignableError) as error:  # not for us to repair
            logger.info("%s goes unsigned: %s", entry_id, error)
            return b""

    def _keys_of(self, domain: str) -> list[Key]:
        """Raises NotSignedError."""
        try:
            return self._keyring.signing(domain)
        except Mistake as mistake:
            raise NotSignedError(str(mistake)) from mistake
        except OSError as error:
            raise NotSignedError(f"{error.filename}: {error.strerror}") from error

    def _domain_of(self, header: bytes, arrival: Arrival | None) -> str:
        """The domain that signs, or nothing; raises HeaderError."""
        authors = mailboxes(split_fields(header), frozenset({"from"}))
        domains = {domain_key(each.domain) for each in authors}
        is_ours = arrival is None or arrival.is_ours
        if not is_ours:
            # Who is not known to be ours may claim to be: that is not to be vouched for on any setting.
            return "" if domains & self._known else domain_key(self._settings.sign_forwarded)
        if len(domains) != 1 or not domains <= self._known:
            return ""
        (domain,) = domains
        # Reports are from the server's own name, which is vouched for by the domain that it belongs to.
        return domain if domain in self._ours else next(each for each in self._ours if domain.endswith(f".{each}"))

    def _fields(self, keys: list[Key], read: _Read, moment: int) -> bytes:
        expires = moment + self._settings.expire_days * DAY if self._settings.expire_days else 0
        front = b""
        for key in keys:
            about = Signature(key.file.domain, key.file.selector, key.key.algorithm.signs, moment, expires)
            signed = Signed(read.fields, read.body_hash, about)
            front += signed.field(key.key.sign(signed.octets))
        return front


def _header_of(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The header, and the body in pieces; raises NotSignableError where there is too much of a header.

    A body that begins without an empty line begins where it does for servers that put one there.
    """
    reader = HeaderReader()
    header = b""
    rest = b""
    for piece in pieces:
        head, rest = reader.feed(piece)
        header += head
        if reader.header is not None:
            break
        if len(header) > MAX_SIGNED_HEADER:
            raise NotSignableError(f"its header is longer than {MAX_SIGNED_HEADER} octets")
    header += reader.finish()
    return header, _body(reader, rest, pieces)


def _body(reader: HeaderReader, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    is_separated = reader.header is not None and reader.header.is_separated
    yield first.removeprefix(b"\r\n") if is_separated else first
    yield from pieces
