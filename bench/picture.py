"""A picture of a run, in SVG: how many times as fast as its peer mailsrv is, beside what it is to reach."""

import math
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from bench.result import Result, Row, Spread

WIDTH: Final = 1000
LEFT: Final = 430  # where the scale begins
RIGHT: Final = 950
TOP: Final = 70
STEP: Final = 34  # between rows
SCALE: Final = (0.125, 128.0)
COLOURS: Final = {"reach": "#c77700", "stretch": "#7a3fb0", "mailsrv": "#1464a5", "line": "#d8d8d8"}


def picture(result: Result) -> str:
    """The whole file."""
    rows = [row for row in result.rows if row.peer in row.samples]
    height = TOP + STEP * len(rows) + 50
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(20, 24, f"Times as fast as Postfix (SMTP) and Dovecot (POP3), {result.when[:10]}", size=16),
        *_legend(),
        *_grid(height - 40),
        *(line for index, row in enumerate(rows) for line in _row(row, TOP + STEP * (index + 0.5))),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _x(value: float) -> float:
    low, high = (math.log2(each) for each in SCALE)
    share = (min(max(math.log2(value), low), high) - low) / (high - low)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def _grid(bottom: float) -> Iterator[str]:
    low, high = (round(math.log2(each)) for each in SCALE)
    for power in range(low, high + 1):
        x = _x(2.0**power)
        colour = "#808080" if power == 0 else COLOURS["line"]
        yield f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{bottom}" stroke="{colour}"/>'
        yield _text(x, bottom + 16, f"{2.0**power:g}", anchor="middle")


def _legend() -> Iterator[str]:
    for x, name, words in (
        (430, "mailsrv", "median, lowest to highest"),
        (640, "reach", "to reach"),
        (740, "stretch", "stretch"),
    ):
        yield f'<rect x="{x}" y="40" width="10" height="10" fill="{COLOURS[name]}"/>'
        yield _text(x + 16, 50, words)


def _row(row: Row, y: float) -> Iterator[str]:
    spread: Spread = row.ratios(row.peer)
    yield _text(LEFT - 12, y + 4, row.title, anchor="end", size=12)
    for name, goal in (("reach", row.reach), ("stretch", row.stretch)):
        yield f'<rect x="{_x(goal) - 1.5}" y="{y - 11}" width="3" height="22" fill="{COLOURS[name]}"/>'
    start, end, colour = _x(spread.lowest), _x(spread.highest), COLOURS["mailsrv"]
    yield f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="{colour}" stroke-width="4"/>'
    yield f'<circle cx="{_x(spread.median)}" cy="{y}" r="6" fill="{colour}"/>'
    yield _text(RIGHT + 8, y + 4, f"{spread.median:.1f}")


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
