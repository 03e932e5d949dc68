"""The whole table: every work beside every peer, the single figures, and what the machine can do.

Prints it, and writes bench/results/DATE.json, a picture beside it, and the tables of docs/PERFORMANCE.md.
"""

import argparse
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench import compare, contenders, deferred, large, limits, works
from bench.contender import Contender
from bench.picture import picture
from bench.result import FOLDER, OURS, Figure, Result, Row, kept, load, save
from bench.table import DOCUMENT, put_into, tables
from bench.temporary import emptied, instance, mailbox_of
from bench.way_through import measure_drops, measure_idling

LARGE_REACH = 64.0  # MB
PEAKS = 3  # of which the median counts: a login that `health` tries meanwhile takes 64 MB for a moment


def receiving(rounds: int, scale: float) -> tuple[list[Row], list[Figure]]:
    """All that comes in by SMTP."""
    with contenders.receiving() as servers:
        rows = compare.compare(servers, works.receiving(scale), rounds)
        figures = [
            memory_of("memory after it has received", servers),
            Figure(
                "memory while 8 messages of 25 MB come in at once: grows by",
                "MB",
                {server.name: statistics.median(large.growth(server) for _ in range(PEAKS)) for server in servers},
                LARGE_REACH,
            ),
        ]
    return rows, figures


def handing_out(rounds: int, scale: float, messages: int) -> tuple[list[Row], list[Figure]]:
    """All that goes out by POP3."""
    with contenders.handing_out(works.POLLERS) as servers:
        rows = compare.compare(servers, works.handing_out(scale), rounds)
        rows += compare.compare(servers, works.logging_in(messages), rounds)
        return rows, [memory_of("memory after it has handed out", servers)]


def memory_of(title: str, servers: list[Contender]) -> Figure:
    """All processes of each."""
    return Figure(title, "MB", {server.name: server.memory() for server in servers})


def alone(drops: int, idle_seconds: float) -> list[Figure]:
    """What no peer does."""
    with instance() as root:
        spool, mailbox = root / "var" / "spool", mailbox_of(root)
        measure_drops(spool, mailbox, drops // 10)
        waits = measure_drops(spool, emptied(mailbox), drops)
        cpu, memory = measure_idling(root, idle_seconds)
    return [
        Figure("drop to mailbox, one file at a time, p50", "ms", {OURS: statistics.median(waits)}, 10, 5),
        Figure("the same, p99", "ms", {OURS: waits[int(len(waits) * 0.99) - 1]}, 60, 20),
        Figure("idle, all programs and supervisord", "% of one core", {OURS: cpu}, 1, 0.3),
        Figure("the same, memory", "MB", {OURS: memory}, 220, 150),
    ]


def beside_deferred(entries: int, drops: int) -> list[Figure]:
    """New mail beside much that waits."""
    without, with_them = deferred.measure_both(entries, drops)
    title = f"{entries:,} deferred entries"
    return [
        Figure(f"{title}: from the start until new mail flows", "s", {OURS: with_them.start}, 3),
        Figure(f"{title}: a new message's way, beside without them", "x", {OURS: with_them.later / without.later}, 1.5),
    ]


def measure(asked: argparse.Namespace) -> Result:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="mailsrv-bench-") as folder:
        machine = limits.machine(Path(folder))
    rows, figures = receiving(asked.rounds, asked.scale)
    more_rows, more_figures = handing_out(asked.rounds, asked.scale, asked.messages)
    figures += [*more_figures, *alone(asked.drops, asked.idle_seconds), *beside_deferred(asked.entries, asked.drops)]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Result(when, asked.rounds, machine, [*rows, *more_rows], figures)


def write(result: Result) -> None:
    """Into bench/results/ and docs/."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{result.when[:10]}.json"
    save(result, path)
    path.with_suffix(".svg").write_text(picture(result))
    DOCUMENT.write_text(put_into(DOCUMENT.read_text(), tables(result)))


def main() -> None:
    """Measure, tell, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, 1 is about two seconds for each")
    parser.add_argument("--messages", type=int, default=100_000, help="of the huge maildrop")
    parser.add_argument("--entries", type=int, default=100_000, help="that are deferred")
    parser.add_argument("--drops", type=int, default=400)
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--no-files", action="store_true", help="print only")
    parser.add_argument("--render", action="store_true", help="write the docs of the last result anew, measure nothing")
    asked = parser.parse_args()
    path = kept()
    result = load(path) if asked.render and path else measure(asked)
    print(tables(result), end="")
    if not asked.no_files:
        write(result)


if __name__ == "__main__":
    main()
