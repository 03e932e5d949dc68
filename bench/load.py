"""A lean load generator: sessions of SMTP and POP3 in one loop, each of which checks every reply and every octet.

It shares the machine with the server that it measures, so it must cost little: plain sockets and epoll, and a client is
a generator that yields what it waits for.
"""

import select
import socket
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

HOST: Final = "127.0.0.1"
PIECE: Final = 1 << 18  # octets read at once
_PATIENCE: Final = 60.0  # seconds that no client hears anything

Client: TypeAlias = Generator["Talk", None, None]


class Talk:
    """One connection, and what was heard and not yet taken; `wants` is what its client waits for."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):  # the server speaks first, so its greeting tells that we are connected
            self.socket.connect((HOST, port))
        self.wants = select.EPOLLIN
        self.watched = 0  # what the loop has asked epoll for
        self._held = b""
        self._at = 0

    def send(self, octets: bytes) -> Client:
        """All of it."""
        sent = self._send(octets)
        if sent == len(octets):
            return
        rest = memoryview(octets)[sent:]
        self.wants = select.EPOLLOUT
        while rest:
            yield self
            rest = rest[self._send(rest) :]
        self.wants = select.EPOLLIN

    def expect(self, *beginnings: bytes) -> Client:
        """A reply that begins so, for each; the continuation lines of SMTP are passed over."""
        for beginning in beginnings:
            while True:
                while (end := self._held.find(b"\r\n", self._at)) < 0:
                    yield from self._more()
                start, self._at = self._at, end + 2
                if self._held.startswith(beginning, start):
                    if self._held[start + 3 : start + 4] != b"-":
                        break
                elif not self._held.startswith(beginning[:3] + b"-", start):
                    raise AssertionError(f"{self._held[start:end]!r} instead of {beginning!r}")

    def reply(self) -> Generator["Talk", None, bytes]:
        """All lines of an SMTP reply, whatever it is."""
        lines = b""
        while True:
            while (end := self._held.find(b"\r\n", self._at)) < 0:
                yield from self._more()
            line, self._at = self._held[self._at : end + 2], end + 2
            lines += line
            if line[3:4] != b"-":
                return lines

    def octets(self, expected: bytes) -> Client:
        """Exactly these octets."""
        while len(self._held) - self._at < len(expected):
            yield from self._more()
        if not self._held.startswith(expected, self._at):
            raise AssertionError(f"{self._held[self._at : self._at + 200]!r} instead of {expected[:200]!r}")
        self._at += len(expected)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _send(self, octets: bytes | memoryview) -> int:
        try:
            return self.socket.send(octets)
        except BlockingIOError:
            return 0

    def _more(self) -> Client:
        yield self
        octets = self.socket.recv(PIECE)
        if not octets:
            raise EOFError(self._held[self._at :])
        self._held, self._at = self._held[self._at :] + octets, 0


class Letters:
    """Messages of one size, each with a number of its own by which it is known again in the mailbox."""

    # With all that a server might add, so that it stays as it is.
    HEAD: Final = (
        b"From: bench@example.org\r\nTo: admin@localhost\r\nDate: Wed, 25 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <%08d@bench.example>\r\nSubject: bench %08d\r\n\r\n"
    )
    LINE: Final = b"0123456789" * 7 + b"abcdef\r\n"

    def __init__(self, octets: int) -> None:
        self._body = self.LINE * ((octets - len(self.HEAD % (0, 0))) // len(self.LINE))
        self._ended = self._body + b".\r\n"

    def __call__(self, number: int) -> bytes:
        """A message, in lines that end in CRLF."""
        return self.HEAD % (number, number) + self._body

    def ended(self, number: int) -> bytes:
        """As DATA and RETR send it: with the line that ends it."""
        return self.HEAD % (number, number) + self._ended


class Sender:
    """A client of SMTP that sends messages to one recipient."""

    def __init__(self, port: int, recipient: str, letters: Letters) -> None:
        self._port = port
        self._letters = letters
        self._commands = (b"MAIL FROM:<bench@example.org>\r\n", f"RCPT TO:<{recipient}>\r\n".encode(), b"DATA\r\n")
        self._together = b"".join(self._commands)

    def send_all(self, numbers: Iterator[int], *, anew: bool) -> Client:
        """Send until there are no more numbers; `anew`: by a new connection for each."""
        talk = None
        pipelines = False
        for number in numbers:
            if talk is None:
                talk = Talk(self._port)
                yield from talk.expect(b"220")
                yield from talk.send(b"EHLO bench.example\r\n")
                pipelines = b"PIPELINING" in (yield from talk.reply())
            yield from self._submit(talk, number, pipelines=pipelines)
            if anew:
                yield from _hang_up(talk)
                talk = None
        if talk is not None:
            yield from _hang_up(talk)

    def _submit(self, talk: Talk, number: int, *, pipelines: bool) -> Client:
        """One transaction, pipelined as far as the server and SMTP allow."""
        if pipelines:
            yield from talk.send(self._together)
            yield from talk.expect(b"250", b"250", b"354")
        else:
            for command, code in zip(self._commands, (b"250", b"250", b"354"), strict=True):
                yield from talk.send(command)
                yield from talk.expect(code)
        yield from talk.send(self._letters.ended(number))
        yield from talk.expect(b"250")


def _hang_up(talk: Talk) -> Client:
    yield from talk.send(b"QUIT\r\n")
    yield from talk.expect(b"")
    talk.close()


def _log_in(port: int, user: str, password: str) -> Generator[Talk, None, Talk]:
    talk = Talk(port)
    yield from talk.expect(b"+OK")
    for command in (f"USER {user}\r\n", f"PASS {password}\r\n"):
        yield from talk.send(command.encode())
        yield from talk.expect(b"+OK")
    return talk


def poll(port: int, user: str, password: str, expected: bytes, times: Iterator[int]) -> Client:
    """A client that logs in, asks for STAT and goes, again and again."""
    for _ in times:
        talk = yield from _log_in(port, user, password)
        yield from talk.send(b"STAT\r\n")
        yield from talk.expect(expected)
        yield from _hang_up(talk)


def retrieve(port: int, user: str, password: str, contents: Sequence[bytes], *, pipelined: bool) -> Client:
    """A client that fetches every message of its mailbox and compares it; `contents` are as RETR sends them."""
    talk = yield from _log_in(port, user, password)
    if pipelined:
        yield from talk.send(b"".join(b"RETR %d\r\n" % number for number in range(1, len(contents) + 1)))
    for number, content in enumerate(contents, 1):
        if not pipelined:
            yield from talk.send(b"RETR %d\r\n" % number)
        yield from talk.expect(b"+OK")
        yield from talk.octets(content)
    yield from _hang_up(talk)


def together(clients: Iterable[Client]) -> None:
    """Run clients at the same time, to their end; where one fails, the connections of all are closed."""
    talks: dict[int, Talk] = {}
    waiting: dict[int, Client] = {}
    with select.epoll() as epoll:
        try:
            for client in clients:
                _go_on(client, epoll, waiting, talks)
            while waiting:
                ready = epoll.poll(_PATIENCE)
                if not ready:
                    raise AssertionError(f"no answer for {_PATIENCE:.0f} seconds, {len(waiting)} clients wait")
                for fd, _events in ready:
                    _go_on(waiting.pop(fd), epoll, waiting, talks)
        finally:
            for talk in talks.values():
                talk.close()


def _go_on(client: Client, epoll: select.epoll, waiting: dict[int, Client], talks: dict[int, Talk]) -> None:
    """Until it waits again; a closed socket leaves epoll by itself."""
    talk = next(client, None)
    if talk is None:
        return
    fd = talk.socket.fileno()
    if talk.watched != talk.wants:
        (epoll.modify if talk.watched else epoll.register)(fd, talk.wants)
        talk.watched = talk.wants
        talks[fd] = talk
    waiting[fd] = client
