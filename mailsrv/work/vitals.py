"""Judging programs by their work: high CPU is a fault only where nothing comes of it, or far less than it should."""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom, rule_of

STILL_SECONDS: Final = 3.0  # a heartbeat comes every second: progress is not told sooner
MEGABYTE: Final = 1_000_000
LEAST_WORK: Final = 20  # units of progress that tell a pace
POOR: Final = 10.0  # times less than in the best moments

_SPINNING: Final = rule_of(Symptom.SPINNING)
_CLIMBS: Final = tuple(rule_of(each) for each in (Symptom.MEMORY, Symptom.DESCRIPTORS, Symptom.THREADS))


@dataclass(frozen=True, slots=True)
class Sample:
    """`moment` in monotonic seconds, `cpu` in percent of one core, `progress` as the heartbeat tells it.

    `memory` in octets; `beat_age` in seconds; `is_waiting` while the process waits for a disk. Of descriptors and
    threads, so many are explained by work: they come and go with it.
    """

    moment: float
    cpu: float
    progress: int
    beat_age: float = 0.0
    memory: int = 0
    descriptors: int = 0
    threads: int = 0
    explained_descriptors: int = 0
    explained_threads: int = 0
    is_waiting: bool = False
    has_begun: bool = True

    def measure(self, symptom: Symptom) -> float:
        """What the threshold of a climb is held against."""
        match symptom:
            case Symptom.MEMORY | Symptom.MEMORY_SLOWLY:
                return self.memory / MEGABYTE
            case Symptom.DESCRIPTORS | Symptom.DESCRIPTORS_SLOWLY:
                return self.descriptors - self.explained_descriptors
            case Symptom.THREADS | Symptom.THREADS_SLOWLY:
                return self.threads - self.explained_threads
        return self.cpu


class Pace:
    """How much progress a program makes for its CPU time: in its best moments, and lately.

    Hard work that goes at its usual pace is left alone however long it lasts. Something that takes a core beside the
    work, or makes it ever more costly, is not the work.
    """

    def __init__(self) -> None:
        self._best = 0.0  # progress a second of CPU time

    def is_poor(self, samples: Sequence[Sample]) -> bool:
        """Whether the last samples of a process show far less progress than has been seen for as much CPU time.

        Where no pace is known yet, any is poor.
        """
        work = samples[-1].progress - samples[0].progress
        pairs = itertools.pairwise(samples)
        seconds = sum(after.cpu / 100 * (after.moment - before.moment) for before, after in pairs)
        if seconds <= 0:
            return False
        if work >= LEAST_WORK:
            self._best = max(self._best, work / seconds)
        return not self._best or work / seconds <= self._best / POOR


class Judge:
    """Keeps the last samples of one process, and judges them; `pace` is that of the program, and outlives it."""

    def __init__(self, settings: Health, pace: Pace | None = None) -> None:
        self._settings = settings
        self._pace = pace or Pace()
        self._samples: deque[Sample] = deque(maxlen=_SPINNING.window.samples)
        self._moved: Sample | None = None  # the first sample with the progress that the last one has
        self._busy_since: float | None = None
        self._stale = 0  # samples in a row

    def observe(self, sample: Sample) -> Symptom | None:
        """Take a sample; the symptom that it completes, if any."""
        self._samples.append(sample)
        # To import one's modules takes a core and makes no progress; who never comes to the end of it is stale.
        if self._moved is None or sample.progress != self._moved.progress or not sample.has_begun:
            self._moved = sample
        return self._cpu(sample, self._moved) or self._heartbeat(sample) or self._climb()

    def still_for(self, moment: float) -> float:
        """Seconds for which `progress` has not changed."""
        return moment - self._moved.moment if self._moved is not None else 0.0

    def has_just_worked(self) -> bool:
        """Whether `progress` has changed between the last two samples."""
        return len(self._samples) < 2 or self._samples[-1].progress != self._samples[-2].progress

    def evidence(self) -> list[dict[str, Any]]:
        """The samples, for the incident."""
        return [asdict(sample) for sample in self._samples]

    def _cpu(self, sample: Sample, moved: Sample) -> Symptom | None:
        limit = _SPINNING.bound(self._settings)
        is_poor = self._pace.is_poor(self._samples)
        if sum(each.cpu > limit for each in self._samples) < _SPINNING.window.above:
            self._busy_since = None
            return None
        if sample.moment - moved.moment >= max(STILL_SECONDS, sample.moment - self._samples[0].moment):
            return Symptom.SPINNING
        if not is_poor:
            self._busy_since = None
            return None
        if self._busy_since is None:
            self._busy_since = self._samples[0].moment
        if sample.moment - self._busy_since > rule_of(Symptom.BUSY_TOO_LONG).seconds(self._settings):
            return Symptom.BUSY_TOO_LONG
        return None

    def _heartbeat(self, sample: Sample) -> Symptom | None:
        """A disk that does not answer is not cured by a restart, so who waits for one is given longer."""
        rule = rule_of(Symptom.STALE)
        limit = self._settings.busy_limit if sample.is_waiting else rule.bound(self._settings)
        self._stale = self._stale + 1 if sample.beat_age > limit else 0
        return Symptom.STALE if self._stale >= rule.window.samples else None

    def _climb(self) -> Symptom | None:
        """Above the limit in every sample: what comes and goes with load falls below it in between."""
        for rule in _CLIMBS:
            limit = rule.bound(self._settings)
            if len(self._samples) == rule.window.samples and all(
                each.measure(rule.symptom) > limit for each in self._samples
            ):
                return rule.symptom
        return None


class Strand:
    """Whether the oldest entry of `new/` is left lying, as one sample after another sees it."""

    def __init__(self, settings: Health) -> None:
        self._settings = settings
        self._oldest = ""
        self._since = 0.0

    def observe(self, moment: float, oldest: str, still_for: float) -> Symptom | None:
        """`oldest` is the entry that arrived first, or empty; for `still_for` seconds delivery has done nothing."""
        if oldest != self._oldest:
            self._oldest, self._since = oldest, moment
        if not oldest:
            return None
        limit = rule_of(Symptom.STRANDED).seconds(self._settings)
        lies = moment - self._since
        is_stranded = (lies > limit and still_for > limit) or lies > max(limit, self._settings.busy_limit)
        return Symptom.STRANDED if is_stranded else None
