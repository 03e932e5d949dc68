"""A client that says line by line what a test has it say, in the clear or over TLS."""

import re
import socket
import ssl
from pathlib import Path
from types import TracebackType

from tests.system.instance import PATIENCE


class Client:
    """A connection to 127.0.0.1; `said` is what the server said last."""

    def __init__(self, port: int, *, first: bytes = b"", certificate: Path | None = None, path: Path | None = None):
        """`first` goes before everything, also before TLS; with `certificate`, TLS is begun at once."""
        if path is not None:
            self.socket: socket.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(str(path))
        else:
            self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._held = b""
        if first:
            self.socket.sendall(first)
        if certificate is not None:
            self.begin_tls(certificate)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def begin_tls(self, certificate: Path, name: str = "localhost") -> None:
        """Begin with TLS; only `certificate` is trusted."""
        self.socket = ssl.create_default_context(cafile=str(certificate)).wrap_socket(self.socket, server_hostname=name)

    def send(self, octets: bytes) -> None:
        """Send octets, and wait for nothing."""
        self.socket.sendall(octets)

    def hear(self) -> str:
        """The next reply, all of its lines; empty where the server has closed."""
        lines: list[str] = []
        while not lines or not re.match(r"\d{3} ", lines[-1]):
            line = self.line()
            if not line:
                break
            lines.append(line)
        return "".join(lines)

    def line(self) -> str:
        """The next line, as POP3 answers; empty where the server has closed."""
        while b"\r\n" not in self._held:
            octets = self.socket.recv(65536)
            if not octets:
                return ""
            self._held += octets
        line, _, self._held = self._held.partition(b"\r\n")
        return line.decode() + "\r\n"

    def lines_to_dot(self) -> list[str]:
        """What follows in a multi-line response of POP3, in lines without their ends."""
        return [line.rstrip("\r\n") for line in iter(self.line, ".\r\n")]

    def say(self, line: str) -> str:
        """Send a line, and hear the reply."""
        self.send(line.encode() + b"\r\n")
        return self.hear()

    def begin(self, service: str = "EHLO") -> str:
        """Hear the greeting, and say hello."""
        greeting = self.hear()
        assert greeting.startswith("220 "), greeting
        return self.say(f"{service} client.example")

    def transact(self, sender: str, recipient: str, content: bytes) -> str:
        """One message by DATA; gives the last reply, which may be an early refusal."""
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            answer = self.say(line)
            if answer[:1] not in "23":
                return answer
        self.send(content + b".\r\n")
        return self.hear()

    def is_closed(self) -> bool:
        """Whether the server closes without another word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
