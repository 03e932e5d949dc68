"""A lean load generator: sessions of SMTP and POP3 in one loop, each of which checks every reply and every octet."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import uvloop

HOST: Final = "127.0.0.1"
T = TypeVar("T")


class Talk:
    """One connection, and what was heard and not yet taken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._held = b""

    @classmethod
    async def begin(cls, port: int) -> "Talk":
        """Connect."""
        return cls(*await asyncio.open_connection(HOST, port, limit=1 << 20))

    def send(self, octets: bytes) -> None:
        """Send, and do not wait."""
        self._writer.write(octets)

    async def drain(self) -> None:
        """Wait until a large piece is on its way."""
        await self._writer.drain()

    async def line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._held.find(b"\r\n")) < 0:
            await self._more()
        line, self._held = self._held[:end], self._held[end + 2 :]
        return line

    async def expect(self, *beginnings: bytes) -> None:
        """A reply that begins so, for each; the continuation lines of SMTP are passed over."""
        for beginning in beginnings:
            line = await self.line()
            while line[3:4] == b"-" and line[:3].isdigit():
                line = await self.line()
            if not line.startswith(beginning):
                raise AssertionError(f"{line!r} instead of {beginning!r}")

    async def octets(self, expected: bytes) -> None:
        """Exactly these octets."""
        while len(self._held) < len(expected):
            await self._more()
        found, self._held = self._held[: len(expected)], self._held[len(expected) :]
        if found != expected:
            raise AssertionError(f"{found[:200]!r} instead of {expected[:200]!r}")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _more(self) -> None:
        octets = await self._reader.read(1 << 18)
        if not octets:
            raise EOFError(self._held)
        self._held += octets


@dataclass(frozen=True)
class Letters:
    """Messages of one size, each with a number of its own by which it is known again in the mailbox."""

    octets: int

    def __call__(self, number: int) -> bytes:
        """A message, in lines that end in CRLF."""
        # With all that a server might add, so that it stays as it is.
        head = (
            b"From: bench@example.org\r\nTo: admin@localhost\r\nDate: Wed, 25 Nov 2026 10:00:00 +0000\r\n"
            b"Message-ID: <%08d@bench.example>\r\nSubject: bench %08d\r\n\r\n" % (number, number)
        )
        line = b"0123456789" * 7 + b"abcdef\r\n"
        return head + line * ((self.octets - len(head)) // len(line))


async def submit(talk: Talk, recipient: str, letter: bytes) -> None:
    """One transaction, pipelined as far as SMTP allows."""
    talk.send(f"MAIL FROM:<bench@example.org>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
    await talk.expect(b"250", b"250", b"354")
    talk.send(letter + b".\r\n")
    await talk.drain()
    await talk.expect(b"250")


async def greet(port: int) -> Talk:
    """A session that has said EHLO."""
    talk = await Talk.begin(port)
    await talk.expect(b"220")
    talk.send(b"EHLO bench.example\r\n")
    await talk.expect(b"250")
    return talk


async def hang_up(talk: Talk) -> None:
    """QUIT."""
    talk.send(b"QUIT\r\n")
    await talk.line()
    talk.close()


async def send_all(port: int, recipient: str, letters: Letters, numbers: Iterator[int], *, anew: bool) -> None:
    """One client that sends messages until there are no more numbers; `anew`: by a new connection for each."""
    talk = None
    for number in numbers:
        talk = talk or await greet(port)
        await submit(talk, recipient, letters(number))
        if anew:
            await hang_up(talk)
            talk = None
    if talk is not None:
        await hang_up(talk)


async def poll(port: int, user: str, password: str, expected: bytes, times: Iterator[int]) -> None:
    """One client that logs in, asks for STAT and goes, again and again."""
    for _ in times:
        talk = await Talk.begin(port)
        await talk.expect(b"+OK")
        for command in (f"USER {user}", f"PASS {password}"):
            talk.send(f"{command}\r\n".encode())
            await talk.expect(b"+OK")
        talk.send(b"STAT\r\n")
        await talk.expect(expected)
        await hang_up(talk)


async def retrieve(port: int, user: str, password: str, contents: Iterable[bytes], *, pipelined: bool) -> None:
    """One client that fetches every message of its mailbox and compares it; `contents` are as RETR sends them."""
    talk = await Talk.begin(port)
    await talk.expect(b"+OK")
    for command in (f"USER {user}", f"PASS {password}"):
        talk.send(f"{command}\r\n".encode())
        await talk.expect(b"+OK")
    contents = list(contents)
    if pipelined:
        talk.send(b"".join(b"RETR %d\r\n" % number for number in range(1, len(contents) + 1)))
    for number, content in enumerate(contents, 1):
        if not pipelined:
            talk.send(b"RETR %d\r\n" % number)
        await talk.expect(b"+OK")
        await talk.octets(content)
    await hang_up(talk)


def together(clients: Iterable[Callable[[], Any]]) -> None:
    """Run clients at the same time, to their end."""

    async def all_of_them() -> None:
        await asyncio.gather(*(client() for client in clients))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_them())
