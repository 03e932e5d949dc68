"""What climbs from day to day: one figure an hour of what a program takes, and a straight line through them.

Load explains no climb here. Of the CPU use only samples without progress count; of memory, files and threads the least
of each hour, which is what stays when work is over. A program that learns a lot at once jumps, and that is no climb.
Hours are those in which `health` has watched, so a clock that is set, a night switched off or a restart of `health`
bends nothing. A new process begins anew.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom, rule_of
from mailsrv.work.vitals import Sample

LEAST_SAMPLES: Final = 3  # without progress, for an hour to have a figure of the CPU use
LEAST_FIT: Final = 0.5  # of the squares, that the line explains: noise is no climb
MOST_OF_A_JUMP: Final = 0.75  # of the rise, from one quarter of the figures to the next
STAYING: Final = (Symptom.MEMORY_SLOWLY, Symptom.DESCRIPTORS_SLOWLY, Symptom.THREADS_SLOWLY)
KINDS: Final = (Symptom.CLIMBING, *STAYING)

Figures: TypeAlias = list[tuple[float, float]]  # hours watched, and what was taken then


@dataclass(slots=True)
class Course:
    """Of one process: its figures, and the hour that is being watched."""

    process: str
    hours: float = 0.0
    figures: dict[Symptom, Figures] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    quiet: list[float] = field(default_factory=list)
    least: dict[Symptom, float] = field(default_factory=dict)
    watched: float = 0.0  # seconds of this hour

    def take(self, sample: Sample, *, is_quiet: bool) -> None:
        """A sample of this hour."""
        if is_quiet:
            self.quiet.append(sample.cpu)
        for kind in STAYING:
            value = sample.measure(kind)
            self.least[kind] = min(self.least.get(kind, value), value)

    def end_hour(self, length: float) -> None:
        """The figures of this hour, whose length is that of all, in seconds."""
        self.hours += self.watched / length
        found = dict(self.least)
        if len(self.quiet) >= LEAST_SAMPLES:
            found[Symptom.CLIMBING] = statistics.median(self.quiet)
        for kind, value in found.items():
            self.figures[kind].append((self.hours, value))
            del self.figures[kind][: -rule_of(kind).window.samples]
        self.watched, self.quiet, self.least = 0.0, [], {}


class Trend:
    """The courses of all programs; `as_document` and `read` keep them over restarts of `health`."""

    def __init__(self, settings: Health) -> None:
        self._settings = settings
        self._courses: dict[str, Course] = {}

    def observe(self, program: str, process: str, seconds: float, sample: Sample, *, is_quiet: bool) -> Symptom | None:
        """What climbs, at the end of an hour. `process` tells one from the next; a sample without progress is quiet."""
        course = self._courses.get(program)
        if course is None or course.process != process:
            course = self._courses[program] = Course(process)
        course.watched += seconds
        course.take(sample, is_quiet=is_quiet)
        if course.watched < self._settings.trend_hour:
            return None
        course.end_hour(self._settings.trend_hour)
        return next((kind for kind in KINDS if self._climbs(kind, course.figures[kind])), None)

    def hours(self, program: str) -> float:
        """For how many the process has been watched."""
        course = self._courses.get(program)
        return course.hours if course else 0.0

    def figures(self, program: str, symptom: Symptom) -> Figures:
        """For the incident: those of what climbs, or of the CPU use."""
        course = self._courses.get(program)
        kind = symptom if symptom in KINDS else Symptom.CLIMBING
        return list(course.figures[kind]) if course else []

    def as_document(self) -> dict[str, object]:
        """What is to be kept, in types of JSON."""
        return {
            program: {
                "process": each.process,
                "hours": each.hours,
                "figures": {kind.value: figures for kind, figures in each.figures.items()},
            }
            for program, each in self._courses.items()
        }

    def read(self, document: object) -> None:
        """Take up what was kept; what cannot be understood is left out."""
        for program, kept in document.items() if isinstance(document, dict) else ():
            try:
                course = Course(str(kept["process"]), float(kept["hours"]))
                for kind in KINDS:
                    course.figures[kind] = [(float(hour), float(value)) for hour, value in kept["figures"][kind.value]]
            except (KeyError, TypeError, ValueError):
                continue
            self._courses[program] = course

    def _climbs(self, kind: Symptom, figures: Figures) -> bool:
        rule = rule_of(kind)
        return len(figures) >= rule.window.above and rise(figures) >= rule.bound(self._settings)


def rise(figures: Sequence[tuple[Any, Any]]) -> float:
    """By how much a straight line through `figures` rises from the first to the last; 0 where none fits."""
    hours, values = zip(*figures, strict=True)
    if len(set(hours)) < 2 or len(set(values)) < 2:
        return 0.0
    if statistics.correlation(hours, values) ** 2 < LEAST_FIT or _is_a_jump(values):
        return 0.0
    return float(statistics.linear_regression(hours, values).slope * (hours[-1] - hours[0]))


def _is_a_jump(values: Sequence[float]) -> bool:
    """Whether it is all one step, from one level to another: a line fits that as well."""
    size = len(values) / 4
    parts = [values[round(number * size) : round((number + 1) * size)] for number in range(4)]
    levels = [statistics.median_low(each) for each in parts if each]  # of two levels one, and none between them
    steps = [after - before for before, after in itertools.pairwise(levels)]
    return not steps or max(steps) >= MOST_OF_A_JUMP * (levels[-1] - levels[0])
