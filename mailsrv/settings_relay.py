"""The settings of the relay: where mail for elsewhere is sent, and how names are looked up for that.

As in `settings.py`, each is a field with its default, its comment, and what it may be.
"""

from dataclasses import dataclass, field
from typing import Final

from mailsrv.values import (
    DRAIN,
    SECONDS,
    described,
    is_bool,
    is_domain,
    is_host_and_port,
    is_integer,
    is_ip_address,
    is_list_of,
    is_nameserver,
    is_number,
    is_path,
    is_text,
)

BY_MX: Final = "mx"
USER: Final = "user="
RELAY_TLS: Final = ("none", "opportunistic", "starttls", "tls")


@dataclass(frozen=True, slots=True)
class RouteText:
    """What is written of a route: HOST:PORT each, or none where MX tells them.

    `tls` is empty where it is not said; `user` is the name to log in with, empty where nobody does.
    """

    hosts: tuple[str, ...]
    tls: str = ""
    user: str = ""

    def __str__(self) -> str:
        rest = (self.tls, f"{USER}{self.user}" if self.user else "")
        return " ".join([*(self.hosts or (BY_MX,)), *(each for each in rest if each)])


def parse_route(text: str) -> RouteText:
    """`HOST:PORT...` or `mx`, then perhaps how to encrypt, and `user=NAME`; raises ValueError: what was expected."""
    words = text.split()
    user = words.pop().removeprefix(USER) if len(words) > 1 and words[-1].startswith(USER) else ""
    tls = words.pop() if len(words) > 1 and words[-1] in RELAY_TLS else ""
    if words == [BY_MX] and tls != "tls" and not user:
        return RouteText((), tls)
    for word in words or [text]:
        if not is_host_and_port(word):
            raise ValueError(f"{word}: expected HOST:PORT, such as smtp.example.net:587, or {BY_MX}")
    return RouteText(tuple(words), tls, user)


def _is_route(pair: tuple[str, object]) -> bool:
    """Whether it is a domain, or all below one, with a way to it."""
    pattern, text = pair
    try:
        return (
            is_domain(pattern.removeprefix("."))
            and not pattern.startswith(".[")
            and isinstance(text, str)
            and parse_route(text) is not None
        )
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Relay:
    """Where `relay` sends mail for elsewhere; what no route, no smarthost and no MX is for waits in spool/remote/."""

    smarthosts: tuple[str, ...] = field(
        default=(),
        metadata=described(
            "HOST:PORT of the server that takes all of it; of several, the next where one cannot be reached",
            is_list_of(is_host_and_port, least=0),
            'a list such as ["smtp.example.net:587"]',
        ),
    )
    mx: bool = field(
        default=False,
        metadata=described(
            "without a smarthost: send to the hosts that each domain's MX records name", is_bool, "true or false"
        ),
    )
    port: int = field(
        default=25,
        metadata=described(
            "where hosts by MX listen; another one is for test networks", is_integer(1, 65535), "a port from 1 to 65535"
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
    routes: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata={
            **described(
                'a domain, or all below one (".example.net") = "HOST:PORT ..." or "mx", then tls and user=NAME if any',
                _is_route,
                'a domain in quotes, = "HOST:PORT ..." or "mx", then perhaps its tls, and user=NAME',
            ),
            "is_table": True,
        },
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
