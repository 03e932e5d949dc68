"""The sidecar of a deferred entry, `ID.retry`: attempts, when the next one is due, and each destination's fate so far.

A destination is what routing came to: an account, a mailbox elsewhere, or a report. It is that which must be served
exactly once, and not the forward-path, which may be an alias of many.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from mailsrv.model.failure import reply_to
from mailsrv.model.reply import LOCAL_ERROR, Reply
from mailsrv.store.durable import write_file

_ERROR: Final = re.compile(r"([45]\d\d) [45]\.(\d+\.\d+) (.*?)(?: \(.*\))?$")

WAITING = "waiting"
DONE = "done"


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a destination: `waiting`, with the last error, or `done` (delivered, reported, handed on).

    Where it is done, `error` says how, if there is anything to say.

    `kind` is a word of the ledger, set where this attempt came to it without a file of its own. No sidecar keeps it.
    """

    state: str
    error: str = ""
    kind: str = ""

    def reply(self) -> Reply:
        """The last error as a peer may be told of it, without our own words in brackets."""
        match = _ERROR.match(self.error)
        return Reply(int(match[1]), match[2], match[3]) if match else LOCAL_ERROR


@dataclass(frozen=True, slots=True)
class Retry:
    """`due` and `since`, the last attempt, are in seconds since 1970; fates are keyed by destination.

    `waited` is how long the entry has waited, in seconds, up to the last attempt: pauses that we could have tried in,
    whatever the clock was set to meanwhile and however long the machine was off.
    """

    attempts: int
    due: float
    destinations: dict[str, Fate] = field(default_factory=dict)
    waited: float = 0.0
    since: float = 0.0

    def waiting(self) -> dict[str, Fate]:
        """The destinations that are yet to be served."""
        return {key: fate for key, fate in self.destinations.items() if fate.state != DONE}

    def waited_until(self, now: float, pause: float | None) -> float:
        """`waited` up to `now`; `pause` is that since the last attempt where the process that made it still runs."""
        if pause is None:  # told by a clock that may have been set: at most as long as it was to be
            pause = min(max(now - self.since, 0.0), max(self.due - self.since, 0.0))
        return self.waited + pause if self.attempts else 0.0

    def is_done(self, destination: str) -> bool:
        """Whether nothing is left to do for this destination."""
        fate = self.destinations.get(destination)
        return fate is not None and fate.state == DONE

    def to_json(self) -> dict[str, object]:
        fates = {key: {"state": fate.state, "error": fate.error} for key, fate in self.destinations.items()}
        return {**asdict(self), "destinations": fates}

    @classmethod
    def from_json(cls, document: dict[str, object]) -> "Retry":
        """The reverse of `to_json`; raises KeyError, TypeError or ValueError."""
        destinations = document["destinations"]
        if not isinstance(destinations, dict):
            raise TypeError("destinations is not a table")
        fates = {key: Fate(str(fate["state"]), str(fate["error"])) for key, fate in destinations.items()}
        return cls(
            int(str(document["attempts"])),
            float(str(document["due"])),
            fates,
            float(str(document.get("waited", 0.0))),
            float(str(document.get("since", 0.0))),
        )


SERVED: Final = Fate(DONE)


def waiting_after(error: OSError) -> Fate:
    """The fate of a destination that a fault of ours kept from being served."""
    return Fate(WAITING, f"{reply_to(error)} ({error.strerror or error})")


def write_retry(path: Path, retry: Retry) -> None:
    """Write the sidecar, durably; raises OSError."""
    write_file(path, json.dumps(retry.to_json(), indent=1).encode() + b"\n")


def read_retry(path: Path) -> Retry | None:
    """The sidecar, or None where there is none, or none that can be understood: then the entry is due at once."""
    try:
        return Retry.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
