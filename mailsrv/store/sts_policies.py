"""The policies of other domains (MTA-STS), kept as long as they say: `var/sts/DOMAIN`, a JSON document each.

A cache: it may be removed at any time, and is not synced.
"""

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsrv.store import durable

_DOMAIN: Final = re.compile(r"(?:[a-z0-9-]+\.)+[a-z0-9-]*[a-z-][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """A policy as it was fetched, with the id that its record had then; `until` in seconds since 1970."""

    policy_id: str
    text: str
    until: float


def is_name(domain: str) -> bool:
    """Whether it is a domain in A-labels that may have a policy: no address, and no name of this network alone."""
    return _DOMAIN.fullmatch(domain) is not None


def read_policy(folder: Path, domain: str, now: float) -> KeptPolicy | None:
    """What is kept of a domain and has not expired; what cannot be read is not there."""
    try:
        found = json.loads((folder / domain).read_bytes())
        kept = KeptPolicy(str(found["id"]), str(found["text"]), float(found["until"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if now < kept.until else None


def write_policy(folder: Path, domain: str, kept: KeptPolicy) -> None:
    """Keep a policy; raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    document = {"id": kept.policy_id, "text": kept.text, "until": kept.until}
    durable.write_volatile(folder / domain, json.dumps(document).encode("ascii"))


def sweep(folder: Path, now: float) -> None:
    """Remove what has expired."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if read_policy(folder, path.name, now) is None:
                path.unlink(missing_ok=True)
