"""How long messages wait to be decided, whatever the clock is set to."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.work import waits
from mailsrv.work.waits import Waits
from tests.work.test_schedule import Clocks


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(waits, "time", made)
    return made


def arrived(clocks: Clocks) -> EntryId:
    return new_entry_id(datetime.fromtimestamp(clocks.time(), UTC))


@pytest.mark.parametrize("step", [-1e6, 0.0, 1e6])
def test_a_wait_is_as_long_as_it_was_whatever_the_clock_is_set_to(clocks: Clocks, tmp_path: Path, step: float) -> None:
    made = Waits(tmp_path / "worst")
    made.look([])
    entry = arrived(clocks)
    clocks.pass_by(0.01)
    made.look([entry])
    clocks.set_by_people += step
    clocks.pass_by(5)
    assert made.oldest() == pytest.approx(5, abs=0.1)
    made.decided([entry])
    assert made.worst == pytest.approx(5, abs=0.1)


def test_what_was_decided_is_not_the_oldest_until_the_next_look(clocks: Clocks, tmp_path: Path) -> None:
    made = Waits(tmp_path / "worst")
    made.look([])
    entry = arrived(clocks)
    made.look([entry])
    made.decided([entry])
    clocks.pass_by(10)
    assert made.oldest() == 0


def test_what_lay_there_before_we_started_has_waited_since_it_came(clocks: Clocks, tmp_path: Path) -> None:
    entry = arrived(clocks)
    clocks.pass_by(3600)
    made = Waits(tmp_path / "worst")
    made.look([entry])
    made.decided([entry])
    assert made.worst == pytest.approx(3600)


def test_the_worst_is_remembered_over_restarts(clocks: Clocks, tmp_path: Path) -> None:
    entry = arrived(clocks)
    clocks.pass_by(50)
    made = Waits(tmp_path / "worst")
    made.look([entry])
    made.decided([entry])
    assert Waits(tmp_path / "worst").worst == pytest.approx(50)
