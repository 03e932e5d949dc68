"""psutil: what a process, its children included, takes of the machine."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in percent of one core since the last look; `memory` in octets, resident."""

    cpu: float
    memory: int
    descriptors: int
    threads: int
    is_waiting: bool = False  # for a disk, in a way that no signal ends


class Sampler:
    """Looks at processes again and again; the first look at one gives no usage, for want of a span of time."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[psutil.Process, float, float]] = {}  # process, CPU seconds, monotonic seconds

    def sample(self, pid: int, *, alone: bool = False) -> Usage | None:
        """The usage of a process, or None at the first look, or where it is gone; `alone` leaves its children out."""
        process, cpu_before, then = self._seen.get(pid, (None, 0.0, 0.0))
        try:
            process = process or psutil.Process(pid)
            if not process.is_running():  # its number has gone to another
                raise psutil.NoSuchProcess(pid)
            cpu, now = _cpu_seconds(process, alone=alone), time.monotonic()
            self._seen[pid] = (process, cpu, now)
            if not then or now <= then:
                return None
            memory, descriptors, threads = _size(process)
            is_waiting = process.status() == psutil.STATUS_DISK_SLEEP
        except psutil.Error:
            self._seen.pop(pid, None)
            return None
        return Usage(max(0.0, cpu - cpu_before) / (now - then) * 100, memory, descriptors, threads, is_waiting)

    def forget_all_but(self, pids: set[int]) -> None:
        """Forget processes that are no longer watched."""
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in pids}


def open_files(pid: int) -> list[str]:
    """The files and connections that a process has open, as far as we may see them."""
    try:
        process = psutil.Process(pid)
        files = [file.path for file in process.open_files()]
        return sorted(files) + sorted(_connections(process))
    except psutil.Error:
        return []


def start_of(pid: int) -> str:
    """What tells a process from a later one of the same number; empty where there is none."""
    try:
        return f"{pid} {psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


def is_there(pid: int) -> bool:
    """Whether a process of this number runs, other than as a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _connections(process: psutil.Process) -> list[str]:
    return [
        f"{each.status.lower()} {each.laddr.ip}:{each.laddr.port}" + (f" {each.raddr.ip}" if each.raddr else "")
        for each in process.net_connections("inet")
        if each.laddr
    ]


def _cpu_seconds(process: psutil.Process, *, alone: bool) -> float:
    total = 0.0
    for each in (process, *(() if alone else _children(process))):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    """All that descend from a process. psutil reads every process of the machine for that; the kernel may know."""
    try:
        threads = list(Path(f"/proc/{process.pid}/task").glob("*/children"))
        pids = [int(word) for path in threads for word in path.read_text("ascii").split()]
    except (OSError, ValueError):
        threads = []
    if not threads:
        return process.children(recursive=True)
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            child = psutil.Process(pid)
            found += [child, *_children(child)]
    return found


def _size(process: psutil.Process) -> tuple[int, int, int]:
    with process.oneshot():
        memory, threads = process.memory_info().rss, process.num_threads()
        try:
            return memory, process.num_fds(), threads
        except psutil.AccessDenied:  # of a process that has changed its user
            return memory, 0, threads
