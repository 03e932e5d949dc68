"""The settings of what is added to, and asked of, mail for elsewhere: signatures, and the policies of other domains."""

from dataclasses import dataclass, field

from mailsrv.values import described, is_domain, is_integer


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
