"""What all connections of pop3 share."""

import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from mailsrv.daemon import pop3d
from mailsrv.daemon.pop3d import Pop3
from tests.work.instance import make


def test_a_mailbox_that_does_not_answer_is_told_for_as_long_as_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pop3d, "LATE_SECONDS", 0.0)
    server = Mock(problems=[])
    pop3 = Pop3(make(tmp_path), server, Mock())

    def told() -> list[str]:
        return [words for ask in server.problems if (words := ask())]

    began, end = threading.Event(), threading.Event()

    def work() -> str:
        began.set()
        end.wait(60)
        return "done"

    with pop3.workers:
        assert told() == []
        future = pop3.submit(work)
        assert began.wait(60)
        assert told() == ["pop3: a mailbox has not answered for 0 s"]
        end.set()
        assert future.result(60) == "done"
        assert told() == []
