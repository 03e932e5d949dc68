"""Judging programs by their work: high CPU is a fault only where nothing comes of it, or where it never ends."""

from collections import deque
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from mailsrv.settings import Health

WINDOW: Final = 6  # samples
TOO_MANY: Final = 5  # of them above the limit
STILL_SECONDS: Final = 3.0  # a heartbeat comes every second: progress is not told sooner


class Symptom(Enum):
    """Why a program is to be restarted, in words for the incident."""

    SPINNING = "the CPU use was above cpu_limit and no work was done"
    BUSY_TOO_LONG = "the CPU use was above cpu_limit for longer than busy_limit"


@dataclass(frozen=True, slots=True)
class Sample:
    """`moment` in monotonic seconds, `cpu` in percent of one core, `progress` as the heartbeat tells it."""

    moment: float
    cpu: float
    progress: int


class Judge:
    """Keeps the last samples of one process, and judges them."""

    def __init__(self, settings: Health) -> None:
        self._settings = settings
        self._samples: deque[Sample] = deque(maxlen=WINDOW)
        self._moved: Sample | None = None  # the first sample with the progress that the last one has
        self._busy_since: float | None = None

    def observe(self, sample: Sample) -> Symptom | None:
        """Take a sample; the symptom that it completes, if any."""
        self._samples.append(sample)
        if self._moved is None or sample.progress != self._moved.progress:
            self._moved = sample
        if sum(each.cpu > self._settings.cpu_limit for each in self._samples) < TOO_MANY:
            self._busy_since = None
            return None
        if sample.moment - self._moved.moment >= max(STILL_SECONDS, sample.moment - self._samples[0].moment):
            return Symptom.SPINNING
        if self._busy_since is None:
            self._busy_since = self._samples[0].moment
        if sample.moment - self._busy_since > self._settings.busy_limit:
            return Symptom.BUSY_TOO_LONG
        return None

    def evidence(self) -> list[dict[str, Any]]:
        """The samples, for the incident."""
        return [asdict(sample) for sample in self._samples]
