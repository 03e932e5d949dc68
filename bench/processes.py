"""What several processes of smtp and of pop3 bring: the same works for instances with one, two and four, in turns."""

import argparse
from contextlib import ExitStack
from dataclasses import replace

from bench import compare, works
from bench.contender import Contender
from bench.contenders import ours
from bench.result import Row, Spread
from bench.table import number, ratio
from bench.temporary import PORT_BASE, instance

NUMBERS = (1, 2, 4)
POP3 = 3  # its port, from the first on


def tell(row: Row) -> None:
    """Each beside the instance with one process."""
    print(f"{row.title}:")
    base, *_ = row.samples.values()
    for name, samples in row.samples.items():
        pairs = zip(samples, base, strict=True)
        times = ratio(Spread.of(its.rate / one.rate for its, one in pairs))
        words = f"  {name}: {number(row.rates(name).median)}/s, {times} times as fast as one"
        print(f"{words}; {row.cpu(name):.0f} us of CPU, {row.cores(name):.1f} cores in use", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    with ExitStack() as stack:
        servers = []
        for index, processes in enumerate(NUMBERS):
            port = PORT_BASE + 10 * index
            root = stack.enter_context(instance(users=works.POLLERS, port_base=port, processes=processes))
            servers.append((replace(ours(root, port), name=f"{processes} processes"), port))
        receiving = [server for server, _ in servers]
        handing_out: list[Contender] = [replace(server, port=port + POP3) for server, port in servers]
        for work in works.receiving(asked.scale):
            tell(compare.measure(work, receiving, asked.rounds))
        for work in works.handing_out(asked.scale):
            tell(compare.measure(work, handing_out, asked.rounds))


if __name__ == "__main__":
    main()
