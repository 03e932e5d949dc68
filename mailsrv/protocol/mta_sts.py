"""MTA-STS (RFC 8461): the record that says there is a policy, and the policy, as octets. Fetching is elsewhere."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

MOST_OCTETS: Final = 64 * 1024  # of a policy (RFC 8461 §3.3)
LONGEST_AGE: Final = 31_557_600  # seconds, RFC 8461 §3.2

_ID: Final = re.compile(rb"[A-Za-z0-9]{1,32}")
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_AGE: Final = re.compile(r"[0-9]{1,10}")


class Mode(Enum):
    """What a policy asks for."""

    ENFORCE = "enforce"
    TESTING = "testing"  # deliver in any case, and take note
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy; `mx` are patterns of host names, `max_age` seconds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def allows(self, host: str) -> bool:
        """Whether mail may go to this host (RFC 8461 §4.1): a `*` stands for exactly one label, the first."""
        host = host.lower().rstrip(".")
        return any(each in (host, f"*.{host.partition('.')[2]}") for each in self.mx)


def policy_id(texts: Iterable[bytes]) -> str | None:
    """The id in the records at _mta-sts; None where there is none, or not exactly one (RFC 8461 §3.1)."""
    found = [text for text in texts if re.match(rb"v=STSv1[ \t]*(;|\Z)", text)]
    if len(found) != 1:
        return None
    for field in found[0].split(b";")[1:]:
        name, _, value = field.strip().partition(b"=")
        if name.strip() == b"id":
            return value.strip().decode("ascii") if _ID.fullmatch(value.strip()) else None
    return None


def parse_policy(octets: bytes) -> Policy:
    """The policy; raises ValueError, with what was expected. Of keys that stand twice the first counts, but for mx."""
    if len(octets) > MOST_OCTETS:
        raise ValueError(f"expected a policy of at most {MOST_OCTETS} octets")
    values: dict[str, str] = {}
    patterns: list[str] = []
    for line in octets.decode("utf-8", "replace").split("\n"):
        key, colon, value = line.partition(":")
        if not colon:
            continue
        if key.strip() == "mx":
            patterns.append(value.strip().lower().rstrip("."))
        else:
            values.setdefault(key.strip(), value.strip())
    if values.get("version") != "STSv1":
        raise ValueError("expected version: STSv1")
    try:
        mode = Mode(values.get("mode"))
    except ValueError as error:
        raise ValueError("expected mode: enforce, testing or none") from error
    if not _AGE.fullmatch(values.get("max_age", "")):
        raise ValueError("expected max_age: a number of seconds")
    hosts = tuple(each for each in patterns if _HOST.fullmatch(each))
    if not hosts and mode is not Mode.NONE:
        raise ValueError("expected mx: a host")
    return Policy(mode, hosts, min(int(values["max_age"]), LONGEST_AGE))
