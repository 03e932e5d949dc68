"""Judging programs by their work: high CPU is a fault only where nothing comes of it, or where it never ends."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

from mailsrv.settings import Health
from mailsrv.work.symptoms import Symptom, rule_of

STILL_SECONDS: Final = 3.0  # a heartbeat comes every second: progress is not told sooner
MEGABYTE: Final = 1_000_000
DESCRIPTORS_OF_CONNECTION: Final = 2  # the socket, and the file that is being received or sent

_SPINNING: Final = rule_of(Symptom.SPINNING)
_CLIMBS: Final = tuple(rule_of(each) for each in (Symptom.MEMORY, Symptom.DESCRIPTORS, Symptom.THREADS))


@dataclass(frozen=True, slots=True)
class Sample:
    """`moment` in monotonic seconds, `cpu` in percent of one core, `progress` as the heartbeat tells it.

    `memory` in octets; `beat_age` in seconds; `workers` are threads that it knows to be at work; `is_waiting` while the
    process waits for a disk.
    """

    moment: float
    cpu: float
    progress: int
    beat_age: float = 0.0
    memory: int = 0
    descriptors: int = 0
    threads: int = 0
    connections: int = 0
    workers: int = 0
    is_waiting: bool = False

    def measure(self, symptom: Symptom) -> float:
        """What the threshold of a climb is held against."""
        if symptom is Symptom.MEMORY:
            return self.memory / MEGABYTE
        if symptom is Symptom.DESCRIPTORS:
            return self.descriptors - DESCRIPTORS_OF_CONNECTION * self.connections
        return self.threads - self.workers


class Judge:
    """Keeps the last samples of one process, and judges them."""

    def __init__(self, settings: Health) -> None:
        self._settings = settings
        self._samples: deque[Sample] = deque(maxlen=_SPINNING.window.samples)
        self._moved: Sample | None = None  # the first sample with the progress that the last one has
        self._busy_since: float | None = None
        self._stale = 0  # samples in a row

    def observe(self, sample: Sample) -> Symptom | None:
        """Take a sample; the symptom that it completes, if any."""
        self._samples.append(sample)
        if self._moved is None or sample.progress != self._moved.progress:
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
        if sum(each.cpu > limit for each in self._samples) < _SPINNING.window.above:
            self._busy_since = None
            return None
        if sample.moment - moved.moment >= max(STILL_SECONDS, sample.moment - self._samples[0].moment):
            return Symptom.SPINNING
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
