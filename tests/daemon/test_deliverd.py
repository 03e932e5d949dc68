"""The loop of delivery: when it turns, and when it does not."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.daemon.deliverd import Delivery
from mailsrv.model.identity import EntryId
from mailsrv.store.heartbeat import Heart
from mailsrv.store.retry import Retry, write_retry
from mailsrv.store.spool import Spool, State
from tests.work.instance import make


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = make(tmp_path)
    made.run.mkdir()
    return replace(made, delivery=replace(made.delivery, events=False))


def test_a_spool_out_of_reach_is_looked_at_once_a_second_also_while_something_is_due(config: Config) -> None:
    spool = Spool(config.spool)
    overdue = EntryId("0hofqxo9q6i-f85zzn5t")
    spool.path(State.DEFERRED, overdue).write_bytes(b"")
    write_retry(spool.retry_path(overdue), Retry(1, time.time() - 10))
    delivery = Delivery(config, Heart(config.beat_path("delivery")))
    delivery._decider.recover()
    spool.folder(State.NEW).rmdir()
    spool.folder(State.NEW).write_bytes(b"not a folder")
    delivery._next_scan = time.monotonic() + 10
    delivery._look(frozenset())
    assert delivery._pause() >= 1


LOCK = (
    "from mailsrv.daemon.service import be_the_only_one; from pathlib import Path; be_the_only_one('delivery', Path())"
)


def test_a_second_delivery_on_the_same_spool_refuses(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", f"{LOCK}; print('locked', flush=True); input()"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout
        assert first.stdout.readline() == "locked\n"
        second = subprocess.run([sys.executable, "-c", LOCK], cwd=tmp_path, check=False, capture_output=True)
        assert second.returncode == 75
        assert b"another delivery is at work on this spool" in second.stderr
        first.communicate("\n", timeout=10)
