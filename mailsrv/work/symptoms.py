"""The one table of healing: symptom, how it is measured, within which window, what is done, and how far that goes.

The judge reads its numbers here; docs/HEALTH.md holds the same table, written by `python -m mailsrv.work.symptoms FILE`
and compared by a test. A threshold or a window may be the name of a setting in `[health]`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from mailsrv.settings import Delivery, Health

BEGIN: Final = "<!-- the table of mailsrv/work/symptoms.py -->"
END: Final = "<!-- its end -->"


class Symptom(Enum):
    """What is wrong with a program, in words for logs and incidents."""

    SPINNING = "spinning"
    BUSY_TOO_LONG = "busy too long"
    CLIMBING = "CPU climbs"
    STALE = "no heartbeat"
    NO_ANSWER = "does not answer"
    NO_WAY_THROUGH = "a message does not come through"
    STRANDED = "mail stranded"
    MEMORY = "memory climbs"
    DESCRIPTORS = "descriptors climb"
    THREADS = "threads climb"
    MEMORY_SLOWLY = "memory climbs slowly"
    DESCRIPTORS_SLOWLY = "descriptors climb slowly"
    THREADS_SLOWLY = "threads climb slowly"
    WATCH_DEAD = "file events are dead"
    BACKOFF = "does not start"
    FATAL = "given up by supervisord"
    EXITED = "ended by accident"
    STOPPED = "stopped by a person"
    SUPERVISORD = "supervisord is busy or large"
    HEALTH = "health is silent"


class Action(Enum):
    """What is done; the evidence is kept before it."""

    KILL = "kill -9; supervisord starts it again"
    DRAIN = "SIGTERM, `drain_seconds` to finish, then kill -9; supervisord starts it again"
    START = "start it"
    REPAIR = "the program watches anew, without a restart"
    REPORT = "an incident, and a problem in `mailsrv status`"
    NOTHING = "left alone, and shown so in `mailsrv status`"


class Limit(Enum):
    """How far the action goes where the symptom comes back."""

    COURSE = "the course below: neighbours, postmaster, back-off, slow clock"
    SLOW_CLOCK = "every `slow_clock` seconds, for ever"
    SUPERVISORD = "supervisord tries again, each time a second later, for ever"
    AT_ONCE = "supervisord starts it at once; five incidents in ten minutes"
    SERVICE_MANAGER = "the service manager restarts it: without good signs from `health`, systemd does"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Window:
    """`above` of the last `samples` samples; or for `seconds`, a number or the name of a setting.

    Of figures, one each `trend_hour`, `above` is the least number, and `samples` the largest.
    """

    above: int = 0
    samples: int = 0
    seconds: str | float = 0.0
    is_of_figures: bool = False

    def words(self) -> str:
        """As the documents say it."""
        if self.is_of_figures:
            return f"{self.above} to {self.samples} figures"
        if self.samples:
            return f"{self.above} of {self.samples} samples"
        return f"{_bound(self.seconds)} s" if self.seconds else "at once"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row; `threshold` is what the measure is held against."""

    symptom: Symptom
    measured: str
    threshold: str | float
    unit: str
    window: Window
    action: Action
    limit: Limit

    def bound(self, settings: Health) -> float:
        """The threshold as a number."""
        return _number(self.threshold, settings)

    def seconds(self, settings: Health) -> float:
        """The window as a number of seconds."""
        return _number(self.window.seconds, settings)


_RESTART: Final = (Action.DRAIN, Limit.COURSE)
_OFTEN: Final = Window(5, 6)
_ALWAYS: Final = Window(6, 6)
_DAYS: Final = Window(24, 168, is_of_figures=True)

RULES: Final = (
    Rule(
        Symptom.SPINNING,
        "CPU use, children included, above {}, and `progress` stands still since the first heartbeat or later",
        "cpu_limit",
        "% of a core",
        _OFTEN,
        Action.KILL,
        Limit.COURSE,
    ),
    Rule(
        Symptom.BUSY_TOO_LONG,
        "the same, while `progress` grows, but ten times less for the CPU time than in the program's best moments:"
        " 5 of 6 samples above {}, all the time",
        "cpu_limit",
        "% of a core",
        Window(seconds="busy_limit"),
        *_RESTART,
    ),
    Rule(
        Symptom.CLIMBING,
        "CPU use in samples without progress, one figure each `trend_hour`; a straight line through them rises by {}",
        "trend_limit",
        "% of a core",
        _DAYS,
        *_RESTART,
    ),
    Rule(
        Symptom.STALE,
        "age of the heartbeat above {}; while the process waits for a disk, `busy_limit`",
        "beat_limit",
        "s",
        Window(2, 2),
        Action.KILL,
        Limit.COURSE,
    ),
    Rule(
        Symptom.NO_ANSWER,
        "a dialogue from greeting to QUIT, every `probe_interval`, takes longer than {} or breaks off",
        "probe_timeout",
        "s",
        Window(3, 3),
        *_RESTART,
    ),
    Rule(
        Symptom.NO_WAY_THROUGH,
        "a message to a mailbox of our own, every `message_interval`, by SMTP and back by POP3, is not back within {}"
        " while delivery does nothing",
        "message_timeout",
        "s",
        Window(2, 2),
        *_RESTART,
    ),
    Rule(
        Symptom.STRANDED,
        "the oldest entry of `spool/new` stays the same, and `progress` stands still; or moves, for `busy_limit`",
        "stranded_limit",
        "s",
        Window(seconds="stranded_limit"),
        *_RESTART,
    ),
    Rule(Symptom.MEMORY, "resident memory above {}", "memory_limit", "MB", _ALWAYS, *_RESTART),
    Rule(
        Symptom.DESCRIPTORS,
        "open files, less two for each connection and one for each entry in hand, above {}",
        "descriptor_limit",
        "",
        _ALWAYS,
        *_RESTART,
    ),
    Rule(
        Symptom.THREADS,
        "threads, less those that send, above {}",
        "thread_limit",
        "",
        _ALWAYS,
        *_RESTART,
    ),
    Rule(
        Symptom.MEMORY_SLOWLY,
        "the least resident memory of each `trend_hour`; a straight line through these figures rises by {}",
        "memory_trend",
        "MB",
        _DAYS,
        *_RESTART,
    ),
    Rule(Symptom.DESCRIPTORS_SLOWLY, "the same of open files, by {}", "descriptor_trend", "", _DAYS, *_RESTART),
    Rule(Symptom.THREADS_SLOWLY, "the same of threads, by {}", "thread_trend", "", _DAYS, *_RESTART),
    Rule(
        Symptom.WATCH_DEAD,
        "of delivery and relay: reader, emitter or observer has ended; a watched folder is another one; or a file"
        " that the program makes at each scan is not heard of until the next",
        Delivery().scan_interval,
        "s",
        Window(),
        Action.REPAIR,
        Limit.NONE,
    ),
    Rule(Symptom.BACKOFF, "supervisord's state BACKOFF", 0.0, "", Window(), Action.REPORT, Limit.SUPERVISORD),
    Rule(Symptom.FATAL, "supervisord's state FATAL", 0.0, "", Window(), Action.START, Limit.SLOW_CLOCK),
    Rule(
        Symptom.EXITED,
        "supervisord's event EXITED that healing has not made; the state EXITED that lasts is started as FATAL is",
        0.0,
        "",
        Window(),
        Action.REPORT,
        Limit.AT_ONCE,
    ),
    Rule(Symptom.STOPPED, "supervisord's state STOPPED", 0.0, "", Window(), Action.NOTHING, Limit.NONE),
    Rule(
        Symptom.SUPERVISORD,
        "supervisord's own CPU use above {}, or its memory above `memory_limit`; or it does not answer",
        "cpu_limit",
        "% of a core",
        _OFTEN,
        Action.REPORT,
        Limit.SERVICE_MANAGER,
    ),
    Rule(
        Symptom.HEALTH,
        "delivery looks at the heartbeat of `health`: older than {}, or FATAL",
        "beat_limit",
        "s",
        Window(),
        Action.KILL,
        Limit.SLOW_CLOCK,
    ),
)
_BY_SYMPTOM: Final = {rule.symptom: rule for rule in RULES}


def rule_of(symptom: Symptom) -> Rule:
    """The row of a symptom."""
    return _BY_SYMPTOM[symptom]


def markdown() -> str:
    """The table as the documents have it."""
    return "\n".join(_lines())


def put_into(text: str) -> str:
    """`text` with the table between its two marks; raises ValueError where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN} and {END}")
    return f"{before}{begin}\n{markdown()}\n{end}{after}"


def _lines() -> Iterator[str]:
    yield "| symptom | measured | window | action | limit |"
    yield "|---|---|---|---|---|"
    for rule in RULES:
        unit = f" {rule.unit}" if rule.unit else ""
        measured = rule.measured.format(f"{_bound(rule.threshold)}{unit}")
        cells = (rule.symptom.value, measured, rule.window.words(), rule.action.value, rule.limit.value)
        yield f"| {' | '.join(cells)} |"


def _bound(value: str | float) -> str:
    return f"`{value}` ({getattr(Health(), value):g})" if isinstance(value, str) else f"{value:g}"


def _number(value: str | float, settings: Health) -> float:
    return float(getattr(settings, value)) if isinstance(value, str) else value


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(put_into(document.read_text("utf-8")), "utf-8")
