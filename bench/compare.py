"""mailsrv beside its peers: the same work for each, in turns, on the same machine; prints what they are to each other.

Only ratios of one run say something: the machine's own speed changes from one minute to the next.
"""

import argparse
import time
from collections.abc import Iterable, Iterator

from bench import contenders, works
from bench.contender import Contender
from bench.result import OURS, Row
from bench.table import number, ratio
from bench.works import Work


def measure(work: Work, servers: Iterable[Contender], rounds: int, end: float = float("inf")) -> Row:
    """In turns: A B A B, after each has warmed up; after `end` (monotonic seconds) no further round is begun."""
    times = [(server, work.times_for(server)) for server in servers]
    row = Row(
        work.title,
        work.per,
        work.goal.peer,
        work.goal.reach,
        work.goal.stretch,
        {server.name: [] for server, _ in times},
        tuple(server.name for server, _ in times if not server.counts_cpu),
        work.in_seconds,
    )
    for turn in range(rounds):
        if turn and time.monotonic() > end:
            break
        for server, often in times:
            row.samples[server.name].append(work.sample(server, often))
    return row


def told(row: Row) -> Iterator[str]:
    """Lines about a work."""
    yield f"{row.title}:"
    for name in row.samples:
        rates = row.rates(name)
        cpu = "not known" if name in row.uncounted else f"{row.cpu(name):.0f} us"
        line = (
            f"  {name}: {number(rates.median)}/s ({number(rates.lowest)} to {number(rates.highest)}); CPU a {row.per}:"
        )
        line = f"{line} {cpu}, client {row.client_cpu(name):.0f} us; {row.cores(name):.1f} cores in use"
        yield line if name == OURS else f"{line}; mailsrv is {ratio(row.ratios(name))} times as fast"


def compare(servers: Iterable[Contender], all_works: Iterable[Work], rounds: int) -> list[Row]:
    """Do all works with the contenders; prints, and gives what was measured."""
    rows = []
    for work in all_works:
        rows.append(measure(work, servers, rounds))
        print("\n".join(told(rows[-1])), flush=True)
    return rows


def main() -> None:
    """Compare what the contenders do together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, 1 is about two seconds for each")
    parser.add_argument("--only", choices=["receiving", "handing-out"])
    asked = parser.parse_args()
    if asked.only != "handing-out":
        with contenders.receiving() as servers:
            compare(servers, works.receiving(asked.scale), asked.rounds)
    if asked.only != "receiving":
        with contenders.handing_out(works.POLLERS) as servers:
            compare(servers, works.handing_out(asked.scale), asked.rounds)


if __name__ == "__main__":
    main()
