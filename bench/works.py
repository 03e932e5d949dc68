"""What is measured: each work is done by one contender at a time, and checked to the last octet."""

import functools
import itertools
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contenders import Contender
from bench.load import Letters, poll, retrieve, send_all, together
from bench.temporary import PASSWORD, USER

_PATIENCE: Final = 60.0  # seconds for all to arrive
_NUMBER: Final = re.compile(rb"^Subject: bench (\d{8})\n", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """Pieces of work a second, and seconds of the server's CPU for each."""

    rate: float
    cpu: float


@dataclass(frozen=True)
class Work:
    """A work: `times` how often it is done for a sample, `per` what it counts."""

    title: str
    per: str
    times: int
    do: Callable[[Contender, int], None]
    prepare: Callable[[Contender, int], None]
    check: Callable[[Contender, int], None] = lambda _contender, _times: None

    def sample(self, contender: Contender) -> Sample:
        """Do it once, and check what came of it."""
        self.prepare(contender, self.times)
        cpu, start = contender.cpu(), time.monotonic()
        self.do(contender, self.times)
        seconds = time.monotonic() - start
        sample = Sample(self.times / seconds, (contender.cpu() - cpu) / self.times)
        self.check(contender, self.times)
        return sample


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
            functools.partial(_receive, letters, sessions, anew),
            lambda contender, _times: _empty(contender.mailbox),
            functools.partial(_check_received, letters),
        )


def handing_out(scale: float) -> Iterator[Work]:
    """Mail is fetched by POP3: of one mailbox each at a time, as it is locked."""
    letters = Letters(4096)
    yield Work(
        "POP3: connect, USER, PASS, STAT, QUIT; a mailbox of 100 messages",
        "poll",
        max(int(2000 * scale), 20),
        lambda contender, times: together(
            [lambda: poll(contender.port, USER, PASSWORD, b"+OK 100 ", iter(range(times)))]
        ),
        lambda contender, _times: _fill(contender.mailbox, letters, 100),
    )
    for title, pipelined in (("one at a time", False), ("pipelined", True)):
        yield Work(
            f"POP3: RETR of 4 KB messages, {title}",
            "message",
            max(int(5000 * scale), 100),
            functools.partial(_retrieve, letters, pipelined),
            lambda contender, times: _fill(contender.mailbox, letters, times),
        )


def _receive(letters: Letters, sessions: int, anew: bool, contender: Contender, times: int) -> None:
    numbers = iter(range(times))
    clients = [functools.partial(send_all, contender.port, USER, letters, numbers, anew=anew) for _ in range(sessions)]
    together(clients)
    deadline = time.monotonic() + _PATIENCE
    while _number_in(contender.mailbox) < times:
        assert time.monotonic() < deadline, f"{contender.name}: not all has arrived"
        time.sleep(0.005)


def _retrieve(letters: Letters, pipelined: bool, contender: Contender, times: int) -> None:
    contents = [letters(number) + b".\r\n" for number in range(times)]
    together([lambda: retrieve(contender.port, USER, PASSWORD, contents, pipelined=pipelined)])


def _number_in(mailbox: Path) -> int:
    try:
        return sum(1 for _ in mailbox.iterdir())
    except FileNotFoundError:  # Postfix makes it with the first message
        return 0


def _check_received(letters: Letters, contender: Contender, times: int) -> None:
    """Every message once, and as it was sent, but for the lines that servers put before it."""
    numbers = set()
    for path in contender.mailbox.iterdir():
        octets = path.read_bytes()
        number = _NUMBER.search(octets)
        assert number, octets[:500]
        assert octets.endswith(letters(int(number[1])).replace(b"\r\n", b"\n")), path
        numbers.add(int(number[1]))
    assert numbers == set(range(times)), f"{contender.name}: {times - len(numbers)} are missing"


def _empty(mailbox: Path) -> None:
    if mailbox.exists():
        for path in mailbox.iterdir():
            path.unlink()


def _fill(mailbox: Path, letters: Letters, number: int) -> None:
    """So many messages, in place of what there was."""
    for folder in (mailbox, mailbox.with_name("cur")):
        _empty(folder)
    for index, octets in zip(range(number), map(letters, itertools.count()), strict=False):
        stored = octets.replace(b"\r\n", b"\n")
        path = mailbox / f"{1_764_000_000 + index}.M{index:06}P7.bench,S={len(stored)},W={len(octets)}"
        path.write_bytes(stored)
        shutil.chown(path, mailbox.stat().st_uid)
