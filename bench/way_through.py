"""How fast a message goes through, on a temporary instance on loopback, and what idling costs.

Figures of one machine at one moment: compare them with others of the same run only.
"""

import argparse
import statistics
import time
from pathlib import Path

import psutil

from bench.load import Letters, Sender, together
from bench.mailboxes import number_in
from bench.temporary import PORT_BASE, USER, emptied, instance, mailbox_of

CONTENT = b"From: bench@example.org\r\nTo: admin@localhost\r\nSubject: bench\r\n\r\n" + b"0123456789abcde\r\n" * 240


def measure_throughput(port: int, mailbox: Path, messages: int, sessions: int) -> float:
    """Messages of 4 KB a second, until all of them are in the mailbox."""
    wanted = number_in(mailbox) + messages
    sender, numbers = Sender(port, USER, Letters(4096)), iter(range(messages))
    start = time.monotonic()
    together(sender.send_all(numbers, anew=False) for _ in range(sessions))
    while number_in(mailbox) < wanted:
        time.sleep(0.01)
    return messages / (time.monotonic() - start)


def measure_drops(spool: Path, mailbox: Path, number: int) -> list[float]:
    """Milliseconds from the moment that a dropped file was closed until it was in the mailbox, one at a time."""
    seen = {path.name for path in mailbox.iterdir()}
    waits = []
    for index in range(number):
        (spool / f"bench{index}.eml").write_bytes(CONTENT)
        start = time.monotonic()
        while not (new := {path.name for path in mailbox.iterdir()} - seen):
            time.sleep(0.0002)
        waits.append((time.monotonic() - start) * 1000)
        seen |= new
    return sorted(waits)


def measure_idling(root: Path, seconds: float) -> tuple[float, float]:
    """Percent of one core, and MB of memory, of supervisord and all programs; what they share counts once."""
    pid = int((root / "var" / "supervisor" / "supervisord.pid").read_text())
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(seconds)
    after = sum(sum(process.cpu_times()[:2]) for process in processes)
    return (after - before) / seconds * 100, sum(process.memory_full_info().pss for process in processes) / 1e6


def main() -> None:
    """Make an instance, measure, remove it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--drops", type=int, default=200)
    parser.add_argument("--idle-seconds", type=float, default=20)
    asked = parser.parse_args()
    with instance() as root:
        mailbox = mailbox_of(root)
        measure_throughput(PORT_BASE, mailbox, 400, 20)
        many = measure_throughput(PORT_BASE, mailbox, asked.messages, 20)
        one = measure_throughput(PORT_BASE, mailbox, asked.messages // 8, 1)
        waits = measure_drops(root / "var" / "spool", emptied(mailbox), asked.drops)
        cpu, memory = measure_idling(root, asked.idle_seconds)
    print(f"4 KB messages, 20 sessions, until all are in the mailbox: {many:.0f}/s")
    print(f"4 KB messages, one session, one after another:            {one:.0f}/s")
    print(f"drop to mailbox: p50 {statistics.median(waits):.1f} ms, p99 {waits[int(len(waits) * 0.99) - 1]:.1f} ms")
    print(f"idle, all programs and supervisord: {cpu:.2f} % of one core, {memory:.0f} MB")


if __name__ == "__main__":
    main()
