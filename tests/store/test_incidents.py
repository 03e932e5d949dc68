"""Incidents are kept by count and by age; the last steps of a program outlive it."""

import os
import time
from pathlib import Path

from mailsrv.store import incidents
from mailsrv.store.steps import LINE_OCTETS, LINES, Steps, read_steps


def test_the_oldest_go_beyond_the_most_that_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        incidents.keep(tmp_path, "smtp", {"number": number}, "")
    incidents.prune(tmp_path, 3, 90)
    assert [each.report["number"] for each in incidents.read_all(tmp_path)] == [2, 3, 4]


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    old = incidents.keep(tmp_path, "smtp", {"number": 0}, "")
    incidents.keep(tmp_path, "smtp", {"number": 1}, "")
    os.utime(old, (time.time() - 91 * 86_400,) * 2)
    incidents.prune(tmp_path, 100, 90)
    assert [each.report["number"] for each in incidents.read_all(tmp_path)] == [1]


def test_what_became_of_it_is_added(tmp_path: Path) -> None:
    place = incidents.keep(tmp_path, "smtp", {"symptom": "x"}, "stacks")
    incidents.note(place, outcome="RUNNING")
    (found,) = incidents.read_all(tmp_path)
    assert (found.report["symptom"], found.report["outcome"], found.stacks) == ("x", "RUNNING", "stacks")


def test_the_last_steps_are_read_in_order_also_after_the_ring_has_gone_round(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "smtp.steps")
    assert read_steps(tmp_path / "smtp.steps") == []
    for number in range(LINES + 10):
        steps.note("smtp #1", f"step {number}")
    steps.note("smtp #1", "é" * 1000)
    found = read_steps(tmp_path / "smtp.steps")
    assert len(found) == LINES
    assert [each.split()[-1] for each in found[:-1]] == [str(number) for number in range(11, LINES + 10)]
    assert len(found[-1]) < LINE_OCTETS
    assert read_steps(tmp_path / "nobody.steps") == []
