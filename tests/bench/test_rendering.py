"""What a run of the bench writes: tables, picture, and what is kept."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bench.picture import picture
from bench.result import Figure, Result, Row, Sample, kept, load, save
from bench.table import BEGIN, DOCUMENT, END, put_into, tables

MACHINE = {
    "cores": 2,
    "cpu": "a processor",
    "filesystem": "ext4",
    "kernel": "6.1",
    "python": "3.11.7",
    "load": 0.25,
    "calibration": 0.005,
    "limits": {"files of 4 KB made durable one by one, a second": 2631.4},
}


def samples(*rates: float, cpu: float = 0.0005) -> list[Sample]:
    return [Sample(rate, cpu, 0.00006, 1.5) for rate in rates]


def result() -> Result:
    received = {
        "mailsrv": samples(3000, 3300, 2900),
        "Postfix": samples(1000, 1000, 1000, cpu=0.0012),
        "Exim": samples(100, 110, 100),
    }
    opened = {"mailsrv": samples(100, 250, 200), "Dovecot": samples(10, 10, 10)}
    return Result(
        "2026-11-25T12:00:00+00:00",
        3,
        MACHINE,
        [
            Row("4 KB messages", "message", "Postfix", 3, 5, received, ("Exim",)),
            Row("POP3 login <to STAT>", "login", "Dovecot", 5, 20, opened, in_seconds=True),
        ],
        [Figure("drop to mailbox, p50", "ms", {"mailsrv": 7.25}, 10, 5)],
    )


def cells(text: str, beginning: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {beginning} | ") and line.count("|") > 4)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_what_is_kept_is_read_as_it_was(tmp_path: Path) -> None:
    save(result(), tmp_path / "kept.json")
    assert load(tmp_path / "kept.json") == result()


def test_a_row_tells_rates_ratios_round_by_round_cpu_and_what_is_reached() -> None:
    (row,) = (line for line in tables(result()).splitlines() if line.startswith("| 4 KB messages | 3,000/s"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "4 KB messages",
        "3,000/s (2,900 to 3,300)",
        "Postfix 1,000/s (1,000 to 1,000)",
        "3.00 (2.90 to 3.30)",
        "500, 1,200, 60 us",
        "1.5",
        "3 ✓",
        "5",
    ]


def test_how_long_something_takes_is_told_in_seconds() -> None:
    row = cells(tables(result()), "POP3 login <to STAT>")
    assert row[1:4] == ["0.005 s (0.004 to 0.010)", "Dovecot 0.100 s (0.100 to 0.100)", "20.00 (10.00 to 25.00)"]
    assert row[6:] == ["5 ✓", "20 ✓"]


def test_where_there_is_no_peer_nothing_is_said_to_be_reached() -> None:
    alone = result()
    del alone.rows[0].samples["Postfix"]
    row = cells(tables(alone), "4 KB messages")
    assert row[2:4] == ["-", "-"]
    assert row[6:] == ["3", "5"]


def test_a_figure_says_whether_it_is_low_enough() -> None:
    row = cells(tables(result()), "drop to mailbox, p50")
    assert row == ["drop to mailbox, p50", "7.25 ms", "-", "10 ms ✓", "5 ms"]


def test_other_peers_have_a_table_of_their_own() -> None:
    assert "| 4 KB messages | 30.00 (29.00 to 30.00) |" in tables(result())


def test_the_picture_is_svg_with_each_work_that_has_a_peer() -> None:
    drawn = picture(result())
    texts = [element.text for element in ET.fromstring(drawn).iter() if element.tag.endswith("text")]
    assert "POP3 login <to STAT>" in texts
    assert "3.0" in texts
    assert sum(element.tag.endswith("circle") for element in ET.fromstring(drawn).iter()) == 2


def test_a_faster_run_is_drawn_further_to_the_right() -> None:
    def points(of: Result) -> list[float]:
        return [float(each.attrib["cx"]) for each in ET.fromstring(picture(of)).iter() if each.tag.endswith("circle")]

    slow = result()
    faster = replace(slow.rows[0], samples={**slow.rows[0].samples, "mailsrv": samples(6000, 6000, 6000)})
    assert points(replace(slow, rows=[faster, slow.rows[1]]))[0] > points(slow)[0]


def test_a_document_keeps_all_but_what_stands_between_the_marks() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert put_into(document, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="expected"):
        put_into("without marks\n", "new\n")


def test_tables_and_picture_of_the_docs_are_what_the_kept_result_gives() -> None:
    path = kept()
    assert path is not None
    assert DOCUMENT.read_text() == put_into(DOCUMENT.read_text(), tables(load(path)))
    assert path.with_suffix(".svg").read_text() == picture(load(path))
