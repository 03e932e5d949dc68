"""A lean POP3 client for the benches: it checks every answer, and buffers what it reads."""

import socket
from types import TracebackType


class Pop3Client:
    """One session on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._held = b""
        self.expect(b"+OK")

    def __enter__(self) -> "Pop3Client":
        return self

    def __exit__(self, *_exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.socket.close()

    def log_in(self, user: str, password: str) -> None:
        """USER and PASS."""
        self.say(f"USER {user}")
        self.say(f"PASS {password}")

    def say(self, command: str) -> bytes:
        """Send a command; gives its status line."""
        self.socket.sendall(command.encode() + b"\r\n")
        return self.expect(b"+OK")

    def expect(self, beginning: bytes) -> bytes:
        """The next line, which begins so."""
        while (end := self._held.find(b"\r\n")) < 0:
            self._more()
        line, self._held = self._held[:end], self._held[end + 2 :]
        assert line.startswith(beginning), line
        return line

    def rest(self) -> bytes:
        """What is left of a multi-line response, its end cut off."""
        pieces, last = [self._held], self._held
        while not (last.endswith(b"\r\n.\r\n") or b"".join(pieces) == b".\r\n"):
            self._held = b""
            self._more()
            pieces.append(self._held)
            last = last[-4:] + self._held
        self._held = b""
        return b"".join(pieces)[:-3]

    def _more(self) -> None:
        octets = self.socket.recv(1 << 18)
        if not octets:
            raise EOFError(self._held)
        self._held += octets
