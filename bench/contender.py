"""One server that is measured, whatever it is."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Contender:
    """A running server: `port` of its protocol, `mailbox` where new mail comes in, `pids` of its first processes.

    What has come in goes to `spent` afterwards. Not `counts_cpu`: its processes end without anybody waiting for them,
    and what they took is lost. `at_once`: connections that can come at the same moment without being lost.
    """

    name: str
    port: int
    mailbox: Path
    pids: tuple[int, ...]
    spent: Path
    counts_cpu: bool = True
    at_once: int = 1000

    def cpu(self) -> float:
        """Seconds of CPU that all its processes have taken, those that have ended included."""
        return sum(_cpu_of(psutil.Process(pid)) for pid in self.pids)

    def memory(self) -> float:
        """MB that its processes hold, what they share counted once."""
        return sum(_memory_of(each) for each in self._processes()) / 1e6

    def _processes(self) -> Iterator[psutil.Process]:
        for pid in self.pids:
            root = psutil.Process(pid)
            yield from (root, *root.children(recursive=True))


def _cpu_of(process: psutil.Process) -> float:
    """A process with all its children, also those that it has waited for."""
    try:
        children = process.children()
        return sum(process.cpu_times()[:4]) + sum(_cpu_of(each) for each in children)
    except psutil.NoSuchProcess:
        return 0.0


def _memory_of(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0
