"""The batch file: what delivery is about to make visible, written before the first rename and removed after the last.

A rename into a mailbox and the removal of the spool entry cannot be one step. Between them a reader may fetch and
delete the message, so a restarted delivery cannot tell from the mailbox what it had done. The batch file tells: as
long as the machine has not been restarted, a listed draft that is gone from `tmp/` was renamed. So a batch that was
begun is carried through to its end, and kill -9 at any instant gives each recipient the message exactly once.

After power loss nothing of this is certain (the file is not synced, on purpose): the batch is dropped, its entries are
decided anew, and mailboxes are searched for what they hold already.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mailsrv.model.identity import EntryId
from mailsrv.store import durable
from mailsrv.store.durable import Move
from mailsrv.store.retry import Fate
from mailsrv.store.spool import State

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


UNTOLD: Final = "untold"  # of a step that is nobody's fate, and of which the ledger says nothing


@dataclass(frozen=True, slots=True)
class Step:
    """One rename, and the destinations that it serves; it is made once those that it needs are served.

    `kind` is a word of the ledger: what becomes by it of the destinations. Of an entry that is made, `to` is its
    recipient, where that is none of them. Both are empty where the folder tells.
    """

    move: Move
    destinations: tuple[str, ...]
    needs: tuple[str, ...] = ()
    kind: str = ""
    to: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of one entry: its steps, and the fates of the destinations that none of them serves.

    `about` is what the ledger is told of the message with each of them; `waited` is for the sidecar. With
    `due` it is no attempt, but a report on one, and changes neither their number nor the time of the next.
    """

    entry_id: EntryId
    state: State
    attempts: int
    steps: tuple[Step, ...]
    fates: dict[str, Fate]
    about: dict[str, Any] = field(default_factory=dict)
    waited: float = 0.0
    due: float = 0.0


@functools.cache  # nobody lives through a restart of the machine
def _boot_id() -> str:
    return _BOOT_ID.read_text()


def write_batch(path: Path, plans: Sequence[Plan]) -> None:
    """Write the batch file; raises OSError."""
    document = {"boot": _boot_id(), "plans": [_to_json(plan) for plan in plans]}
    durable.write_volatile(path, json.dumps(document).encode())


def read_batch(path: Path) -> list[Plan] | None:
    """The batch that an earlier process began, or None where there is none to be trusted; raises OSError."""
    try:
        document = json.loads(path.read_bytes())
        if document["boot"] != _boot_id():
            return None
        return [_from_json(plan) for plan in document["plans"]]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # torn by a power loss
        return None


def _to_json(plan: Plan) -> dict[str, object]:
    return {
        "entry": plan.entry_id,
        "state": plan.state.value,
        "attempts": plan.attempts,
        "steps": [_step_to_json(step) for step in plan.steps],
        "fates": {destination: asdict(fate) for destination, fate in plan.fates.items()},
        "about": plan.about,
        "waited": plan.waited,
        "due": plan.due,
    }


def _from_json(plan: dict[str, object]) -> Plan:
    steps = plan["steps"]
    fates = plan["fates"]
    about = plan.get("about", {})
    if not isinstance(steps, list) or not isinstance(fates, dict) or not isinstance(about, dict):
        raise TypeError("not a plan")
    return Plan(
        EntryId(str(plan["entry"])),
        State(plan["state"]),
        int(str(plan["attempts"])),
        tuple(_step_from_json(step) for step in steps),
        {destination: Fate(**fate) for destination, fate in fates.items()},
        about,
        float(str(plan.get("waited", 0.0))),
        float(str(plan.get("due", 0.0))),
    )


def _step_to_json(step: Step) -> dict[str, object]:
    return {
        "draft": str(step.move.draft),
        "final": str(step.move.final),
        "destinations": step.destinations,
        "needs": step.needs,
        "kind": step.kind,
        "to": step.to,
    }


def _step_from_json(step: dict[str, Any]) -> Step:
    move = Move(Path(step["draft"]), Path(step["final"]))
    return Step(move, tuple(step["destinations"]), tuple(step["needs"]), step["kind"], step["to"])
