"""The hosts that take mail for a domain, as the DNS has it (RFC 5321 §5.1, RFC 7505), in the order to try them.

The hosts of one preference come in any order, so that all senders together share the load. Where one of them is this
server, it and all of no better preference are left out: mail that we sent there would come back to us.
"""

import ipaddress
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mailsrv.config import Config
from mailsrv.host.outgoing import interleaved, is_of_this_machine
from mailsrv.host.resolver import Absent, Ask, Exchange, Found, Kind, Trouble
from mailsrv.model import outcome
from mailsrv.model.international import domain_key
from mailsrv.model.reply import Reply

DEFAULT_HOSTNAME: Final = "localhost"


@dataclass
class NoHostError(Exception):
    """There is no host to send to: what the recipients are to be told, and for the log why."""

    reason: Reply
    why: str


@dataclass(frozen=True, slots=True)
class Host:
    """One that takes mail for a domain; `is_authentic` where a validating server vouches for MX and addresses alike."""

    name: str
    preference: int
    addresses: tuple[str, ...]
    is_authentic: bool = False


class Ourselves:
    """Knows this server, by its name and by where it listens."""

    def __init__(self, config: Config) -> None:
        self.name = domain_key(config.hostname)
        self._address = config.listen.address
        self._is_at_port = config.relay.port in config.ports().values()

    def has_name(self, name: str) -> bool:
        """Whether a host calls itself as we do; the name that every new instance has means nothing."""
        return self.name != DEFAULT_HOSTNAME and domain_key(name) == self.name

    def are(self, host: "Host") -> bool:
        """Whether mail for that host would come to us."""
        return self.has_name(host.name) or any(map(self._listen_at, host.addresses))

    def _listen_at(self, address: str) -> bool:
        if not self._is_at_port:
            return False
        if ipaddress.ip_address(self._address).is_unspecified:
            return is_of_this_machine(address)
        return address == self._address


def hosts_of(domain: str, ask: Ask, ourselves: Ourselves) -> Iterator[Host]:
    """The hosts in order, looked up as far as they are asked for; raises NoHostError where there is none."""
    if domain.startswith("["):
        yield _literal(domain, ourselves)
        return
    exchanges, is_authentic = _exchanges(domain, ask)
    troubles: list[str] = []
    has_host = False
    for _, group in itertools.groupby(exchanges, key=lambda each: each.preference):
        hosts = [_host(each, ask, troubles, is_authentic=is_authentic) for each in group]
        if any(ourselves.are(each) for each in hosts):  # RFC 5321 §5.1
            if has_host:
                return
            raise NoHostError(outcome.DNS_TROUBLE if troubles else outcome.LOOPS, "; ".join(troubles) or domain)
        usable = [each for each in hosts if each.addresses]
        random.shuffle(usable)
        has_host = has_host or bool(usable)
        yield from usable
    if not has_host:
        raise NoHostError(outcome.DNS_TROUBLE if troubles else outcome.NO_HOST, "; ".join(troubles) or domain)


def _exchanges(domain: str, ask: Ask) -> tuple[list[Exchange], bool]:
    """By preference; of a domain without MX, itself; and whether a server vouches for that. Raises NoHostError."""
    match ask(domain, Kind.MX):
        case Trouble(why):
            raise NoHostError(outcome.DNS_TROUBLE, why)
        case Absent(has_name=False):
            raise NoHostError(outcome.NO_SUCH_DOMAIN, domain)
        case Absent() as absent:
            return [Exchange(0, domain)], absent.is_authentic
        case Found(records, _, is_authentic):
            exchanges = [each for each in records if isinstance(each, Exchange)]
            if not any(each.host for each in exchanges):
                raise NoHostError(outcome.NULL_MX, domain)
            return sorted((each for each in exchanges if each.host), key=lambda each: each.preference), is_authentic


def _host(exchange: Exchange, ask: Ask, troubles: list[str], *, is_authentic: bool) -> Host:
    """A host with its addresses, none where it has none or where they are not known: then `troubles` says why."""
    answers = (ask(exchange.host, Kind.AAAA), ask(exchange.host, Kind.A))
    troubles += [each.why for each in answers if isinstance(each, Trouble)]
    addresses = interleaved(*([str(record) for record in each.records] for each in answers if isinstance(each, Found)))
    is_authentic = is_authentic and all(not isinstance(each, Trouble) and each.is_authentic for each in answers)
    return Host(exchange.host, exchange.preference, tuple(addresses), is_authentic)


def _literal(domain: str, ourselves: Ourselves) -> Host:
    """RFC 5321 §4.1.3: an address in brackets is the host; raises NoHostError where that is us."""
    text = domain.strip("[]")
    host = Host(domain, 0, (text[5:] if text[:5].lower() == "ipv6:" else text,))
    if ourselves.are(host):
        raise NoHostError(outcome.LOOPS, domain)
    return host
