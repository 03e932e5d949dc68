"""What much of something costs: a message into a huge mailbox, to one of many accounts, through many aliases to a list.

Each is measured in turns with little of it: CPU a message, and how long its way is. Flat is 1.
"""

import argparse
import smtplib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import maildrop
from bench.contender import Contender
from bench.contenders import ours
from bench.load import HOST, Letters, Sender, together
from bench.mailboxes import number_in
from bench.temporary import PORT_BASE, USER, instance, user

ROUNDS: Final = 5
LETTERS: Final = Letters(4096)
FEW: Final = 10
_PATIENCE: Final = 120.0  # seconds


@dataclass(frozen=True)
class Way:
    """Something to send: `do` sends it so often, and each message comes into all of `mailboxes`."""

    server: Contender
    mailboxes: Sequence[Path]
    times: int
    do: Callable[[int], None]

    def cost(self) -> tuple[float, float]:
        """Of one letter in one mailbox: milliseconds, microseconds of CPU."""
        wanted = [number_in(mailbox) + self.times for mailbox in self.mailboxes]
        cpu, start = self.server.cpu(), time.monotonic()
        self.do(self.times)
        for mailbox, number in zip(self.mailboxes, wanted, strict=True):
            while number_in(mailbox) < number:
                assert time.monotonic() - start < _PATIENCE, f"not all has arrived in {mailbox}"
                time.sleep(0.002)
        seconds, letters = time.monotonic() - start, self.times * len(self.mailboxes)
        return seconds / letters * 1e3, (self.server.cpu() - cpu) / letters * 1e6


def compare(title: str, little: Way, much: Way) -> None:
    """In turns, after each has been tried once; prints medians, and what they are to each other."""
    costs: list[list[tuple[float, float]]] = [[], []]
    for number in range(ROUNDS + 1):
        for way, found in zip((little, much), costs, strict=True):
            cost = way.cost()
            if number:
                found.append(cost)
    ways, cpus = ([statistics.median(each[index] for each in found) for found in costs] for index in (0, 1))
    print(f"{title}: {ways[0]:.2f} and {ways[1]:.2f} ms, x{ways[1] / ways[0]:.2f};", end=" ")
    print(f"CPU {cpus[0]:.0f} and {cpus[1]:.0f} us, x{cpus[1] / cpus[0]:.2f}", flush=True)


def to(server: Contender, recipient: str) -> Callable[[int], None]:
    """Send messages to one recipient, one after another."""
    sender = Sender(server.port, recipient, LETTERS)
    return lambda times: together([sender.send_all(iter(range(times)), anew=False)])


def to_all(server: Contender, recipients: Sequence[str]) -> Callable[[int], None]:
    """Send messages to all of them, in one transaction each."""

    def send(times: int) -> None:
        with smtplib.SMTP(HOST, server.port) as client:
            for number in range(times):
                refused = client.sendmail("bench@example.org", recipients, LETTERS(number))
                assert not refused, refused

    return send


def box(root: Path, address: str) -> Path:
    """Where new mail of an account comes in."""
    return root / "var" / "mail" / "localhost" / address.partition("@")[0] / "new"


def mailboxes(root: Path, messages: int, times: int) -> None:
    """One more message into a huge mailbox, beside one with few."""
    server = ours(root, PORT_BASE)
    for number, size in ((0, FEW), (1, messages)):
        maildrop.fill(box(root, user(number)).parent, size, maildrop.SIZES)
    little, much = (Way(server, [box(root, user(each))], times, to(server, user(each))) for each in (0, 1))
    compare(f"a message into a mailbox of {FEW} and of {messages:,}", little, much)


def accounts(root: Path, times: int, number: int) -> None:
    """A message to one of two accounts, beside one to one of many."""
    with instance(port_base=PORT_BASE + 10) as other:
        servers = ours(other, PORT_BASE + 10), ours(root, PORT_BASE)
        little, much = (Way(server, [server.mailbox], times, to(server, USER)) for server in servers)
        compare(f"a message to one of 2 and of {number:,} accounts", little, much)


def add_lists(root: Path, sizes: Sequence[int]) -> None:
    """A list `team-N` for each size, with N members, and N aliases that lead to it, `N-0` and so on."""
    var = root / "var"
    sections = (
        f"[team-{size}@localhost]\nowner = {USER}\npost = anybody\n"
        + "".join(f"{user(each)}\n" for each in range(size))
        for size in sizes
    )
    (var / "lists").write_text("".join(sections))
    (var / "lists").chmod(0o644)
    with (var / "aliases").open("a") as file:
        file.writelines(f"{alias(size, each)}: team-{size}@localhost\n" for size in sizes for each in range(size))


def alias(size: int, number: int) -> str:
    """One that leads to the list of that size."""
    return f"to{size}-{number}@localhost"


def aliases(root: Path, size: int) -> None:
    """A message through an alias to a list, and through all aliases to the same, beside a small list; a letter each."""
    server = ours(root, PORT_BASE)
    add_lists(root, (FEW, size))
    boxes = [[box(root, user(each)) for each in range(number)] for number in (FEW, size)]
    names = [[alias(number, each) for each in range(number)] for number in (FEW, size)]
    ways = {
        "through one alias": [to(server, some[0]) for some in names],
        "through all aliases at once": [to_all(server, some) for some in names],
    }
    for title, (few, many) in ways.items():
        words = f"{title} to a list of {FEW} and of {size:,}, for each letter"
        compare(words, Way(server, boxes[0], 20, few), Way(server, boxes[1], 1, many))


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="in the huge mailbox")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--aliases", type=int, default=1000, help="of them, and of the members of their list")
    parser.add_argument("--times", type=int, default=100, help="messages of a sample")
    asked = parser.parse_args()
    with instance(users=asked.accounts) as root:
        accounts(root, asked.times, asked.accounts)
        aliases(root, asked.aliases)
        mailboxes(root, asked.messages, asked.times)


if __name__ == "__main__":
    main()
