"""The settings of the relay: where mail for elsewhere is sent, and how names are looked up for that.

As in `settings.py`, each is a field with its default, its comment, and what it may be.
"""

from dataclasses import dataclass, field
from typing import Final

from mailsrv.values import (
    DRAIN,
    SECONDS,
    described,
    is_host_and_port,
    is_integer,
    is_ip_address,
    is_list_of,
    is_nameserver,
    is_number,
    is_path,
    is_text,
)

RELAY_TLS: Final = ("none", "opportunistic", "starttls", "tls")


@dataclass(frozen=True, slots=True)
class Relay:
    """Where `relay` sends mail for elsewhere; without a smarthost it waits in spool/remote/."""

    smarthosts: tuple[str, ...] = field(
        default=(),
        metadata=described(
            "HOST:PORT of the server that takes all of it; of several, the next where one cannot be reached",
            is_list_of(is_host_and_port, least=0),
            'a list such as ["smtp.example.net:587"]',
        ),
    )
    tls: str = field(
        default="opportunistic",
        metadata=described(
            '"tls" from the first octet, "starttls", "opportunistic" (STARTTLS if offered), or "none"',
            lambda value: value in RELAY_TLS,
            f"one of {', '.join(RELAY_TLS)}",
        ),
    )
    user: str = field(
        default="", metadata=described("to log in with; the password stands in var/relay.password", is_text, "a name")
    )
    ca_file: str = field(
        default="",
        metadata=described("certificates to trust with tls and starttls, in place of the system's", is_path, "a path"),
    )
    source_address: str = field(
        default="",
        metadata=described(
            "the address to connect from; empty leaves it to the system",
            lambda value: value == "" or is_ip_address(value),
            "an IP address, or nothing",
        ),
    )
    max_connections: int = field(
        default=20, metadata=described("at once, in all", is_integer(1, 1000), "a number from 1 to 1000")
    )
    max_connections_per_destination: int = field(
        default=5, metadata=described("at once, to one destination", is_integer(1, 1000), "a number from 1 to 1000")
    )
    connect_timeout: float = field(
        default=30, metadata=described("seconds to wait for a connection", is_number(1, 300), "seconds up to 300")
    )
    drain_seconds: float = field(
        default=10, metadata=described("for transactions under way when we are stopped", *DRAIN)
    )


@dataclass(frozen=True, slots=True)
class Dns:
    """How names are looked up."""

    nameservers: tuple[str, ...] = field(
        default=(),
        metadata=described(
            "addresses of servers, with :PORT where it is not 53; empty takes those of /etc/resolv.conf",
            is_list_of(is_nameserver, least=0),
            'a list of IP addresses, such as ["192.0.2.53", "[2001:db8::53]:5353"]',
        ),
    )
    timeout: float = field(default=3, metadata=described("seconds to wait for the answer of one server", *SECONDS))
    lifetime: float = field(
        default=15, metadata=described("seconds for a question, all servers and tries together", *SECONDS)
    )
