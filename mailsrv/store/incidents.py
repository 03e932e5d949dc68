"""Incidents: `var/incidents/TIME-PROGRAM/`, what was known of a program just before it was restarted."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mailsrv.store.durable import write_file


class Incident(NamedTuple):
    """`report` holds program, symptom, moment and the samples that led to it; `stacks` the text of faulthandler."""

    name: str
    report: dict[str, Any]
    stacks: str


def keep(folder: Path, program: str, report: dict[str, Any], stacks: str) -> Path:
    """Write an incident; gives its folder. Raises OSError."""
    moment = datetime.now(UTC)
    place = folder / f"{moment:%Y%m%dT%H%M%S.%fZ}-{program}"
    place.mkdir(mode=0o700, parents=True)
    write_file(place / "stacks.txt", stacks.encode("utf-8", "backslashreplace"))
    report = {"program": program, "moment": moment.isoformat(), **report}
    write_file(place / "incident.json", json.dumps(report, indent=1).encode() + b"\n")
    return place


def read_all(folder: Path) -> list[Incident]:
    """The incidents that are kept, oldest first; one that is not whole is not among them. Raises OSError."""
    found = []
    for place in sorted(folder.glob("*-*")):
        try:
            report = json.loads((place / "incident.json").read_text("utf-8"))
            found.append(Incident(place.name, report, (place / "stacks.txt").read_text("utf-8")))
        except (FileNotFoundError, ValueError):  # being written, or cut off while it was
            continue
    return found
