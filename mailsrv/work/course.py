"""The course of healing: which step is next, and when, for a program whose symptom comes back.

Each time that a symptom comes back within an hour the step is raised: the process, then its neighbours as well, then
postmaster is told, once. Restarts of a program back off; five in ten minutes are a storm, and from then on the clock
is slow. Kept over restarts of `health` by the machine's own clock, which begins anew when the machine does.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from mailsrv.work.symptoms import Symptom

AGAIN_SECONDS: Final = 3600.0  # within which the same symptom of a program is the same case
STORM: Final = 5  # restarts of a program
STORM_SECONDS: Final = 600.0  # within so many seconds
FIRST_PAUSE: Final = 5.0  # seconds before the second restart, doubling

# Whose work a program's own depends on.
NEIGHBOURS: Final = {"smtp": ("delivery",), "delivery": ("smtp",), "pop3": ("delivery",), "relay": ("delivery",)}


class Step(IntEnum):
    """How far healing goes."""

    PROCESS = 1
    NEIGHBOURS = 2
    LOUD = 3


@dataclass(frozen=True, slots=True)
class Healed:
    """A healing that was begun, `moment` in monotonic seconds."""

    moment: float
    program: str
    symptom: str


class Course:
    """What was healed lately, and what that means for the next time."""

    def __init__(self, slow_clock: float) -> None:
        self._slow_clock = slow_clock
        self._healed: list[Healed] = []
        self._told: dict[tuple[str, str], float] = {}  # cases that postmaster knows of, and when they were last met

    def step(self, program: str, symptom: Symptom, now: float) -> Step:
        """The step that is next."""
        times = sum(each.symptom == symptom.value for each in self._lately(program, now, AGAIN_SECONDS))
        return Step(min(times + 1, Step.LOUD))

    def ready_at(self, program: str, now: float) -> float:
        """When a program may be restarted next, in monotonic seconds."""
        recent = self._lately(program, now, STORM_SECONDS)
        if not recent:
            return now
        pause = self._slow_clock if self.is_storm(program, now) else FIRST_PAUSE * 2 ** (len(recent) - 1)
        return recent[-1].moment + min(pause, self._slow_clock)

    def is_storm(self, program: str, now: float) -> bool:
        """Whether the breaker is open."""
        return len(self._lately(program, now, STORM_SECONDS)) >= STORM

    def begin(self, program: str, symptom: Symptom, now: float) -> None:
        """It is being healed."""
        self._healed = [each for each in self._healed if 0 <= now - each.moment < AGAIN_SECONDS]
        self._healed.append(Healed(now, program, symptom.value))

    def is_to_be_told(self, program: str, symptom: Symptom, now: float) -> bool:
        """Whether postmaster has still to be told of the case; true once, until there was an hour without it."""
        case = (program, symptom.value)
        is_new = not 0 <= now - self._told.get(case, float("-inf")) < AGAIN_SECONDS
        self._told[case] = now
        return is_new

    def as_document(self) -> dict[str, object]:
        """What is to be kept, in types of JSON."""
        healed = [[each.moment, each.program, each.symptom] for each in self._healed]
        return {"healed": healed, "told": [[*case, moment] for case, moment in self._told.items()]}

    def read(self, document: object, now: float) -> None:
        """Take up what was kept, if it can be understood and is of this start of the machine."""
        try:
            kept: dict[str, list[list[str]]] = dict(document)  # type: ignore[call-overload]
            healed = [Healed(float(moment), str(program), str(symptom)) for moment, program, symptom in kept["healed"]]
            told = {(str(program), str(symptom)): float(moment) for program, symptom, moment in kept["told"]}
        except (TypeError, ValueError, KeyError):
            return
        self._healed = [each for each in healed if 0 <= now - each.moment < AGAIN_SECONDS]
        self._told = told

    def _lately(self, program: str, now: float, seconds: float) -> list[Healed]:
        return [each for each in self._healed if each.program == program and now - each.moment < seconds]
