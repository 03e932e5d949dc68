"""psutil: what a process, its children included, takes of the machine."""

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in percent of one core since the last look; `memory` in octets, resident."""

    cpu: float
    memory: int
    descriptors: int
    threads: int


class Sampler:
    """Looks at processes again and again; the first look at one gives no usage, for want of a span of time."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[psutil.Process, float, float]] = {}  # process, CPU seconds, monotonic seconds

    def sample(self, pid: int) -> Usage | None:
        """The usage of a process, or None at the first look, or where it is gone."""
        process, cpu_before, then = self._seen.get(pid, (None, 0.0, 0.0))
        try:
            process = process or psutil.Process(pid)
            if not process.is_running():  # its number has gone to another
                raise psutil.NoSuchProcess(pid)
            cpu, now = _cpu_seconds(process), time.monotonic()
            self._seen[pid] = (process, cpu, now)
            if not then or now <= then:
                return None
            memory, descriptors, threads = _size(process)
        except psutil.Error:
            self._seen.pop(pid, None)
            return None
        return Usage(max(0.0, cpu - cpu_before) / (now - then) * 100, memory, descriptors, threads)

    def forget_all_but(self, pids: set[int]) -> None:
        """Forget processes that are no longer watched."""
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in pids}


def open_files(pid: int) -> list[str]:
    """The files that a process has open, as far as we may see them."""
    try:
        return sorted(file.path for file in psutil.Process(pid).open_files())
    except psutil.Error:
        return []


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _size(process: psutil.Process) -> tuple[int, int, int]:
    with process.oneshot():
        memory, threads = process.memory_info().rss, process.num_threads()
        try:
            return memory, process.num_fds(), threads
        except psutil.AccessDenied:  # of a process that has changed its user
            return memory, 0, threads
