"""mailsrv beside its peers: the same work for each, in turns, on the same machine; prints what they are to each other.

Only ratios of one run say something: the machine's own speed changes from one minute to the next.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from bench import contenders, works
from bench.contender import Contender
from bench.works import Sample, Work

OURS = "mailsrv"
Samples = dict[str, list[Sample]]


def measure(work: Work, servers: Iterable[Contender], rounds: int) -> Samples:
    """In turns: A B A B, after each has warmed up."""
    times = [(server, work.times_for(server)) for server in servers]
    found: Samples = {server.name: [] for server, _ in times}
    for _ in range(rounds):
        for server, number in times:
            found[server.name].append(work.sample(server, number))
    return found


def told(work: Work, samples: Samples) -> Iterator[str]:
    """Lines about a work."""
    yield f"{work.title}:"
    for name, each in samples.items():
        rates = sorted(sample.rate for sample in each)
        cpu = statistics.median(sample.cpu for sample in each) * 1e6
        client = statistics.median(sample.client_cpu for sample in each) * 1e6
        cores = statistics.median(sample.cores for sample in each)
        line = f"  {name}: {statistics.median(rates):.0f}/s ({rates[0]:.0f} to {rates[-1]:.0f}), CPU a {work.per}:"
        yield f"{line} {cpu:.0f} us, client {client:.0f} us; {cores:.1f} cores in use{_ratio(samples, name)}"


def _ratio(samples: Samples, name: str) -> str:
    if name == OURS:
        return ""
    ratios = sorted(ours.rate / its.rate for ours, its in zip(samples[OURS], samples[name], strict=True))
    middle = statistics.median(ratios)
    return f"; mailsrv is {middle:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def compare(
    started: Callable[[], AbstractContextManager[list[Contender]]], all_works: Iterable[Work], rounds: int
) -> dict[str, object]:
    """Do all works with the contenders; prints, and gives what was measured."""
    found: dict[str, object] = {}
    with started() as servers:
        for work in all_works:
            samples = measure(work, servers, rounds)
            print("\n".join(told(work, samples)), flush=True)
            found[work.title] = {name: [asdict(sample) for sample in each] for name, each in samples.items()}
        for server in servers:
            print(f"memory of {server.name}: {server.memory():.0f} MB", flush=True)
    return found


def main() -> None:
    """Compare everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, 1 is about two seconds for each")
    parser.add_argument("--only", choices=["receiving", "handing-out"])
    parser.add_argument("--json", type=Path, help="a file for what was measured")
    asked = parser.parse_args()
    found: dict[str, object] = {}
    if asked.only != "handing-out":
        found |= compare(contenders.receiving, works.receiving(asked.scale), asked.rounds)
    if asked.only != "receiving":
        found |= compare(lambda: contenders.handing_out(works.POLLERS), works.handing_out(asked.scale), asked.rounds)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
