"""Whether memory is flat: messages without end through one instance, and what each adds, in octets a message.

The slope is that of the straight line through the samples of a program in the second half (least squares): what a
program needs once, caches that have a bound included, is taken by then.
"""

import argparse
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.contenders import ours
from bench.load import Letters, Sender, poll, together
from bench.mailboxes import put_aside, wait_for
from bench.temporary import PASSWORD, PORT_BASE, USER, instance, memory_of

PROGRAMS = ("smtp", "delivery", "pop3", "relay", "health")
SESSIONS = 20
SAMPLES = 40


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line that is nearest to the points."""
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope


def measure(root: Path, messages: int) -> dict[str, list[tuple[float, float]]]:
    """Octets of memory of each program, beside how many messages there were; each a session of its own now and then."""
    server, letters = ours(root, PORT_BASE), Letters(1024)
    sender, numbers = Sender(PORT_BASE, USER, letters), itertools.count()
    found: dict[str, list[tuple[float, float]]] = {program: [] for program in PROGRAMS}
    step = max(messages // SAMPLES, SESSIONS)
    for done in range(step, messages + 1, step):
        for share, anew in ((step // 10, True), (step - step // 10, False)):
            some = itertools.islice(numbers, share)
            together(sender.send_all(some, anew=anew) for _ in range(SESSIONS))
        wait_for(server.mailbox, step, server.name)
        together([poll(PORT_BASE + 3, USER, PASSWORD, b"+OK ", iter(range(20)))])
        put_aside(server.mailbox, server.spent)
        for program in PROGRAMS:
            found[program].append((done, memory_of(root, program)))
        told = ", ".join(f"{program} {found[program][-1][1] / 1e6:.1f}" for program in PROGRAMS)
        print(f"{done:,} messages: {told} MB", flush=True)
    return found


def main() -> None:
    """Measure, and tell the slopes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    asked = parser.parse_args()
    with instance() as root:
        found = measure(root, asked.messages)
    for program, points in found.items():
        late = points[len(points) // 2 :]
        print(f"{program}: {slope(late):.2f} octets a message, {points[-1][1] / 1e6:.1f} MB at the end")


if __name__ == "__main__":
    main()
