"""Where mail for elsewhere is sent: by which hosts, with which TLS and which login."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.host.scram import ClientSide, prepared
from mailsrv.protocol import sasl
from mailsrv.protocol.smtp_client import Encrypt

# In the order of preference; a password itself is told last.
_SCRAM: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login of ours at another server."""

    user: str
    password: str = field(repr=False)

    def exchange(self, offered: frozenset[str], *, is_private: bool) -> sasl.Exchange | None:
        """The best way to log in, or None; where somebody may listen in, there is none."""
        if not is_private:
            return None
        for mechanism in _SCRAM:
            if mechanism in offered:
                return ClientSide(mechanism, self.user, prepared(self.password))
        if "PLAIN" in offered:
            return sasl.PlainLogin(self.user, self.password)
        return sasl.LoginLogin(self.user, self.password) if "LOGIN" in offered else None


@dataclass(frozen=True, slots=True)
class Route:
    """A destination: hosts with their ports, each tried where the one before cannot be reached."""

    hosts: tuple[tuple[str, int], ...]
    tls: str
    credentials: Credentials | None = None

    @property
    def is_tls(self) -> bool:
        """Whether TLS begins with the first octet."""
        return self.tls == "tls"

    @property
    def is_verified(self) -> bool:
        """Whether the certificate has to be good."""
        return self.tls in ("tls", "starttls")

    @property
    def encrypt(self) -> Encrypt:
        """What is wanted of a server that is met in the clear."""
        return {"none": Encrypt.NEVER, "opportunistic": Encrypt.IF_OFFERED}.get(self.tls, Encrypt.ALWAYS)

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.hosts)


def read_password(path: Path) -> str:
    """The password in its file; raises OSError."""
    return path.read_text("utf-8").rstrip("\r\n")


def smarthost_of(config: Config) -> Route | None:
    """The route by the settings, or None where there is none; raises OSError where its password cannot be read."""
    settings = config.relay
    if not settings.smarthosts:
        return None
    hosts = tuple(
        (host.strip("[]"), int(port)) for host, _, port in (each.rpartition(":") for each in settings.smarthosts)
    )
    credentials = Credentials(settings.user, read_password(config.relay_password)) if settings.user else None
    return Route(hosts, settings.tls, credentials)


def is_this_machine(address: str) -> bool:
    """Whether nobody can listen in on the way there."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
