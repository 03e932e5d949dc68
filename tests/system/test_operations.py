"""docs/OPERATIONS.md, tried line by line, on a fresh clone that runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.test_readme import Clone, _blocks

KEPT = "\ndeclare -p LOST ID 2>/dev/null > .variables || true\n"  # what one block sets, a later one uses


@pytest.fixture
def clone(place: Path) -> Iterator[Clone]:
    made = Clone(place / "mailsrv")
    made.run("bin/up --detach")
    yield made
    made.run("bin/mailsrv down")


@pytest.mark.timeout(240)
def test_the_lines_of_operations_md_do_what_it_says(clone: Clone) -> None:
    blocks = _blocks((clone.folder / "docs" / "OPERATIONS.md").read_text())
    balance, lose, write_off, trace, queue, wait, kill, route, told, full = (
        clone.run(f"[ ! -e .variables ] || source ./.variables\n{block}{KEPT}") for block in blocks
    )
    assert balance.endswith("\nbalanced\n")
    assert "MISSING " in lose
    assert lose.endswith("not balanced\nexit code 1\n")
    assert write_off.endswith("\nbalanced\n")
    assert '"figures"' in trace
    assert len(json.loads((clone.folder / "lives.json").read_text())) == 2
    assert "held by " in queue
    assert queue.endswith("is released, into new/\n")
    assert (clone.folder / "copy.eml").read_bytes().startswith(b"X-Sender: <me@localhost>")
    assert "451 4.3.0" in wait
    assert "in the mailbox of admin@localhost" in wait
    assert kill.endswith("\nbalanced\n")
    assert "delivered here" in route
    assert "550 5.1.1 no such mailbox here" in route
    assert "two@localhost -> one@localhost -> two@localhost\nexit code 1\n" in route
    assert told.endswith("Action: delivered\n")
    assert " of 1073741824 " in full
    new = clone.folder / "var" / "mail" / "localhost" / "admin" / "new"
    assert len(list(new.iterdir())) == 8  # all that was sent, but for the one that was lost, and a report
