"""dnspython: names looked up in the DNS, each answer with what is to be made of it.

A question waits for its answer, in the thread of who asks; any number of threads may ask. Answers are remembered as
long as they say. Where no nameserver is set, those of /etc/resolv.conf are asked, also after it has changed.

That a server vouches for an answer (AD, RFC 6840 §5.7) is worth as much as the way to that server: who builds on it
has to know that it is a validating one, on this machine or a network of one's own.
"""

import ipaddress
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias

import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdatatype
import dns.resolver

from mailsrv.model.international import to_a_labels

SYSTEM: Final = Path("/etc/resolv.conf")
MOST_REMEMBERED: Final = 10_000
MAX_DATAGRAM: Final = 1232  # octets, as the DNS flag day of 2020 has it: what is longer is fetched by TCP
PORT: Final = 53


class Kind(Enum):
    """What is asked for."""

    A = dns.rdatatype.A
    AAAA = dns.rdatatype.AAAA
    MX = dns.rdatatype.MX
    TXT = dns.rdatatype.TXT
    TLSA = dns.rdatatype.TLSA
    PTR = dns.rdatatype.PTR


@dataclass(frozen=True, slots=True)
class Exchange:
    """A record of MX (RFC 1035 §3.3.9), the host without the full stop at its end: nothing, where it is the root."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Association:
    """A record of TLSA (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


Record: TypeAlias = str | bytes | Exchange | Association  # str: an address or a name; bytes: a whole text


@dataclass(frozen=True, slots=True)
class Found:
    """There are records, behind `name` where aliases (CNAME) led to it; `is_authentic` is AD."""

    records: tuple[Record, ...]
    name: str
    is_authentic: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """There are none: no such name, or (`has_name`) none of this kind. A server that knows has said so."""

    has_name: bool
    is_authentic: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Nobody knows now, for the log: why. It may be known later."""

    why: str


Answer: TypeAlias = Found | Absent | Trouble
Ask: TypeAlias = Callable[[str, Kind], Answer]  # `Resolver.ask`, or what stands for it


def is_near(nameserver: str) -> bool:
    """Whether a server, as it is set, is on this machine or in a network that is nobody else's."""
    return ipaddress.ip_address(_nameserver(nameserver).answer_nameserver()).is_private


def load() -> None:
    """Import what dnspython would import when it first meets a record of a kind: by then we may not be allowed to."""
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]


class Resolver:
    """Asks `nameservers`, ADDRESS or ADDRESS:PORT each; `timeout` seconds each time, `lifetime` in all."""

    def __init__(self, nameservers: Sequence[str], timeout: float, lifetime: float) -> None:
        self._nameservers = [_nameserver(each) for each in nameservers]
        self._timeout = timeout
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._made: dns.resolver.Resolver | None = None
        self._seen: object = None

    def ask(self, name: str, kind: Kind) -> Answer:
        """The records of a name, which may be in U-labels."""
        try:
            bare = name.rstrip(".")
            wanted = dns.name.from_text(f"{bare if bare.isascii() else to_a_labels(bare)}.")
        except (ValueError, dns.exception.DNSException):  # no name that could be asked for is one that there is not
            return Absent(has_name=False)
        try:
            answer = self._resolver().resolve(
                wanted, kind.value, raise_on_no_answer=False, lifetime=self._lifetime, search=False
            )
        except dns.resolver.NXDOMAIN as error:
            responses: dict[Any, Any] = error.kwargs["responses"]
            return Absent(has_name=False, is_authentic=all(map(_is_authentic, responses.values())))
        except dns.exception.DNSException as error:
            return Trouble(f"{name} {kind.name}: {_in_one_line(error)}")
        except OSError as error:
            return Trouble(f"{name} {kind.name}: {error.strerror or error}")
        is_authentic = _is_authentic(answer.response)
        if answer.rrset is None:
            return Absent(has_name=True, is_authentic=is_authentic)
        records = tuple(_record(each, kind) for each in answer.rrset)
        return Found(records, _text(answer.canonical_name), is_authentic)

    def _resolver(self) -> dns.resolver.Resolver:
        """As it is set up, or as the system is now; raises DNSException, OSError."""
        with self._lock:
            seen = None if self._nameservers else _look(SYSTEM)
            if self._made is None or seen != self._seen:
                made = dns.resolver.Resolver(str(SYSTEM), configure=not self._nameservers)
                if self._nameservers:
                    made.nameservers = self._nameservers
                made.timeout, made.lifetime = self._timeout, self._lifetime
                made.cache = dns.resolver.LRUCache(MOST_REMEMBERED)
                made.use_edns(0, dns.flags.DO, MAX_DATAGRAM)
                made.flags = dns.flags.RD | dns.flags.AD
                self._made, self._seen = made, seen
            return self._made


def _look(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    bare = text.strip("[]")
    try:
        return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(bare)), PORT)
    except ValueError:
        address, _, port = text.rpartition(":")
        return dns.nameserver.Do53Nameserver(address.strip("[]"), int(port))


def _is_authentic(response: Any) -> bool:
    return bool(response.flags & dns.flags.AD)


def _record(data: Any, kind: Kind) -> Record:
    match kind:
        case Kind.A | Kind.AAAA:
            return str(data.address)
        case Kind.MX:
            return Exchange(data.preference, _text(data.exchange))
        case Kind.TXT:
            return b"".join(data.strings)
        case Kind.TLSA:
            return Association(data.usage, data.selector, data.mtype, data.cert)
        case Kind.PTR:
            return _text(data.target)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower().rstrip(".")


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
