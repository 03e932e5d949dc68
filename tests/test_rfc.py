"""docs/RFC.md, held: each requirement names a line of code and a test that are there; each citation has its row."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "RFC.md"
HEAD: Final = ["section", "requirement", "code", "test"]
LEAST: Final = 200  # rows

_PLACE: Final = re.compile(r"`(mailsrv/[\w/]+\.py)`: `([^`]+)`")
_TEST: Final = re.compile(r"`(tests/[^`]+)`")
_SECTION: Final = re.compile(r"(RFC \d+|PROXY) §\d+(?:\.\d+)*")
# "RFC 5321 §4.5.1", and "§7.2" alone, which is of the standard named before it on its line or else of its module's.
_CITATION: Final = re.compile(r"RFC (\d+)|§(\d+(?:\.\d+)*)")
_STANDARD_OF: Final = {
    "model/address.py": "RFC 5321",
    "model/trace.py": "RFC 5321",
    "protocol/header.py": "RFC 5322",
    "protocol/pop3.py": "RFC 1939",
    "protocol/proxy.py": "PROXY",
    "protocol/smtp.py": "RFC 5321",
    "protocol/smtp_commands.py": "RFC 5321",
}


class Row(NamedTuple):
    """One requirement."""

    section: str
    requirement: str
    code: str
    test: str


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def rows() -> Iterator[Row]:
    """Every row below a head of four; one that has not four cells is told, not left out."""
    is_inside = False
    for line in DOCUMENT.read_text("utf-8").splitlines():
        found = cells(line)
        is_inside = line.startswith("|") and (is_inside or found == HEAD)
        if is_inside and found != HEAD and not line.startswith("|---"):
            assert len(found) == len(HEAD), line
            yield Row(*found)


ROWS = list(rows())
TOLD = {row.section for row in ROWS}
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section} {row.requirement[:40]}")


@functools.cache
def statements(path: str) -> tuple[str, ...]:
    """The lines of a module, without its comments and its docstrings: they decide nothing."""
    source = (ROOT / path).read_text("utf-8")
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            number, start = token.start
            lines[number - 1] = lines[number - 1][:start]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[number - 1] = ""
    return tuple(lines)


@functools.cache
def always_run_in(path: str) -> frozenset[str]:
    """The tests of a module that always run."""
    functions = ast.parse((ROOT / path).read_text("utf-8")).body
    return frozenset(
        each.name
        for each in functions
        if isinstance(each, ast.FunctionDef)
        and each.name.startswith("test_")
        and not any("skip" in ast.unparse(mark) or "xfail" in ast.unparse(mark) for mark in each.decorator_list)
    )


def cited() -> Iterator[tuple[str, str, str]]:
    """What the code cites: the file, and the standard, with its section or none."""
    for path in sorted((ROOT / "mailsrv").rglob("*.py")):
        name = path.relative_to(ROOT / "mailsrv").as_posix()
        for line in path.read_text("utf-8").splitlines():
            standard = _STANDARD_OF.get(name, "")
            for number, section in _CITATION.findall(line):
                if number:
                    standard = f"RFC {number}"
                yield name, standard, section


def test_there_are_rows_and_none_twice() -> None:
    assert len(ROWS) >= LEAST
    assert len({(row.section, row.requirement) for row in ROWS}) == len(ROWS)


@each_row
def test_a_row_says_where_and_how_strongly_it_is_asked_for(row: Row) -> None:
    assert _SECTION.fullmatch(row.section), row.section
    assert re.fullmatch(r"\S.{20,}\.", row.requirement), row.requirement
    assert re.search(r"\b(MUST|SHOULD|MAY)\b", row.requirement), row.requirement


@each_row
def test_the_line_of_code_is_there(row: Row) -> None:
    places = _PLACE.findall(row.code)
    assert places, row.code
    assert "; ".join(f"`{path}`: `{fragment}`" for path, fragment in places) == row.code
    for path, fragment in places:
        lines = [line for line in statements(path) if fragment in line]
        assert len(lines) == 1, (path, fragment, lines)


@each_row
def test_the_test_is_there(row: Row) -> None:
    named = _TEST.findall(row.test)
    assert named, row.test
    assert ", ".join(f"`{name}`" for name in named) == row.test
    for name in named:
        path, _, function = name.partition("::")
        assert (ROOT / path).is_file(), path
        if path.startswith("tests/protocol/dialogues/"):
            assert path.endswith(".txt"), path
            assert not function
        else:
            assert function in always_run_in(path), name


def test_every_section_that_the_code_cites_has_a_row() -> None:
    for name, standard, section in cited():
        if section:
            assert standard, f"{name}: §{section} of what?"
            wanted = f"{standard} §{section}"
            assert any(each == wanted or each.startswith(f"{wanted}.") for each in TOLD), f"{name}: {wanted}"


def test_every_standard_that_the_code_names_is_named_in_the_document() -> None:
    named = set(re.findall(r"RFC \d+", DOCUMENT.read_text("utf-8")))
    assert {standard for _, standard, section in cited() if not section} <= named
