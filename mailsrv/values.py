"""What a setting may be: checks, and the metadata that a setting carries. `settings.py` uses them."""

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from mailsrv.model.address import GrammarError, parse_mailbox


def described(text: str, check: Callable[[Any], bool], expected: str) -> dict[str, Any]:
    """The metadata of a setting: its comment, which values are good, and what to say of others."""
    return {"doc": text, "check": check, "expected": expected}


def is_number(low: float, high: float) -> Callable[[Any], bool]:
    """A check for numbers."""
    return lambda value: not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high


def is_integer(low: int, high: int) -> Callable[[Any], bool]:
    """A check for whole numbers."""
    return lambda value: not isinstance(value, bool) and isinstance(value, int) and low <= value <= high


def is_bool(value: object) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_text(value: object) -> bool:
    """Whether it is text."""
    return isinstance(value, str)


def is_path(value: object) -> bool:
    """Whether it can be a path, or nothing."""
    return isinstance(value, str) and "\0" not in value


def is_domain(value: object) -> bool:
    """Whether it is a domain by the grammar of addresses."""
    try:
        return isinstance(value, str) and str(parse_mailbox(f"a@{value}")) == f"a@{value}"
    except GrammarError:
        return False


def is_host_name(value: object) -> bool:
    """Whether it is a domain in ASCII, as it is said to every client."""
    return is_domain(value) and str(value).isascii()


def is_ip_address(value: object) -> bool:
    """Whether it is an IP address."""
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def is_network(value: object) -> bool:
    """Whether it is a network, or a single address, as 192.0.2.0/24."""
    try:
        return isinstance(value, str) and bool(ipaddress.ip_network(value))
    except ValueError:
        return False


def is_host_and_port(value: object) -> bool:
    """Whether it is a host, by name or address (of IPv6 in brackets), and a port."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    is_known = is_host_name(host) or is_ip_address(host.strip("[]"))
    return is_known and port.isascii() and port.isdigit() and 0 < int(port) < 65536


def is_nameserver(value: object) -> bool:
    """Whether it is an IP address, of IPv6 perhaps in brackets, or one with a port."""
    if not isinstance(value, str):
        return False
    is_address = is_ip_address(value.rpartition(":")[0].strip("[]"))  # 192.0.2.53 is a host name by its grammar as well
    return is_ip_address(value.strip("[]")) or (is_host_and_port(value) and is_address)


def is_list_of(check: Callable[[Any], bool], *, least: int = 1) -> Callable[[Any], bool]:
    """A check for lists of so many values at least."""
    return lambda value: isinstance(value, list | tuple) and len(value) >= least and all(check(each) for each in value)


SECONDS: Final = (is_number(0.01, 10_000_000), "a number of seconds")
# Below stopwaitsecs in supervisord.conf, after which a program is killed.
DRAIN: Final = (is_number(0, 15), "a number of seconds up to 15")
