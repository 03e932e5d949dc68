"""Where mail for elsewhere is sent: by which hosts, with which TLS and which login."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.host.scram import ClientSide, prepared
from mailsrv.model.international import domain_key
from mailsrv.protocol import sasl
from mailsrv.protocol.smtp_client import Encrypt
from mailsrv.settings_relay import parse_route

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
    """A destination: hosts with their ports, each tried where the one before cannot be reached.

    Where `domain` is set, the hosts are those that its MX records name, once somebody goes there.
    """

    hosts: tuple[tuple[str, int], ...]
    tls: str
    credentials: Credentials | None = None
    domain: str = ""

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
        if self.domain:
            return f"the hosts of {self.domain}"
        return ", ".join(f"{host}:{port}" for host, port in self.hosts)


@dataclass(frozen=True, slots=True)
class Ways:
    """The routes of an instance, by domain or by what domains end in (`.example.net`), and that of all others.

    Where a route has no hosts, MX tells them, for each domain.
    """

    by_pattern: dict[str, Route]
    otherwise: Route | None

    @property
    def lead_somewhere(self) -> bool:
        """Whether anything is sent on at all."""
        return bool(self.by_pattern) or self.otherwise is not None

    def to(self, domain: str) -> Route | None:
        """The route to a domain, as it stands in an address; None where its mail waits."""
        key = domain_key(domain)
        labels = key.split(".")
        patterns = [key, *(f".{'.'.join(labels[at:])}" for at in range(1, len(labels)))]
        found = next((self.by_pattern[each] for each in patterns if each in self.by_pattern), self.otherwise)
        return found if found is None or found.hosts else replace(found, domain=key)


NO_WAYS: Final = Ways({}, None)


def ways_of(config: Config, *, logs_in: bool = True) -> Ways:
    """The routes by the settings; raises OSError where a password cannot be read, unless nobody is to log in."""
    settings = config.relay
    by_pattern: dict[str, Route] = {}
    for pattern, text in settings.routes:
        written = parse_route(text)
        key = pattern_key(pattern)
        credentials = _credentials(written.user if logs_in else "", config.route_password(key))
        tls = written.tls or _tls_for(settings.tls, written.hosts)
        by_pattern[key] = Route(_hosts(written.hosts), tls, credentials)
    if settings.smarthosts:
        credentials = _credentials(settings.user if logs_in else "", config.relay_password)
        return Ways(by_pattern, Route(_hosts(settings.smarthosts), settings.tls, credentials))
    return Ways(by_pattern, Route((), _tls_for(settings.tls, ())) if settings.mx else None)


def pattern_key(pattern: str) -> str:
    """The form to compare the patterns of routes by."""
    return f"{'.' if pattern.startswith('.') else ''}{domain_key(pattern.removeprefix('.'))}"


def read_password(path: Path) -> str:
    """The password in its file; raises OSError."""
    return path.read_text("utf-8").rstrip("\r\n")


def is_this_machine(address: str) -> bool:
    """Whether nobody can listen in on the way there."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _hosts(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    return tuple((host.strip("[]"), int(port)) for host, _, port in (each.rpartition(":") for each in texts))


def _tls_for(tls: str, hosts: Sequence[str]) -> str:
    """Hosts by MX know no TLS from the first octet: there it means that TLS has to be, and verified."""
    return "starttls" if tls == "tls" and not hosts else tls


def _credentials(user: str, path: Path) -> Credentials | None:
    return Credentials(user, read_password(path)) if user else None
