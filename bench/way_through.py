"""How fast a message goes through, on a temporary instance on loopback, and what idling costs.

Figures of one machine at one moment: compare them with others of the same run only.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import psutil

from bench.temporary import PORT_BASE, USER, emptied, instance, mailbox_of

CONTENT = b"From: bench@example.org\r\nTo: admin@localhost\r\nSubject: bench\r\n\r\n" + b"0123456789abcde\r\n" * 240


async def send(port: int, messages: int) -> None:
    """One session that sends so many messages of 4 KB, one after another, and checks every reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def expect(code: bytes) -> None:
        while True:
            line = await reader.readline()
            assert line.startswith(code), line
            if line[3:4] == b" ":
                return

    await expect(b"220")
    writer.write(b"EHLO bench.example\r\n")
    await expect(b"250")
    for _ in range(messages):
        writer.write(f"MAIL FROM:<bench@example.org>\r\nRCPT TO:<{USER}>\r\nDATA\r\n".encode())
        for code in (b"250", b"250", b"354"):
            await expect(code)
        writer.write(CONTENT + b".\r\n")
        await expect(b"250")
    writer.write(b"QUIT\r\n")
    await expect(b"221")
    writer.close()


def measure_throughput(port: int, mailbox: Path, messages: int, sessions: int) -> float:
    """Messages a second, until all of them are in the mailbox."""
    before = len(list(mailbox.iterdir()))

    async def all_sessions() -> None:
        await asyncio.gather(*(send(port, messages // sessions) for _ in range(sessions)))

    start = time.monotonic()
    asyncio.run(all_sessions())
    while len(list(mailbox.iterdir())) < before + messages // sessions * sessions:
        time.sleep(0.01)
    return messages // sessions * sessions / (time.monotonic() - start)


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
    """Percent of one core, and MB of resident memory, of supervisord and all programs together."""
    pid = int((root / "var" / "supervisor" / "supervisord.pid").read_text())
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(seconds)
    after = sum(sum(process.cpu_times()[:2]) for process in processes)
    return (after - before) / seconds * 100, sum(process.memory_info().rss for process in processes) / 1e6


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
