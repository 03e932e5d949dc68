"""The settings of what is added to, and asked of, mail for elsewhere: signatures, and the policies of other domains."""

from dataclasses import dataclass, field
from typing import Final

from mailsrv.values import SECONDS, described, is_bool, is_domain, is_host_name, is_integer, is_list_of, is_text

STS_MODES: Final = ("enforce", "testing", "none")


@dataclass(frozen=True, slots=True)
class Dkim:
    """Signing mail for elsewhere; the keys are in var/dkim/, `mailsrv dkim create DOMAIN` makes them."""

    expire_days: int = field(
        default=0,
        metadata=described(
            "days after its arrival from which a message's signature counts no more (x=); 0 is no end",
            lambda value: value == 0 or is_integer(7, 3650)(value),
            "0, or a number of days from 7: a message may wait for some",
        ),
    )
    sign_forwarded: str = field(
        default="",
        metadata=described(
            "the domain that signs what comes from elsewhere and is sent on by an alias or a list; empty signs none",
            lambda value: value == "" or is_domain(value),
            "one of our domains, or nothing",
        ),
    )


@dataclass(frozen=True, slots=True)
class Records:
    """What our domains say of themselves in the DNS: `mailsrv dns DOMAIN` prints it, and compares."""

    mx: tuple[str, ...] = field(
        default=(),
        metadata=described(
            "the hosts that take mail for our domains, the best first; empty is this one, by its hostname",
            is_list_of(is_host_name, least=0),
            'a list of host names, such as ["mail.example.org"]',
        ),
    )
    spf: str = field(
        default="v=spf1 mx -all",
        metadata=described(
            "who sends mail of our domains (SPF); where a smarthost does, what its provider says belongs here",
            lambda value: is_text(value) and value.startswith("v=spf1"),
            'a text such as "v=spf1 mx include:spf.example.net -all"',
        ),
    )
    dmarc: str = field(
        default="v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}",
        metadata=described(
            "what others are to do with mail that is not verified (DMARC)",
            lambda value: is_text(value) and value.startswith("v=DMARC1"),
            'a text that begins with "v=DMARC1"',
        ),
    )
    mta_sts: str = field(
        default="testing",
        metadata=described(
            'the MTA-STS policy: "enforce" where every host has a certificate that others trust, "testing", "none"',
            lambda value: value in STS_MODES,
            f"one of {', '.join(STS_MODES)}",
        ),
    )
    tls_reports: str = field(
        default="mailto:postmaster@{domain}",
        metadata=described(
            "where others send reports on TLS (TLSRPT)",
            lambda value: is_text(value) and value.startswith(("mailto:", "https://")),
            "an URI that begins with mailto: or https://",
        ),
    )


@dataclass(frozen=True, slots=True)
class Policies:
    """What other domains ask of who sends them mail, where it goes to their MX hosts."""

    mta_sts: bool = field(
        default=True,
        metadata=described("heed MTA-STS policies (RFC 8461)", is_bool, "true or false"),
    )
    trusted_resolver: bool = field(
        default=False,
        metadata=described(
            "nameservers in [dns] validate, and nobody is on the way to them: heed DANE by their word (RFC 7672)",
            is_bool,
            "true or false",
        ),
    )
    fetch_timeout: float = field(default=60, metadata=described("seconds to fetch a policy", *SECONDS))
