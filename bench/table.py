"""What a run has measured, in words: the tables of docs/PERFORMANCE.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.result import OURS, Figure, Result, Row, Spread

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "PERFORMANCE.md"
BEGIN: Final = "<!-- written by bench/run: begin -->"
END: Final = "<!-- written by bench/run: end -->"


def tables(result: Result) -> str:
    """All of it, in Markdown."""
    parts = (_introduction, _beside_peer, _beside_others, _figures, _limits)
    return "\n".join(line for part in parts for line in part(result)) + "\n"


def put_into(document: str, text: str) -> str:
    """A document with `text` between its marks; raises ValueError where it has none."""
    found = re.subn(
        rf"(?s)({re.escape(BEGIN)}\n).*?({re.escape(END)}\n)", lambda mark: mark[1] + text + mark[2], document
    )
    if found[1] != 1:
        raise ValueError(f"expected {BEGIN} and {END}, once")
    return found[0]


def number(value: float) -> str:
    """With as many digits as say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(spread: Spread) -> str:
    """The median, and from where to where."""
    return f"{spread.median:.2f} ({spread.lowest:.2f} to {spread.highest:.2f})"


def _introduction(result: Result) -> Iterator[str]:
    machine = result.machine
    yield f"Measured on {result.when[:10]} in {result.rounds} rounds; the load before was {machine['load']:.1f}."
    yield f"{machine['cores']} cores ({machine['cpu']}), {machine['filesystem']}, Linux {machine['kernel']},"
    yield f"Python {machine['python']}."
    yield ""
    yield f"![how many times as fast as its peers mailsrv is](../bench/results/{result.when[:10]}.svg)"
    yield ""


def _beside_peer(result: Result) -> Iterator[str]:
    yield "| work | mailsrv | peer | times as fast | CPU of mailsrv, peer, client | cores in use | reach | stretch |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in result.rows:
        peer = row.peer if row.peer in row.samples else ""
        cells = [
            row.title,
            _rate(row, OURS),
            f"{peer} {_rate(row, peer)}" if peer else "-",
            ratio(row.ratios(peer)) if peer else "-",
            f"{_cpu(row, OURS)}, {_cpu(row, peer) if peer else '-'}, {row.client_cpu(OURS):,.0f} us",
            f"{row.cores(OURS):.1f}",
            _goal(row.reach, reached=bool(peer) and row.ratios(peer).median >= row.reach),
            _goal(row.stretch, reached=bool(peer) and row.ratios(peer).median >= row.stretch),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _beside_others(result: Result) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in result.rows for name in row.others() if name != row.peer))
    if not names:
        return
    yield "How many times as fast as others mailsrv is:"
    yield ""
    yield f"| work | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for row in result.rows:
        if any(name in row.samples for name in names):
            cells = (ratio(row.ratios(name)) if name in row.samples else "-" for name in names)
            yield f"| {row.title} | {' | '.join(cells)} |"
    yield ""


def _figures(result: Result) -> Iterator[str]:
    yield "| what | mailsrv | others | reach | stretch |"
    yield "|---|---|---|---|---|"
    for figure in result.figures:
        ours = figure.values[OURS]
        others = ", ".join(f"{name} {number(each)}" for name, each in figure.values.items() if name != OURS)
        cells = [figure.title, f"{number(ours)} {figure.unit}", others or "-"]
        cells += [_at_most(figure, goal, ours) for goal in (figure.reach, figure.stretch)]
        yield f"| {' | '.join(cells)} |"


def _limits(result: Result) -> Iterator[str]:
    yield ""
    yield "| what the machine can do, measured alone | |"
    yield "|---|---|"
    for name, value in result.machine["limits"].items():
        yield f"| {name} | {number(value)} |"


def _rate(row: Row, name: str) -> str:
    spread = row.rates(name)
    if row.in_seconds:
        return f"{1 / spread.median:.3f} s ({1 / spread.highest:.3f} to {1 / spread.lowest:.3f})"
    return f"{number(spread.median)}/s ({number(spread.lowest)} to {number(spread.highest)})"


def _cpu(row: Row, name: str) -> str:
    return "-" if name in row.uncounted else f"{row.cpu(name):,.0f}"


def _goal(value: float, *, reached: bool) -> str:
    return f"{value:g}{' ✓' if reached else ''}"


def _at_most(figure: Figure, goal: float | None, value: float) -> str:
    return "-" if goal is None else f"{goal:g} {figure.unit}{' ✓' if value <= goal else ''}"
