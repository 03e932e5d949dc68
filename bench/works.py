"""What is measured: each work is done by one contender at a time, and checked to the last octet."""

import functools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import psutil

from bench.contender import Contender
from bench.load import Letters, Sender, poll, retrieve, together
from bench.mailboxes import number_in, put_aside, put_messages
from bench.temporary import PASSWORD, USER, user

SECONDS: Final = 2.0  # that a sample takes, about
_PATIENCE: Final = 60.0  # seconds for all to arrive
_NUMBER: Final = re.compile(rb"^Subject: bench (\d{8})\n", re.MULTILINE)
POLLERS: Final = 20
READERS: Final = 8


@dataclass(frozen=True)
class Sample:
    """Pieces of work a second; seconds of CPU for each, of server and client; cores in use of the whole machine."""

    rate: float
    cpu: float
    client_cpu: float
    cores: float


@dataclass(frozen=True)
class Work:
    """A work: how often it is done for a sample, `times` at the most and `least` at the least; `per` what it counts."""

    title: str
    per: str
    times: int
    least: int
    do: Callable[[Contender, int], None]
    prepare: Callable[[Contender, int], None]
    check: Callable[[Contender, int], None] = lambda _contender, _times: None

    def times_for(self, contender: Contender) -> int:
        """How often a sample does it, so that it takes a slow one about SECONDS; it is warm afterwards."""
        if self.least == self.times:
            self.sample(contender, self.times)
            return self.times
        return min(self.times, max(self.least, int(self.sample(contender, self.least).rate * SECONDS)))

    def sample(self, contender: Contender, times: int) -> Sample:
        """Do it so often, and check what came of it."""
        self.prepare(contender, times)
        server, client, busy, start = contender.cpu(), time.process_time(), _busy(), time.monotonic()
        self.do(contender, times)
        seconds = time.monotonic() - start
        client, busy = time.process_time() - client, _busy() - busy
        server = contender.cpu() - server
        self.check(contender, times)
        return Sample(times / seconds, server / times, client / times, busy / seconds)


def receiving(scale: float) -> Iterator[Work]:
    """Mail comes in by SMTP, until all of it is in the mailbox."""
    small, large = Letters(4096), Letters(1 << 20)
    for title, letters, sessions, anew, times in (
        ("4 KB messages, 20 sessions kept open", small, 20, False, 3000),
        ("4 KB messages, 20 at once, a new connection for each", small, 20, True, 2000),
        ("4 KB messages, one session, one after another", small, 1, False, 500),
        ("1 MB messages, 4 sessions", large, 4, False, 100),
    ):
        yield Work(
            title,
            "message",
            max(int(times * scale), sessions),
            max(int(times * scale) // 4, sessions),
            functools.partial(_receive, letters, sessions, anew),
            lambda contender, _times: put_aside(contender.mailbox, contender.spent),
            functools.partial(_check_received, letters),
        )


def handing_out(scale: float) -> Iterator[Work]:
    """Mail is fetched by POP3. Each client has a mailbox of its own, as it is locked; it stays as it was left."""
    letters = Letters(4096)
    yield Work(
        "POP3 poll: connect, USER, PASS, STAT, QUIT; 20 clients, 100 messages each",
        "poll",
        max(int(3000 * scale), POLLERS),
        POLLERS,
        _poll,
        functools.partial(_fill, letters, POLLERS, lambda _times: 100),
    )
    for title, pipelined in (("one at a time", False), ("pipelined", True)):
        times = max(int(16000 * scale), 100) // READERS * READERS
        yield Work(
            f"POP3 RETR of 4 KB messages, 8 clients, {title}",
            "message",
            times,
            times,
            functools.partial(_retrieve, letters, pipelined),
            functools.partial(_fill, letters, READERS, lambda times: times // READERS),
        )


def _receive(letters: Letters, sessions: int, anew: bool, contender: Contender, times: int) -> None:
    numbers = iter(range(times))
    sender = Sender(contender.port, USER, letters)
    together(sender.send_all(numbers, anew=anew) for _ in range(sessions))
    deadline = time.monotonic() + _PATIENCE
    while True:
        looked = time.monotonic()
        if number_in(contender.mailbox) >= times:
            break
        assert looked < deadline, f"{contender.name}: not all has arrived"
        # To look is work for client and kernel: a tenth of the time at the most.
        time.sleep(max(0.002, 10 * (time.monotonic() - looked)))


def _poll(contender: Contender, times: int) -> None:
    numbers = iter(range(times))
    together(poll(contender.port, user(each), PASSWORD, b"+OK 100 ", numbers) for each in range(POLLERS))


def _retrieve(letters: Letters, pipelined: bool, contender: Contender, times: int) -> None:
    contents = [letters.ended(number) for number in range(times // READERS)]
    together(retrieve(contender.port, user(each), PASSWORD, contents, pipelined=pipelined) for each in range(READERS))


def _fill(letters: Letters, users: int, number: Callable[[int], int], contender: Contender, times: int) -> None:
    contents = [letters(each).replace(b"\r\n", b"\n") for each in range(number(times))]
    for each in range(users):
        box = contender.mailbox.parents[1] / user(each).partition("@")[0]
        put_messages(box, contents, contender.spent)


def _check_received(letters: Letters, contender: Contender, times: int) -> None:
    """Every message once, and as it was sent, but for the lines that servers add to its header."""
    numbers = set()
    for path in contender.mailbox.iterdir():
        octets = path.read_bytes()
        number = _NUMBER.search(octets)
        assert number, octets[:500]
        head, body = letters(int(number[1])).replace(b"\r\n", b"\n").split(b"\n\n", 1)
        its_head, its_body = octets.split(b"\n\n", 1)
        assert its_body == body, path
        assert [line for line in its_head.split(b"\n") if line in head.split(b"\n")] == head.split(b"\n"), path
        numbers.add(int(number[1]))
    assert len(numbers) == number_in(contender.mailbox), f"{contender.name}: some are doubled"
    assert numbers == set(range(times)), f"{contender.name}: {times - len(numbers)} are missing"


def _busy() -> float:
    """Seconds of CPU that were used on the whole machine."""
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0)) - float(getattr(times, "steal", 0.0))
