"""Dialogues with our own ports, as a client has them: greeting to QUIT, and a message there and back."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from mailsrv.config import Config
from mailsrv.host.line_client import LineClient

# Of each program, the listeners that greet everybody, in the clear and over TLS.
GREETING: Final = {"smtp": (("smtp", "submission"), "submissions"), "pop3": (("pop3",), "pop3s")}
NO_PROXY: Final = b"PROXY UNKNOWN\r\n"  # where we are among `proxies`, a header is waited for


class RefusedError(Exception):
    """The server has said no, or something that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a program is reached; without a port, `address` is the path of a unix socket."""

    address: str
    port: int = 0
    is_tls: bool = False
    preface: bytes = b""

    def open(self, seconds: float) -> LineClient:
        """A connection; raises OSError."""
        return LineClient(self.address, self.port, seconds, is_tls=self.is_tls, preface=self.preface)


def door(config: Config, program: str, *, for_password: bool = False) -> Door | None:
    """Where to reach a program, or None where nothing of it listens (that may be used)."""
    address = ipaddress.ip_address(config.listen.address)
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    is_proxied = any(address in ipaddress.ip_network(each) for each in config.listen.proxies)
    preface = NO_PROXY if is_proxied else b""
    clear, tls = GREETING[program]
    ports = config.ports()
    if not for_password or (address.is_loopback and not is_proxied):
        for name in clear:
            if name in ports:
                return Door(str(address), ports[name], is_tls=False, preface=preface)
    return Door(str(address), ports[tls], is_tls=True, preface=preface) if tls in ports else None


def own_door(config: Config, process: str) -> Door:
    """Where to reach one of several processes of a program."""
    return Door(str(config.door_path(process)))


def greet(where: Door, program: str, seconds: float) -> None:
    """Greeting to QUIT; raises OSError. That there are too many connections is an answer as well."""
    with where.open(seconds) as client:
        if program == "smtp":
            _reply(client)
            client.send(b"QUIT\r\n")
            _reply(client)
        else:
            client.line()
            client.send(b"QUIT\r\n")
            client.line()


def send(where: Door, hello: str, mailbox: str, content: str, seconds: float) -> str:
    """A message from a mailbox to itself; gives the last reply. Raises OSError, RefusedError."""
    with where.open(seconds) as client:
        said = _expect(client, "220")
        commands = [f"EHLO {hello}", f"MAIL FROM:<{mailbox}>", f"RCPT TO:<{mailbox}>"]
        for command in commands:
            client.send(f"{command}\r\n".encode())
            said = _expect(client, "250")
        client.send(b"DATA\r\n")
        _expect(client, "354")
        client.send(f"{content}\r\n.\r\n".encode())
        said = _expect(client, "250")
        client.send(b"QUIT\r\n")
        _reply(client)
        return said


def fetch(where: Door, mailbox: str, password: str, wanted: str, seconds: float) -> bool:
    """Whether the message that has `wanted` in its unique id is there; then it is removed, with all others.

    Raises OSError, RefusedError.
    """
    with where.open(seconds) as client:
        _status(client)
        for command in (f"USER {mailbox}", f"PASS {password}", "UIDL"):
            client.send(f"{command}\r\n".encode())
            _status(client)
        listed = [line.split() for line in iter(client.line, ".")]
        is_there = any(wanted in unique_id for _, unique_id in listed)
        if is_there:
            for number, _ in listed:
                client.send(f"RETR {number}\r\n".encode())
                _status(client)
                for _ in iter(client.line, "."):
                    pass
                client.send(f"DELE {number}\r\n".encode())
                _status(client)
        client.send(b"QUIT\r\n")
        _status(client)
        return is_there


def _reply(client: LineClient) -> str:
    """A reply of SMTP, its last line."""
    while (line := client.line())[3:4] == "-":
        pass
    return line


def _expect(client: LineClient, code: str) -> str:
    line = _reply(client)
    if not line.startswith(code):
        raise RefusedError(line)
    return line


def _status(client: LineClient) -> str:
    line = client.line()
    if not line.startswith("+OK"):
        raise RefusedError(line)
    return line
