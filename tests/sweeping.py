"""A kill sweep: the loop of delivery, killed again and again under load, while clients fetch and delete what arrives.

Each process of delivery is forked, so that hundreds take seconds; half of them are killed by SIGKILL at a random
moment, half vanish before a file-system call chosen at random. At the end each has had each message exactly once.
"""

import itertools
import json
import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.daemon.deliverd import Delivery
from mailsrv.settings import Delivery as Settings
from mailsrv.store.heartbeat import Heart
from mailsrv.store.spool import Spool, State
from mailsrv.work.audit import Audit, Audited
from mailsrv.work.hand import SYMPTOM
from tests import killing
from tests.work.instance import PEOPLE, accept, config_of, drop, fetch_and_delete, make, unfinished

ALIASES: Final = "team@example.org: alice@example.org, bob@example.org, dave@example.net\n"
TO: Final = (("alice",), ("bob", "carol"), ("team",), ("carol",), ("team", "alice", "ghost"))
MOST_STEPS: Final = 600  # file-system calls, of a process that is to vanish before one of them
PATIENCE: Final = 120.0  # seconds that a slow machine gets beyond what was asked for
MOST_WAITING: Final = 100  # messages, beyond which the load waits for delivery


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a sweep: `held` were released again, as delivery had died with them twice."""

    kills: int
    messages: int
    held: int
    audited: Audited
    wrong: dict[str, int]  # messages by recipient that came another number of times than once
    left: list[str]  # what should not lie about any more


def sweep(root: Path, seconds: float, seed: int, *, kills_at_least: int = 1, messages_at_least: int = 1) -> Swept:
    """Sweep for so long, and on a slow machine until it has come to something."""
    chance = random.Random(seed)
    make(root, ALIASES)
    settings = Settings(retry_after=(1.0,), settle_seconds=0.05, scan_interval=0.2)
    config = replace(config_of(root, settings), run_as="root")
    config.run.mkdir()
    helpers = [_start(partial(_send, config, seed)), _start(partial(_fetch, config))]
    kills, end = 0, time.monotonic() + seconds
    try:
        while time.monotonic() < end or kills < kills_at_least or _count_sent(config) < messages_at_least:
            assert time.monotonic() < end + PATIENCE, f"only {kills} kills and {_count_sent(config)} messages"
            _kill_one(config, chance)
            kills += 1
    finally:
        for name in ("send", "fetch"):
            (root / f"stop-{name}").touch()
        codes = [os.waitpid(pid, 0)[1] for pid in helpers]
    assert codes == [0, 0]
    held = _settle(config)
    return _result(config, kills, held)


def _count_sent(config: Config) -> int:
    path = config.root / "sent"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _kill_one(config: Config, chance: random.Random) -> None:
    """Start delivery, and kill it. One that ends in another way has failed; its traceback is on stderr."""
    step = chance.randrange(MOST_STEPS) if chance.random() < 0.5 else None
    pid = _start(partial(_deliver, config, step))
    if step is None:
        time.sleep(chance.uniform(0.0, 0.08))
    deadline = time.monotonic() + 0.5
    while step is not None and time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            assert code == killing.KILLED, f"delivery has ended by itself, with {code}"
            return
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (-signal.SIGKILL, killing.KILLED), f"delivery has ended by itself, with {code}"


def _settle(config: Config) -> int:
    """Let delivery finish; release what it has died with twice. Gives the number of these."""
    spool, held = Spool(config.spool), 0
    pid = _start(partial(_deliver, config, None))
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "delivery has ended by itself"
            found = [each for each in spool.entries(State.HOLD) if spool.reason(each).startswith(SYMPTOM)]
            for entry_id in found:
                spool.release(entry_id)
            held += len(found)
            if not found and not unfinished(config) and not spool.entries(State.DEFERRED):
                break
            time.sleep(0.05)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return held


def _result(config: Config, kills: int, held: int) -> Swept:
    sent = [json.loads(each) for each in (config.root / "sent").read_text().splitlines()]
    expected: Counter[str] = Counter()
    for number, names in sent:
        people = {person for name in names for person in (("alice", "bob") if name == "team" else (name,))}
        expected.update(f"{number} {person}" for person in people & set(PEOPLE))
    got = Counter((config.root / "fetched").read_text().splitlines())
    for name in PEOPLE:
        got.update(f"{number} {name}" for number in map(_number_of, fetch_and_delete(config, name)) if number)
    wrong = {key: got[key] for key in expected | got if got[key] != expected[key]}
    return Swept(kills, len(sent), held, Audit(config).run(), wrong, unfinished(config))


# --- the processes ---------------------------------------------------------------------------------


def _deliver(config: Config, step: int | None) -> None:
    """`delivery`, its loop; vanishing before its file-system call number `step`."""
    logging.disable()
    if step is not None:
        killing.vanish_before(step)
    delivery = Delivery(config, Heart(config.beat_path("delivery")))
    signal.signal(signal.SIGTERM, delivery.stop)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # as the program does: a lease that somebody breaks ends it otherwise
    delivery.run()


def _send(config: Config, seed: int) -> None:
    """Put messages into `new/`, as `smtp` does it, and into the drop box, until told to stop."""
    chance = random.Random(seed + 1)
    spool = Spool(config.spool)
    with (config.root / "sent").open("w") as sent:
        for number in itertools.count(1):
            if (config.root / "stop-send").exists():
                return
            names = chance.choice(TO)
            content = f"From: alice@example.org\r\nSubject: sweep {number}\r\n\r\nbody\r\n".encode()
            if number % 5:
                accept(config, *(f"{name}@example.org" for name in names), content=content, sender="carol@example.org")
            else:
                drop(config, f"{number}.eml", b"X-Sender: <>\r\nX-Receiver: <bob@example.org>\r\n\r\n" + content)
                names = ("bob",)
            sent.write(f"{json.dumps([number, names])}\n")
            sent.flush()
            while len(spool.entries(State.NEW)) > MOST_WAITING and not (config.root / "stop-send").exists():
                time.sleep(0.01)
            time.sleep(0.002)


def _fetch(config: Config) -> None:
    """Be the POP3 clients, which fetch and delete whatever is there, until told to stop."""
    with (config.root / "fetched").open("w") as fetched:
        while not (config.root / "stop-fetch").exists():
            for name in PEOPLE:
                for number in map(_number_of, fetch_and_delete(config, name)):
                    if number:
                        fetched.write(f"{number} {name}\n")
            fetched.flush()
            time.sleep(0.001)


def _number_of(letter: bytes) -> str:
    """The number of a message; none of a report."""
    if b"multipart/report" in letter:
        return ""
    return letter.partition(b"Subject: sweep ")[2].partition(b"\n")[0].decode()


def _start(work: Callable[[], None]) -> int:
    return killing.start(work)
