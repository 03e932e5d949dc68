"""What is measured: each work is done by one contender at a time, and checked to the last octet."""

import functools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import psutil

from bench import maildrop
from bench.contender import Contender
from bench.load import Letters, Sender, poll, retrieve, together
from bench.mailboxes import number_in, put_aside, put_messages, wait_for
from bench.result import Sample
from bench.temporary import PASSWORD, USER, user

SECONDS: Final = 2.0  # that a sample takes, about
_NUMBER: Final = re.compile(rb"^Subject: bench (\d{8})\n", re.MULTILINE)
POLLERS: Final = 20
READERS: Final = 8


@dataclass(frozen=True)
class Goal:
    """How many times as fast as a peer mailsrv is to be."""

    peer: str
    reach: float
    stretch: float


@dataclass(frozen=True)
class Work:
    """A work: how often it is done for a sample, `times` at the most and `least` at the least; `per` what it counts."""

    title: str
    per: str
    goal: Goal
    times: int
    least: int
    do: Callable[[Contender, int], None]
    prepare: Callable[[Contender, int], None]
    check: Callable[[Contender, int], None] = lambda _contender, _times: None
    in_seconds: bool = False  # how it is told

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
    for title, letters, sessions, anew, times, reach, stretch in (
        ("4 KB messages, 20 sessions kept open", small, 20, False, 3000, 3, 5),
        ("4 KB messages, 20 at once, a new connection for each", small, 20, True, 2000, 2.5, 4),
        ("4 KB messages, one session, one after another", small, 1, False, 500, 1.2, 2),
        ("1 MB messages, 4 sessions", large, 4, False, 100, 1.2, 2),
    ):
        yield Work(
            title,
            "message",
            Goal("Postfix", reach, stretch),
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
        "POP3 polls: login, STAT, QUIT; 20 clients, 100 messages each",
        "poll",
        Goal("Dovecot", 2, 4),
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
            Goal("Dovecot", 0.7, 1),
            times,
            times,
            functools.partial(_retrieve, letters, pipelined),
            functools.partial(_fill, letters, READERS, lambda times: times // READERS),
        )


def logging_in(messages: int) -> Iterator[Work]:
    """A huge maildrop is opened, by one client at a time."""
    title = f"POP3 login to STAT, {messages:,} messages"
    goal = Goal("Dovecot", 5, 20)
    fill = functools.partial(_fill_huge, messages)
    yield Work(f"{title}, as they were", "login", goal, 5, 5, _log_in, fill, in_seconds=True)
    yield Work(f"{title}, one more each time", "login", goal, 1, 1, _log_in, _put_one_more, in_seconds=True)


def _log_in(contender: Contender, times: int) -> None:
    together([poll(contender.port, USER, PASSWORD, b"+OK ", iter(range(times)))])


def _fill_huge(messages: int, contender: Contender, _times: int) -> None:
    box = contender.mailbox.parent
    if number_in(box / "new") + number_in(box / "cur") != messages:
        maildrop.fill(box, messages, maildrop.SIZES)


def _put_one_more(contender: Contender, _times: int) -> None:
    maildrop.put_one(contender.mailbox.parent, maildrop.SIZES, contender.name)
    time.sleep(0.1)  # a change within the clock's tick of a folder's time would be one that may come again


def _receive(letters: Letters, sessions: int, anew: bool, contender: Contender, times: int) -> None:
    numbers = iter(range(times))
    sender = Sender(contender.port, USER, letters)
    together(sender.send_all(numbers, anew=anew) for _ in range(min(sessions, contender.at_once)))
    wait_for(contender.mailbox, times, contender.name)


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
