"""Mail that was signed here as it left, and dkimpy, another implementation, to verify it."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dkim

from mailsrv.config import Config
from mailsrv.host.signing import Algorithm
from mailsrv.model.envelope import Arrival
from mailsrv.model.identity import EntryId
from mailsrv.store import entry
from mailsrv.work import keyring
from mailsrv.work.keyring import Key
from tests.work.instance import DOMAIN, accept, deliver, drop, envelope_of, unfinished
from tests.work.relaying import Server, relaying, send_on

BOTH: Final = tuple(Algorithm)
CORPUS: Final = Path(__file__).parents[2].parent / "shared" / "corpus"
FILES: Final = sorted(path for path in CORPUS.glob("*/**/*") if path.is_file())
AUTHOR: Final = b"From: Alice <alice@example.org>\r\nSubject: hello\r\nTo: dave@example.net\r\n"
MESSAGE: Final = AUTHOR + b"\r\nHello,  Dave. \r\n\r\n"
BLOCK: Final = b"X-Sender: <alice@example.org>\r\nX-Receiver: <dave@example.net>\r\nX-EndOfInjectedXHeaders: 0\r\n"
_NAME: Final = re.compile(rb"^X-Name: ([^\r\n]*)", re.M)
_FROM: Final = re.compile(rb"^From(?=[ \t]*:)", re.M | re.I)


def make_keys(config: Config, name: str = "s", algorithms: Sequence[Algorithm] = BOTH) -> list[Key]:
    """Keys for DOMAIN, which sign."""
    return keyring.make(config, DOMAIN, name, algorithms)


def submit(config: Config, content: bytes = MESSAGE, *, identity: str = "alice@example.org") -> EntryId:
    """An entry that somebody who had logged in handed in, or, without identity, another server; put into `remote/`."""
    arrival = Arrival(datetime.now(UTC), "ESMTPSA" if identity else "ESMTP", "client", "192.0.2.7", identity=identity)
    envelope = envelope_of("alice@example.org", ["dave@example.net"])
    made = accept(config, content=content, block=entry.render(envelope, arrival, EntryId("0" * 20)))
    deliver(config)
    return made


def left(config: Config, server: Server) -> list[bytes]:
    """Send on all that waits: what has come there."""
    send_on(relaying(config, server))
    return [content for _, _, content in server.taken]


def verified(message: bytes, keys: Sequence[Key]) -> list[str]:
    """The selectors of the signatures that dkimpy finds good; raises MessageFormatError."""
    records = {f"{each.owner}.".encode(): each.record.encode() for each in keys}
    found = []
    verifier = dkim.DKIM(message)
    number = sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)
    for index in range(number):
        with contextlib.suppress(dkim.ValidationError):
            if verifier.verify(index, dnsfunc=lambda name, **_: records.get(name)):
                found.append(verifier.selector.decode())
    return found


def signed_corpus(config: Config, server: Server) -> list[tuple[str, bytes]]:
    """Every message of the corpus as from Alice, as it comes to another host.

    Where a header ends without an empty line, one is put there, as Postfix does.
    """
    server.limits = replace(server.limits, max_message_octets=10_000_000, max_line_octets=10_000_000)
    names = []
    for path in FILES:
        octets = path.read_bytes().replace(b"\r\n", b"\n")
        if b"\r" not in octets:
            head, line, body = octets.partition(b"\n\n")
            names.append(f"{path.parent.name}/{path.name}")
            front = f"From: alice@example.org\nX-Name: {names[-1]}\n".encode()
            octets = front + _FROM.sub(b"X-From", head) + line + body
            drop(config, f"{len(names):04}.eml", BLOCK + octets)
    while unfinished(config):
        deliver(config)
    found = {_NAME.findall(each)[0].decode(): _separated(each) for each in left(config, server)}
    assert sorted(found) == sorted(names), set(names) ^ set(found)
    return list(found.items())


def _separated(message: bytes) -> bytes:
    lines = message.split(b"\r\n")
    for number, line in enumerate(lines):
        if not re.match(rb"[!-9;-~]+[ \t]*:|[ \t]", line):
            return b"\r\n".join([*lines[:number], *([b""] if line else []), *lines[number:]])
    return message
