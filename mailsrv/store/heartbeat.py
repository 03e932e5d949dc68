"""Heartbeats: each program writes `var/run/NAME.beat` from its main loop; `health` and `mailsrv status` read it.

A beat is one line of JSON in a file of fixed size, written by one pwrite, which readers see whole.
"""

import contextlib
import json
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from mailsrv.store import durable
from mailsrv.store.steps import Steps

BEAT_OCTETS: Final = 4096
BEAT_INTERVAL: Final = 1.0  # seconds
COUNT_INTERVAL: Final = 0.2  # seconds between counts of descriptors, and looks for other facts that cost something

_encode: Final = json.JSONEncoder().encode
Fact: TypeAlias = float | str | list[str]


@dataclass(frozen=True)
class Beat:
    """`monotonic` in seconds of the machine's clock; `progress` grows with every piece of work; `in_hand` names it."""

    pid: int
    monotonic: float
    progress: int
    in_hand: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    descriptors: int = 0  # that are open

    def age(self) -> float:
        """Seconds since it was written."""
        return time.monotonic() - self.monotonic


class Heart:
    """The writing side; `steps` are written beside it."""

    def __init__(self, path: Path) -> None:
        self.steps = Steps(path.with_suffix(".steps"))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._descriptors = 0
        self._counted = float("-inf")  # when they were (monotonic)

    def beat(self, progress: int, facts: Mapping[str, Fact], in_hand: str = "") -> None:
        """Write a beat. A beat that cannot be written (the disk is full) shows as a stale one."""
        now = time.monotonic()
        if now - self._counted >= COUNT_INTERVAL:
            self._counted, self._descriptors = now, _count_descriptors()
        beat = Beat(os.getpid(), now, progress, in_hand[:200], facts, self._descriptors)
        line = _encode(vars(beat)).encode()
        if len(line) >= BEAT_OCTETS:
            few = {name: value for name, value in facts.items() if isinstance(value, int | float)}
            line = _encode(vars(replace(beat, facts=few))).encode()
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, line.ljust(BEAT_OCTETS - 1) + b"\n", 0)


def _count_descriptors() -> int:
    """Of a process that has changed its user, nobody else may count them. Counting takes one itself."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:  # there is none left
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def read_worst(path: Path) -> float:
    """The worst wait ever seen, in seconds; 0 where none was, or none can be read."""
    try:
        return float(path.read_text("utf-8"))
    except (OSError, ValueError):
        return 0.0


def write_worst(path: Path, seconds: float) -> None:
    """Remember the worst wait ever seen, over restarts; raises OSError."""
    durable.write_volatile(path, f"{seconds:.3f}\n".encode())


def read_beat(path: Path) -> Beat | None:
    """The last beat, or None where there is none."""
    try:
        return Beat(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
