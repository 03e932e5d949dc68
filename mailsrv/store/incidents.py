"""Incidents: `var/incidents/TIME-PROGRAM/`, what was known of a program just before it was restarted."""

import contextlib
import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from mailsrv.store.durable import write_file

REPORT: Final = "incident.json"
STACKS: Final = "stacks.txt"
DAY: Final = 86_400.0


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
    try:
        write_file(place / STACKS, stacks.encode("utf-8", "backslashreplace"))
        report = {"program": program, "moment": moment.isoformat(), **report}
        write_file(place / REPORT, json.dumps(report, indent=1).encode() + b"\n")
    except OSError:  # a half one tells nothing, and nobody would remove it
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def note(place: Path, **facts: object) -> None:
    """Add what became of it; raises OSError."""
    path = place / REPORT
    write_file(path, json.dumps(json.loads(path.read_bytes()) | facts, indent=1).encode() + b"\n")


def read_all(folder: Path) -> list[Incident]:
    """The incidents that are kept, oldest first; one that is not whole is not among them. Raises OSError."""
    found = []
    for place in _places(folder):
        try:
            report = json.loads((place / REPORT).read_text("utf-8"))
            found.append(Incident(place.name, report, (place / STACKS).read_text("utf-8")))
        except (FileNotFoundError, ValueError):  # being written, or cut off while it was
            continue
    return found


def prune(folder: Path, most: int, days: float) -> None:
    """Remove what is older than `days`, and the oldest beyond `most`; raises OSError.

    Age is that of the folder: it is at most too young after the clock was set.
    """
    places = _places(folder)
    now = time.time()
    for index, place in enumerate(places):
        with contextlib.suppress(FileNotFoundError):
            if len(places) - index > most or now - place.stat().st_mtime > days * DAY:
                shutil.rmtree(place)


def _places(folder: Path) -> list[Path]:
    return sorted(folder.glob("*Z-*"))
