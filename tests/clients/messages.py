"""The messages that every client sends, each with one thing that a client or a server may get wrong."""

import base64
import email
import email.policy
import random
from dataclasses import dataclass
from functools import cached_property

from tests.system.instance import USER

NAMES = ("short", "large", "8bit", "utf8", "dots")
UTF8_ADDRESS = "пользователь@localhost"  # an alias of USER
_CHUNK = 1024  # clients read and write in multiples of this
_LARGE = 15_000_000  # in base64 about 20 MB


@dataclass(frozen=True)
class Message:
    """A message as it goes over the wire, before dots are doubled; `name` is its subject as well."""

    name: str
    content: bytes
    recipient: str = USER
    charset: str = "us-ascii"

    @property
    def lines(self) -> bytes:
        """The content with the line ends of a file."""
        return self.content.replace(b"\r\n", b"\n")

    @property
    def is_text(self) -> bool:
        """Whether a client that composes messages has it as the text, not as an attachment."""
        return b"application/octet-stream" not in self.content.partition(b"\r\n\r\n")[0]

    @cached_property
    def payload(self) -> bytes:
        """The body without its transfer encoding."""
        return payload_of(self.content)


def payload_of(content: bytes) -> bytes:
    """The octets of the last part of a message, without its transfer encoding."""
    *_, last = email.message_from_bytes(content, policy=email.policy.compat32).walk()
    payload = last.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def make_messages() -> dict[str, Message]:
    """All of them, by name."""
    latin = bytes(range(0xA0, 0x100))
    umlauts = b"".join(latin[at:] + latin[:at] + b"\r\n" for at in range(len(latin)))
    noise = base64.encodebytes(random.Random(1).randbytes(_LARGE)).replace(b"\n", b"\r\n")
    made = [
        Message("short", header("short") + b"A few words.\r\n"),
        Message("large", header("large", kind="application/octet-stream", encoding="base64") + noise),
        Message("8bit", header("8bit", "iso-8859-1", "8bit") + umlauts, charset="iso-8859-1"),
        Message("utf8", header("utf8", "utf-8", "8bit", to=UTF8_ADDRESS) + _WORDS, UTF8_ADDRESS, "utf-8"),
        Message("dots", _dots(header("dots"))),
    ]
    return {message.name: message for message in made}


_WORDS = "Доброе утро, 早上好, γειά 🙂\r\n".encode() * 3


def header(
    name: str, charset: str = "us-ascii", encoding: str = "7bit", kind: str = "text/plain", to: str = USER
) -> bytes:
    """A header with all that somebody on the way might add were it missing."""
    lines = [
        f"From: {USER}",
        f"To: {to}",
        f"Subject: {name}",
        "Date: Mon, 23 Nov 2026 12:00:00 +0000",
        f"Message-ID: <{name}@clients.example>",
        "MIME-Version: 1.0",
        f"Content-Type: {kind}" + (f"; charset={charset}" if kind == "text/plain" else ""),
        f"Content-Transfer-Encoding: {encoding}",
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _dots(head: bytes) -> bytes:
    """Lines that begin with dots: next to each other, and a few octets before and behind where chunks end."""
    content = bytearray(head + b"".join(line + b"\r\n" for line in (b".", b"..", b"...", b".x", b"..x", b"", b". ")))
    for number in range(3, 200):
        start = number * _CHUNK + number % 9 - 4  # nine is coprime to the sizes of chunks: each meets each distance
        while (room := start - len(content)) > 0:
            length = room - 2 if room <= 70 else min(room - 10, 60)
            content += b"x" * length + b"\r\n"
        content += (b".\r\n", b"..\r\n", b".\r\n.\r\n", b".dot\r\n")[number % 4]
    return bytes(content) + b"\r\n.\r\n"
