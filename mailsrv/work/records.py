"""What a domain of ours needs in the DNS, by the settings and its keys, and whether it is there."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsrv.config import Config
from mailsrv.host.resolver import Absent, Ask, Exchange, Found, Kind, Resolver, Trouble
from mailsrv.model.record import Record
from mailsrv.work import keyring
from mailsrv.work.keyring import Key

PREFERENCE: Final = 10  # of the first host, and between two
STS_MAX_AGE: Final = 604_800  # seconds that others keep our policy


class Verdict(StrEnum):
    """What was found of a record."""

    RIGHT = "right"
    MISSING = "missing"
    DIFFERS = "differs"
    UNKNOWN = "unknown"  # the DNS does not answer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A record, and what it is for."""

    purpose: str
    record: Record


@dataclass(frozen=True, slots=True)
class Compared:
    """A record that is wanted, and what is there in its place."""

    wanted: Wanted
    verdict: Verdict
    found: tuple[str, ...]


def wanted_for(config: Config, domain: str) -> list[Wanted]:
    """All records of a domain, which is in A-labels; raises OSError, Mistake where a key cannot be read."""
    settings = config.records
    found = [
        Wanted("MX", Record(domain, "MX", f"{PREFERENCE * number} {host}"))
        for number, host in enumerate(_hosts(config), 1)
    ]
    keys = [Wanted("DKIM", record_of(each)) for each in keyring.keys_of(config, domain)]
    texts = [("DMARC", f"_dmarc.{domain}", settings.dmarc)]
    if settings.mta_sts != "none":
        policy = sts_policy(config).encode("ascii")
        texts.append(("MTA-STS", f"_mta-sts.{domain}", f"v=STSv1; id={hashlib.sha256(policy).hexdigest()[:20]}"))
    texts.append(("TLSRPT", f"_smtp._tls.{domain}", f"v=TLSRPTv1; rua={settings.tls_reports}"))
    texts = [(name, owner, text.replace("{domain}", domain)) for name, owner, text in texts]
    found.append(Wanted("SPF", Record(domain, "TXT", settings.spf.replace("{domain}", domain))))
    return [*found, *keys, *(Wanted(name, Record(owner, "TXT", text)) for name, owner, text in texts)]


def record_of(key: Key) -> Record:
    """The record of a key."""
    return Record(key.owner, "TXT", key.record)


def resolver_of(config: Config) -> Resolver:
    """Asks the servers of the settings."""
    return Resolver(config.dns.nameservers, config.dns.timeout, config.dns.lifetime)


def sts_policy(config: Config) -> str:
    """The policy that a web server has to give at https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461 §3.2)."""
    lines = ["version: STSv1", f"mode: {config.records.mta_sts}", *(f"mx: {host}" for host in _hosts(config))]
    return "".join(f"{line}\r\n" for line in (*lines, f"max_age: {STS_MAX_AGE}"))


def compare(wanted: Sequence[Wanted], ask: Ask) -> list[Compared]:
    """Look for the records, each by a question of its own; those of MX are judged together."""
    exchanges = {each.record.value.partition(" ")[2].lower() for each in wanted if each.purpose == "MX"}
    return [
        _compare_hosts(each, exchanges, ask) if each.purpose == "MX" else _compare_text(each, ask) for each in wanted
    ]


def _hosts(config: Config) -> tuple[str, ...]:
    return config.records.mx or (config.hostname,)


def _compare_hosts(wanted: Wanted, exchanges: set[str], ask: Ask) -> Compared:
    match ask(wanted.record.owner, Kind.MX):
        case Trouble(why):
            return Compared(wanted, Verdict.UNKNOWN, (why,))
        case Absent():
            return Compared(wanted, Verdict.MISSING, ())
        case Found(records):
            hosts = {each.host.lower(): each.preference for each in records if isinstance(each, Exchange)}
            found = tuple(f"{preference} {host}" for host, preference in sorted(hosts.items()))
            if wanted.record.value.partition(" ")[2].lower() not in hosts:
                return Compared(wanted, Verdict.MISSING, found)
            return Compared(wanted, Verdict.RIGHT if set(hosts) == exchanges else Verdict.DIFFERS, found)


def _compare_text(wanted: Wanted, ask: Ask) -> Compared:
    match ask(wanted.record.owner, Kind.TXT):
        case Trouble(why):
            return Compared(wanted, Verdict.UNKNOWN, (why,))
        case Absent():
            return Compared(wanted, Verdict.MISSING, ())
        case Found(records):
            texts = [each.decode("utf-8", "replace") for each in records if isinstance(each, bytes)]
            # A name may have texts of all sorts; by their version they say what they are for. A key need not.
            found = tuple(text for text in texts if wanted.purpose == "DKIM" or _is_like(text, wanted.record.value))
            if not found:
                return Compared(wanted, Verdict.MISSING, ())
            # Two of them are as good as none (RFC 7208 §4.5, RFC 7489 §6.6.3, RFC 8461 §3.1).
            is_right = len(found) == 1 and _meaning(found[0]) == _meaning(wanted.record.value)
            return Compared(wanted, Verdict.RIGHT if is_right else Verdict.DIFFERS, found)


def _is_like(text: str, wanted: str) -> bool:
    return _meaning(text)[:1] == _meaning(wanted)[:1]


def _meaning(text: str) -> list[str]:
    """The words, or the tags; spaces, and a semicolon at the end, say nothing, nor does the order of tags."""
    if text.lower().startswith("v=spf1"):
        return text.lower().split()
    tags = ["".join(tag.split()) for tag in text.split(";")]
    first, *others = tags
    return [first, *sorted(tag for tag in others if tag)]
