"""What a run has measured, as it is kept in bench/results/, and what its samples come to."""

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

OURS: Final = "mailsrv"
FOLDER: Final = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Sample:
    """Pieces of work a second; seconds of CPU for each, of server and client; cores in use of the whole machine."""

    rate: float
    cpu: float
    client_cpu: float
    cores: float


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> "Spread":
        """Of one number at least."""
        found = sorted(numbers)
        return cls(statistics.median(found), found[0], found[-1])


@dataclass(frozen=True)
class Row:
    """A work and its samples by contender, in turns; `per` is what is counted.

    `reach` and `stretch` say how many times as fast as `peer` mailsrv is to be. The CPU of who is `uncounted` is not
    known. `in_seconds`: it is told how long each takes, not how many there are in a second.
    """

    title: str
    per: str
    peer: str
    reach: float
    stretch: float
    samples: dict[str, list[Sample]]
    uncounted: tuple[str, ...] = ()
    in_seconds: bool = False

    def rates(self, name: str) -> Spread:
        """Of a contender, pieces a second."""
        return Spread.of(sample.rate for sample in self.samples[name])

    def cpu(self, name: str) -> float:
        """Microseconds of CPU for each piece."""
        return statistics.median(sample.cpu for sample in self.samples[name]) * 1e6

    def client_cpu(self, name: str) -> float:
        """Microseconds of the client's CPU for each piece."""
        return statistics.median(sample.client_cpu for sample in self.samples[name]) * 1e6

    def cores(self, name: str) -> float:
        """Cores of the machine that were in use."""
        return statistics.median(sample.cores for sample in self.samples[name])

    def ratios(self, name: str) -> Spread:
        """How many times as fast as a contender mailsrv is, round by round."""
        pairs = zip(self.samples[OURS], self.samples[name], strict=True)
        return Spread.of(ours.rate / its.rate for ours, its in pairs)

    def others(self) -> Iterator[str]:
        """The contenders but mailsrv."""
        return (name for name in self.samples if name != OURS)


@dataclass(frozen=True)
class Figure:
    """A quantity by contender; of mailsrv it is to be `reach` at the most, better `stretch`; None is no goal."""

    title: str
    unit: str
    values: dict[str, float]
    reach: float | None = None
    stretch: float | None = None


@dataclass(frozen=True)
class Result:
    """A run: `when` in ISO 8601, and what the machine says of itself."""

    when: str
    rounds: int
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


def save(result: Result, path: Path) -> None:
    """Write it as JSON."""
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")


def load(path: Path) -> Result:
    """Read what `save` wrote."""
    found = json.loads(path.read_text())
    rows = [
        Row(
            **{
                **row,
                "samples": {name: [Sample(**each) for each in samples] for name, samples in row["samples"].items()},
                "uncounted": tuple(row["uncounted"]),
            }
        )
        for row in found.pop("rows")
    ]
    return Result(rows=rows, figures=[Figure(**figure) for figure in found.pop("figures")], **found)


def kept() -> Path | None:
    """The last result that is kept; None where there is none."""
    return max(FOLDER.glob("*.json"), default=None)
