"""The settings: each a field of a table of `mailsrv.toml`, with its default, its comment, and what it may be.

The comments become those of a new `mailsrv.toml`; the checks say what was expected. `config.py` reads and writes them.
Those of the relay stand in `settings_relay.py`.
"""

from dataclasses import dataclass, field
from typing import Final

from mailsrv.model.language import TAGS
from mailsrv.model.mechanisms import MECHANISMS
from mailsrv.values import DRAIN as _DRAIN
from mailsrv.values import SECONDS as _SECONDS
from mailsrv.values import (
    described,
    is_bool,
    is_integer,
    is_ip_address,
    is_list_of,
    is_network,
    is_number,
    is_path,
)

_PORT: Final = (is_integer(0, 65535), "a port from 1 to 65535, or 0 to switch it off")
_SWITCH: Final = (is_bool, "true or false")
_CONNECTIONS: Final = (is_integer(1, 100_000), "a number from 1 to 100000")
_MANY: Final = (is_integer(1, 1_000_000), "a number from 1")
_AMOUNT: Final = (is_integer(0, 2**60), "a number from 0")
_NETWORKS: Final = (is_list_of(is_network, least=0), 'a list of networks, such as ["192.0.2.0/24"]')


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the programs listen."""

    address: str = field(
        default="127.0.0.1",
        metadata=described(
            "127.0.0.1 is this machine only, 0.0.0.0 everybody", is_ip_address, "an IP address in quotes"
        ),
    )
    smtp: int = field(default=2525, metadata=described("SMTP, for mail from elsewhere to here", *_PORT))
    submission: int = field(default=2587, metadata=described("submission by users who log in; STARTTLS", *_PORT))
    submissions: int = field(default=2465, metadata=described("submission with TLS from the first octet", *_PORT))
    lmtp: str = field(
        default="",
        metadata=described(
            "a unix socket for LMTP, from a server in front; who may enter its folder may use it",
            is_path,
            "a path",
        ),
    )
    pop3: int = field(default=2110, metadata=described("POP3; a password is taken from this machine only", *_PORT))
    pop3s: int = field(default=2995, metadata=described("POP3 with TLS", *_PORT))
    proxies: tuple[str, ...] = field(
        default=(),
        metadata=described("networks of proxies, whose connections begin with a PROXY header", *_NETWORKS),
    )


@dataclass(frozen=True, slots=True)
class Smtp:
    """What `smtp` takes."""

    max_message_octets: int = field(
        default=52_428_800,
        metadata=described("the largest message (SIZE)", is_integer(65_536, 2**40), "a number of octets from 65536"),
    )
    max_recipients: int = field(
        default=1000,
        metadata=described("recipients of one message", is_integer(100, 10_000), "a number from 100 to 10000"),
    )
    max_messages: int = field(
        default=10_000,
        metadata=described("messages of one session", is_integer(1, 999_999), "a number from 1 to 999999"),
    )
    max_line_octets: int = field(
        default=100_000,
        metadata=described(
            "the longest line of a message; longer than the 1000 of RFC 5321, as real mail has them",
            is_integer(1000, 2**30),
            "a number of octets from 1000",
        ),
    )
    own_sender_only: bool = field(
        default=True, metadata=described("who submits sends from addresses of the own account only", *_SWITCH)
    )
    max_connections: int = field(default=1000, metadata=described("at once, from everybody", *_CONNECTIONS))
    max_connections_per_address: int = field(
        default=100, metadata=described("at once, from one address (of IPv6, from one /64)", *_CONNECTIONS)
    )
    idle_timeout: float = field(default=300, metadata=described("seconds of silence before we hang up", *_SECONDS))
    min_content_rate: float = field(
        default=100,
        metadata=described(
            "octets a second that a message must come in with; it may be behind for idle_timeout",
            is_number(0, 1_000_000),
            "a number of octets",
        ),
    )
    drain_seconds: float = field(
        default=5, metadata=described("for transactions under way when we are stopped", *_DRAIN)
    )


@dataclass(frozen=True, slots=True)
class Pop3:
    """How `pop3` serves."""

    max_connections: int = field(default=1000, metadata=described("at once, from everybody", *_CONNECTIONS))
    max_connections_per_address: int = field(
        default=100, metadata=described("at once, from one address (of IPv6, from one /64)", *_CONNECTIONS)
    )
    idle_timeout: float = field(
        default=600,
        metadata=described(
            "seconds of silence before we hang up, 600 at least (RFC 1939)",
            is_number(600, 86_400),
            "a number of seconds from 600",
        ),
    )
    drain_seconds: float = field(default=5, metadata=described("for commands under way when we are stopped", *_DRAIN))
    exclusive: bool = field(
        default=True,
        metadata=described("one session at a time for each mailbox (RFC 1939); false: they share it", *_SWITCH),
    )
    login_delay: int = field(
        default=0,
        metadata=described(
            "seconds from one login of an account to its next (LOGIN-DELAY); 0 asks for none",
            is_integer(0, 86_400),
            "a number of seconds up to 86400",
        ),
    )
    expire_days: int = field(
        default=0,
        metadata=described(
            "days after which messages are removed, read or not (EXPIRE); 0 keeps them",
            is_integer(0, 36_500),
            "a number of days up to 36500",
        ),
    )
    language: str = field(
        default="en",
        metadata=described(
            "of the responses to a client that asks for no certain one (LANG *)",
            lambda value: value in TAGS,
            f"one of {', '.join(TAGS)}",
        ),
    )
    utf8_headers: str = field(
        default="send",
        metadata=described(
            'a message with UTF-8 in its header, to a client that did not say UTF8: "send" it as it is, or "refuse" it',
            lambda value: value in {"send", "refuse"},
            '"send" or "refuse"',
        ),
    )


@dataclass(frozen=True, slots=True)
class Logins:
    """How users log in, and what failed logins lead to, in `smtp` and `pop3` together."""

    mechanisms: tuple[str, ...] = field(
        default=MECHANISMS,
        metadata=described(
            "of AUTH, those that are offered",
            is_list_of(lambda value: value in MECHANISMS),
            f"a list of some of {', '.join(MECHANISMS)}",
        ),
    )
    delay: float = field(
        default=1,
        metadata=described(
            "seconds that the answer to a failed login waits; twice as long after each further one, up to 8 times",
            is_number(0, 60),
            "a number of seconds up to 60",
        ),
    )
    ban_after: int = field(
        default=10,
        metadata=described(
            "failed logins from one address (of IPv6, from one /64) that ban it; 0 bans nobody",
            is_integer(0, 100_000),
            "a number from 0",
        ),
    )
    within: float = field(default=600, metadata=described("seconds within which they are counted together", *_SECONDS))
    ban_seconds: float = field(default=900, metadata=described("how long a ban lasts", *_SECONDS))
    never_banned: tuple[str, ...] = field(
        default=("127.0.0.0/8", "::1/128"), metadata=described("networks that are never banned", *_NETWORKS)
    )


@dataclass(frozen=True, slots=True)
class Routing:
    """How addresses are read; var/aliases, var/lists and var/transforms tell where they lead."""

    detail_delimiter: str = field(
        default="+",
        metadata=described(
            'between user and detail, as in user+detail@example.org; "" for none',
            lambda value: value in {"", *"+-_=.#"},
            'one of + - _ = . # in quotes, or ""',
        ),
    )


@dataclass(frozen=True, slots=True)
class Quotas:
    """How much may lie in a mailbox; var/quotas tells of accounts and domains that may have more or less."""

    octets: int = field(default=0, metadata=described("of an account; 0 is no limit", *_AMOUNT))
    messages: int = field(default=0, metadata=described("of an account; 0 is no limit", *_AMOUNT))
    warn_at: float = field(
        default=90,
        metadata=described(
            "percent of a quota at which an account is warned by a message",
            is_number(1, 1000),
            "a number of percent from 1",
        ),
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """How `delivery` watches the spool."""

    events: bool = field(
        default=True, metadata=described("deliver at the moment a file appears; false: at each scan only", *_SWITCH)
    )
    scan_interval: float = field(default=10, metadata=described("seconds between scans of the spool", *_SECONDS))
    settle_seconds: float = field(
        default=2, metadata=described("a dropped file is whole when it was not changed for so long", *_SECONDS)
    )
    dotstuff: str = field(
        default="no",
        metadata=described(
            'dropped files have their leading dots doubled: "yes", "no", or "auto" (where every one of them is)',
            lambda value: value in {"auto", "yes", "no"},
            '"auto", "yes" or "no"',
        ),
    )
    retry_after: tuple[float, ...] = field(
        default=(60, 300, 900, 1800, 3600),
        metadata=described(
            "seconds before each new attempt, the last one for all that follow",
            is_list_of(is_number(1, 864_000)),
            "a list of numbers of seconds",
        ),
    )
    report_delay_after: float = field(
        default=14_400, metadata=described("seconds until the sender of a waiting message is told so", *_SECONDS)
    )
    give_up_after: float = field(
        default=432_000, metadata=described("seconds until a waiting message is returned", *_SECONDS)
    )


@dataclass(frozen=True, slots=True)
class Health:
    """When `health` restarts a program; docs/HEALTH.md has the whole table."""

    interval: float = field(default=5, metadata=described("seconds between samples", *_SECONDS))
    cpu_limit: float = field(
        default=90, metadata=described("percent of one core", is_number(1, 10_000), "a number of percent from 1")
    )
    busy_limit: float = field(
        default=600, metadata=described("seconds above cpu_limit that a program at work is left alone", *_SECONDS)
    )
    trend_limit: float = field(
        default=10,
        metadata=described(
            "percent of one core by which the CPU use of a program without work may climb in a day to a week",
            is_number(1, 10_000),
            "a number of percent from 1",
        ),
    )
    memory_trend: float = field(
        default=100,
        metadata=described("MB by which its least memory may climb in that time", is_number(1, 10_000_000), "MB"),
    )
    descriptor_trend: int = field(
        default=100, metadata=described("open files by which their least number may climb in that time", *_MANY)
    )
    thread_trend: int = field(
        default=20, metadata=described("threads by which their least number may climb in that time", *_MANY)
    )
    trend_hour: float = field(default=3600, metadata=described("seconds of one figure of such a climb", *_SECONDS))
    beat_limit: float = field(default=20, metadata=described("seconds without a heartbeat", *_SECONDS))
    memory_limit: float = field(
        default=1024, metadata=described("MB of memory of a program", is_number(1, 10_000_000), "a number of MB")
    )
    descriptor_limit: int = field(
        default=500,
        metadata=described("open files of a program, beside those of connections and of mail in hand", *_MANY),
    )
    thread_limit: int = field(
        default=100, metadata=described("threads of a program, connections of relay aside", *_MANY)
    )
    stranded_limit: float = field(
        default=60, metadata=described("seconds that an entry may lie undecided while delivery does nothing", *_SECONDS)
    )
    probe_interval: float = field(default=30, metadata=described("seconds between dialogues with each port", *_SECONDS))
    probe_timeout: float = field(default=20, metadata=described("seconds that a dialogue may take", *_SECONDS))
    message_interval: float = field(
        default=900,
        metadata=described(
            "seconds between messages that are sent to a mailbox of our own, read back and removed; 0 sends none",
            is_number(0, 10_000_000),
            "a number of seconds",
        ),
    )
    message_timeout: float = field(
        default=60, metadata=described("seconds until such a message has to be back", *_SECONDS)
    )
    slow_clock: float = field(
        default=300, metadata=described("seconds between tries with a program that does not recover", *_SECONDS)
    )
    keep_incidents: int = field(default=200, metadata=described("incidents that are kept", *_MANY))
    keep_days: int = field(default=90, metadata=described("days that an incident is kept", *_MANY))


@dataclass(frozen=True, slots=True)
class Ledger:
    """The books: var/log/ledger."""

    keep_days: int = field(
        default=30, metadata=described("days that it is kept", is_integer(2, 36_500), "a number of days from 2")
    )
    audit_interval: float = field(
        default=3600, metadata=described("seconds between audits; `mailsrv audit` makes one at once", *_SECONDS)
    )


@dataclass(frozen=True, slots=True)
class Drill:
    """For trying out the healing; leave it off."""

    hooks: bool = field(
        default=False, metadata=described("SIGUSR2 makes a program ill, as docs/HEALTH.md tells", *_SWITCH)
    )
