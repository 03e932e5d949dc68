"""What 100,000 deferred entries cost: start-up until new mail flows, and a new message's way beside them."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.temporary import emptied, instance, mailbox_of
from bench.way_through import CONTENT, measure_drops
from mailsrv.model.identity import new_entry_id

CALM = 3.0  # percent of a core
ENTRY = b"X-Sender: <bench@example.org>\r\nX-Receiver: <admin@localhost>\r\nX-EndOfInjectedXHeaders: 0\r\n" + CONTENT


def fill(folder: Path, number: int) -> None:
    """So many entries that are due in an hour."""
    fates = {"admin@localhost": {"state": "waiting", "error": "451 4.3.0 a local error"}}
    uid = folder.stat().st_uid
    for _ in range(number):
        entry_id = new_entry_id(datetime.now(UTC))
        now = time.time()
        sidecar = {"attempts": 1, "due": now + 3600, "destinations": fates, "waited": 0.0, "since": now}
        for name, octets in ((entry_id, ENTRY), (f"{entry_id}.retry", json.dumps(sidecar).encode())):
            (folder / name).write_bytes(octets)
            if uid != os.geteuid():
                os.chown(folder / name, uid, -1)


def supervisorctl(root: Path, *words: str) -> str:
    """Ask supervisord."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(root / "supervisord.conf"), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def measure_start(root: Path, mailbox: Path) -> float:
    """Seconds from the start of delivery until a message that was dropped before is in the mailbox."""
    supervisorctl(root, "stop", "delivery")
    (root / "var" / "spool" / "first.eml").write_bytes(CONTENT)
    before = len(list(mailbox.iterdir()))
    start = time.monotonic()
    starter = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(root / "supervisord.conf"), "start", "delivery"],
        stdout=subprocess.DEVNULL,
    )
    while len(list(mailbox.iterdir())) == before:
        time.sleep(0.005)
    seconds = time.monotonic() - start
    starter.wait()
    return seconds


@dataclass(frozen=True)
class Seen:
    """Seconds from the start until new mail flows; milliseconds of drops, right then and later; what idling takes."""

    start: float
    soon: float
    later: float
    cpu: float  # percent of a core
    memory: float  # MB


def wait_until_calm(process: psutil.Process) -> None:
    """Until it has nothing left to do by itself; for two minutes at the most."""
    deadline = time.monotonic() + 120
    while _cpu_over(process, 2) > CALM and time.monotonic() < deadline:
        pass


def _cpu_over(process: psutil.Process, seconds: float) -> float:
    """Percent of a core."""
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds * 100


def measure(root: Path, words: str, drops: int) -> Seen:
    """Start anew, then drop, then idle; prints what was seen as well."""
    mailbox = emptied(mailbox_of(root))
    start = measure_start(root, mailbox)
    soon = measure_drops(root / "var" / "spool", mailbox, drops)
    process = psutil.Process(int(supervisorctl(root, "pid", "delivery")))
    wait_until_calm(process)  # sidecars that are yet to be read are read meanwhile
    later = measure_drops(root / "var" / "spool", mailbox, drops)
    cpu = _cpu_over(process, 20)
    memory = process.memory_info().rss / 1e6
    seen = Seen(start, statistics.median(soon), statistics.median(later), cpu, memory)
    print(f"{words}: new mail flows {seen.start:.2f} s after the start; drop to mailbox p50", end=" ")
    print(
        f"{seen.soon:.1f} ms right then, {seen.later:.1f} ms later; idle {cpu:.2f} % of a core, {memory:.0f} MB",
        flush=True,
    )
    return seen


def measure_both(entries: int, drops: int) -> tuple[Seen, Seen]:
    """Without, then with so many entries."""
    with instance() as root:
        without = measure(root, "nothing deferred", drops)
        supervisorctl(root, "stop", "delivery")
        fill(root / "var" / "spool" / "deferred", entries)
        return without, measure(root, f"{entries} deferred", drops)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--drops", type=int, default=200)
    asked = parser.parse_args()
    measure_both(asked.entries, asked.drops)


if __name__ == "__main__":
    main()
