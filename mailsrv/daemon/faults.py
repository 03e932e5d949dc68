"""Faults for the drill: with `hooks` on, SIGUSR2 makes a program suffer from what `var/run/NAME.fault` says.

Each is the real thing: a core that is taken, memory that is held, files that stay open. Without the file, it spins.
"""

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Final

from mailsrv.host.bell import Bell

logger = logging.getLogger(__name__)

PAUSE: Final = 0.05  # seconds between steps of what grows
DRIP_PAUSE: Final = 0.25  # the same of what grows slowly
MOST_DRIPS: Final = 500
MOST_DESCRIPTORS: Final = 3000
MOST_MEGABYTES: Final = 2000
MOST_THREADS: Final = 300
CLIMB_SECONDS: Final = 30.0  # until a climb of the CPU use has come to its end
CLIMB_SHARE: Final = 0.6  # of a core at its end

_held: Final[list[Any]] = []


def _spin(_argument: float) -> None:
    """Take all of a core and do nothing, for ever."""
    while True:
        pass


def _hang(_argument: float) -> None:
    """Do nothing at all, for ever."""
    while True:
        time.sleep(3600)


def _exit(_argument: float) -> None:
    """Vanish."""
    os._exit(1)


def _climb(argument: float) -> None:
    """Take more of a core from second to second, while the main loop goes on; `argument` is how long it climbs."""
    began = time.monotonic()

    def step() -> bool:
        share = min(1.0, (time.monotonic() - began) / (argument or CLIMB_SECONDS)) * CLIMB_SHARE
        until = time.thread_time() + PAUSE * share / (1 - share)
        while time.thread_time() < until:
            pass
        return True

    _grow("climb", step)


def _leak_memory(argument: float) -> None:
    """Hold 5 MB more with every step, up to `argument`."""

    def step() -> bool:
        _held.append(bytearray(os.urandom(1)) * 5_000_000)
        return len(_held) * 5 < (argument or MOST_MEGABYTES)

    _grow("memory", step)


def _leak_descriptors(_argument: float) -> None:
    """Open twenty files more with every step."""

    def step() -> bool:
        _held.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(20))
        return len(_held) < MOST_DESCRIPTORS

    _grow("descriptors", step)


def _limit_descriptors(argument: float) -> None:
    """No more than `argument` files may be open from now on."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(argument), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _leak_threads(_argument: float) -> None:
    """Begin five threads more with every step."""

    def step() -> bool:
        _held.extend(_one_thread() for _ in range(5))
        return len(_held) < MOST_THREADS

    _grow("threads", step)


def _drip(take: Callable[[], object]) -> Callable[[float], None]:
    """Hold one more of something with every step, a few each second, and never let go of it."""

    def begin(_argument: float) -> None:
        def step() -> bool:
            _held.append(take())
            return len(_held) < MOST_DRIPS

        _grow("drip", step, DRIP_PAUSE)

    return begin


def _one_thread() -> threading.Thread:
    made = threading.Thread(target=threading.Event().wait, daemon=True)
    made.start()
    return made


def _grow(name: str, step: Callable[[], bool], pause: float = PAUSE) -> None:
    def run() -> None:
        while step():
            time.sleep(pause)

    threading.Thread(target=run, name=name, daemon=True).start()


def _step_clock(argument: float) -> None:
    """For this program the clock is `argument` seconds off; the machine's is left alone, as others need it."""
    real_time = time.time

    class Stepped(datetime):
        """A datetime by that clock."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stepped":
            return cls.fromtimestamp(real_time() + argument, tz)

    time.time = lambda: real_time() + argument
    for name, module in list(sys.modules.items()):
        if name.startswith("mailsrv") and getattr(module, "datetime", None) is datetime:
            module.datetime = Stepped  # type: ignore[attr-defined]


FAULTS: Final[dict[str, Callable[[float], None]]] = {
    "spin": _spin,
    "hang": _hang,
    "exit": _exit,
    "climb": _climb,
    "memory": _leak_memory,
    "descriptors": _leak_descriptors,
    "limit": _limit_descriptors,
    "threads": _leak_threads,
    "drip-memory": _drip(lambda: bytearray(os.urandom(1)) * 2_000_000),
    "drip-descriptors": _drip(lambda: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)),
    "drip-threads": _drip(_one_thread),
    "clock": _step_clock,
}


def add_faults_of(bell: Bell) -> None:
    """The threads that file events come by may end as well, or bring nothing any more."""
    for part in ("observer", "emitter", "reader", "silence"):
        FAULTS[part] = partial(_break_down, bell, part)


def _break_down(bell: Bell, part: str, _argument: float) -> None:
    bell.break_down(part)


def install(path: Path) -> None:
    """Suffer from what `path` says, a word of FAULTS and perhaps a number, whenever SIGUSR2 comes."""

    def suffer(_signal: int, _frame: object) -> None:
        word, argument = _read(path)
        logger.warning("the drill: %s", word)
        FAULTS[word](argument)

    signal.signal(signal.SIGUSR2, suffer)


def _read(path: Path) -> tuple[str, float]:
    try:
        word, _, argument = path.read_text("ascii").strip().partition(" ")
        path.unlink()
        return (word, float(argument or 0)) if word in FAULTS else ("spin", 0.0)
    except (OSError, ValueError):
        return "spin", 0.0
