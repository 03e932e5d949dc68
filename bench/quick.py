"""In less than a minute: what has changed since the last result that is kept (bench/results/). For information only.

Machines differ, and so do minutes: so what is compared is how mailsrv stands to its peer in the same run, in speed and
in CPU a message. Where there is no peer, CPU a message is compared, by the speed of the machine with a piece of Python.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import compare, contenders, limits, works
from bench.contender import Contender
from bench.result import OURS, Result, Row, kept, load
from bench.table import number
from bench.works import Work

ROUNDS: Final = 3
SCALE: Final = 0.1
NOTABLE: Final = 1.25  # a change by less is what two runs of the same code differ by
PEERS: Final = frozenset({"Postfix", "Dovecot"})


@dataclass(frozen=True)
class Change:
    """A quantity, as it was kept and as it is now; more is worse."""

    title: str
    words: str
    before: float
    now: float

    def __str__(self) -> str:
        """A line."""
        line = f"{self.title}: {self.words} {number(self.now)}, kept {number(self.before)}"
        change = self.now / self.before
        if change >= NOTABLE:
            return f"{line}: WORSE by {100 * (change - 1):.0f} %"
        if change <= 1 / NOTABLE:
            return f"{line}: better by {100 * (1 - change):.0f} %"
        return f"{line}: as before"


def changes(now: Iterable[Row], calibration: float, result: Result) -> Iterator[Change]:
    """What the rows of now are beside those of a kept result, work by work; `calibration` as of bench.limits."""
    before = {row.title: row for row in result.rows}
    machine = calibration / float(result.machine["calibration"])  # above 1: slower than it was
    for row in now:
        if (old := before.get(row.title)) is None:
            continue
        peer = row.peer
        if peer in row.samples and peer in old.samples:
            words = f"seconds a {row.per} as part of those of {peer}"
            yield Change(row.title, words, 1 / old.ratios(peer).median, 1 / row.ratios(peer).median)
            words = f"CPU a {row.per} as part of that of {peer}"
            yield Change(row.title, words, old.cpu(OURS) / old.cpu(peer), row.cpu(OURS) / row.cpu(peer))
        else:
            words = f"us of CPU a {row.per}, as the machine was then,"
            yield Change(row.title, words, old.cpu(OURS), row.cpu(OURS) / machine)


def measure(seconds: float) -> Iterator[Row]:
    """The works that peers do as well, as many as there is time for."""
    end = time.monotonic() + seconds
    with contenders.receiving(PEERS) as servers:
        yield from _until(end - seconds / 2, servers, works.receiving(SCALE))
    with contenders.handing_out(works.POLLERS) as servers:
        yield from _until(end, servers, works.handing_out(SCALE))


def _until(end: float, servers: list[Contender], all_works: Iterable[Work]) -> Iterator[Row]:
    for work in all_works:
        if time.monotonic() > end:
            print(f"{work.title}: left out, there is no time", flush=True)
        else:
            yield compare.measure(work, servers, ROUNDS, end)


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="nothing new is begun after them")
    asked = parser.parse_args()
    path = kept()
    if path is None:
        raise SystemExit("no result is kept in bench/results; bench/run makes one")
    result, calibration = load(path), limits.calibration()
    print(f"beside {path.name}; what differs by less than {100 * (NOTABLE - 1):.0f} % says nothing")
    if (here := limits.filesystem(Path(tempfile.gettempdir()))) != result.machine["filesystem"]:
        print(f"that was on {result.machine['filesystem']}, this is {here}: of SMTP, more will differ")
    for row in measure(asked.seconds):
        for change in changes([row], calibration, result):
            print(change, flush=True)


if __name__ == "__main__":
    main()
