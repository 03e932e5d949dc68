"""CPU use that climbs from day to day: what a program takes while it does nothing, one figure an hour.

Load explains no climb here, as only samples without progress count. Hours are those in which `health` has watched, so
a clock that is set, a night switched off or a restart of `health` bends nothing. A new process begins anew.
"""

import statistics
from dataclasses import dataclass, field
from typing import Final

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom, rule_of

LEAST_SAMPLES: Final = 3  # without progress, for an hour to have a figure
LEAST_FIT: Final = 0.5  # of the squares, that the line explains: a single jump is no climb


@dataclass(slots=True)
class Course:
    """Of one process: `figures` as [hours watched, percent of a core], and the hour that is being watched."""

    process: str
    hours: float = 0.0
    figures: list[tuple[float, float]] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    watched: float = 0.0  # seconds of this hour


class Trend:
    """The courses of all programs; `as_document` and `read` keep them over restarts of `health`."""

    def __init__(self, settings: Health) -> None:
        self._settings = settings
        self._courses: dict[str, Course] = {}

    def observe(self, program: str, process: str, seconds: float, quiet_cpu: float | None) -> Symptom | None:
        """`process` tells one process from the next; `quiet_cpu` is None in a sample with progress."""
        course = self._courses.get(program)
        if course is None or course.process != process:
            course = self._courses[program] = Course(process)
        course.watched += seconds
        if quiet_cpu is not None:
            course.quiet.append(quiet_cpu)
        if course.watched < self._settings.trend_hour:
            return None
        course.hours += course.watched / self._settings.trend_hour
        if len(course.quiet) >= LEAST_SAMPLES:
            course.figures.append((course.hours, statistics.median(course.quiet)))
        course.watched, course.quiet = 0.0, []
        rule = rule_of(Symptom.CLIMBING)
        del course.figures[: -rule.window.samples]
        is_climb = len(course.figures) >= rule.window.above and rise(course.figures) >= rule.bound(self._settings)
        return Symptom.CLIMBING if is_climb else None

    def figures(self, program: str) -> list[tuple[float, float]]:
        """For the incident."""
        course = self._courses.get(program)
        return list(course.figures) if course else []

    def as_document(self) -> dict[str, object]:
        """What is to be kept, in types of JSON."""
        return {
            program: {"process": each.process, "hours": each.hours, "figures": [list(pair) for pair in each.figures]}
            for program, each in self._courses.items()
        }

    def read(self, document: object) -> None:
        """Take up what was kept; what cannot be understood is left out."""
        for program, kept in document.items() if isinstance(document, dict) else ():
            try:
                figures = [(float(hour), float(cpu)) for hour, cpu in kept["figures"]]
                self._courses[program] = Course(str(kept["process"]), float(kept["hours"]), figures)
            except (KeyError, TypeError, ValueError):
                continue


def rise(figures: list[tuple[float, float]]) -> float:
    """By how much a straight line through `figures` rises from the first to the last; 0 where none fits."""
    hours, cpu = zip(*figures, strict=True)
    if len(set(hours)) < 2 or len(set(cpu)) < 2:
        return 0.0
    if statistics.correlation(hours, cpu) ** 2 < LEAST_FIT:
        return 0.0
    return float(statistics.linear_regression(hours, cpu).slope * (hours[-1] - hours[0]))
