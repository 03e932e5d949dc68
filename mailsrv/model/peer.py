"""Addresses of clients, and what a client is counted by: of IPv6, everything that one subscriber has."""

import functools
import ipaddress
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCAL: Final = "local"  # in the place of an address: the other end of a unix socket
IPV6_PREFIX: Final = 64  # bits: a customer has at least that much (RFC 6177 §2)


@functools.lru_cache(maxsize=4096)  # asked several times for a connection, and for each message
def parse_peer(text: str) -> Address | None:
    """The address that `text` is, without its scope; None where it is none, as at the end of a unix socket.

    An IPv4 address that comes in by IPv6 is the IPv4 address (RFC 4291 §2.5.5.2).
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def client_of(address: Address) -> str:
    """What an address is counted by: itself, or its /64."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))
