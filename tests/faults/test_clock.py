"""A clock that is set, either way, under a running delivery; by libfaketime, so that the machine keeps its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsrv.config import Config, render
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from tests.faults.running import assert_arrived_once, instance, wait_until
from tests.work.instance import accept, break_mailbox, letters

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
YEAR = 365 * 86_400

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = instance(tmp_path)
    made.path.write_text(render(made))
    return made


@pytest.fixture
def start(config: Config) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts the real program, whose clock is as many seconds off as the file `offset` says."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(config.root / "offset"),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        command = [sys.executable, "-m", "mailsrv.daemon.deliverd", "--root", str(config.root)]
        with (config.root / "log").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, stderr=log))
        wait_until(lambda: "started, process" in (config.root / "log").read_text(), "it has started")
        return started[-1]

    set_clock(config, 0)
    yield start_one
    for process in started:
        process.kill()
        process.wait()


def set_clock(config: Config, offset: int) -> None:
    """Set the clock of the program; it sees that at its next look."""
    draft = config.root / "offset.new"
    draft.write_text(f"{offset:+d}s\n")
    draft.rename(config.root / "offset")


@pytest.mark.parametrize("step", [-YEAR, -3600, 3600, YEAR])
def test_a_clock_that_is_set_while_mail_waits(
    config: Config, start: Callable[[], subprocess.Popen[bytes]], step: int
) -> None:
    box = break_mailbox(config, "bob")
    entry_id = accept(config, "alice@example.org", "bob@example.org")
    start()
    wait_until(lambda: Spool(config.spool).entries(State.DEFERRED), "it is deferred")
    set_clock(config, step)

    def has_been_tried_again() -> bool:
        retry = read_retry(Spool(config.spool).retry_path(entry_id))
        return retry is not None and retry.attempts > 2

    wait_until(has_been_tried_again, "its retries go on")
    retry = read_retry(Spool(config.spool).retry_path(entry_id))
    assert retry is not None
    assert abs(retry.since - time.time() - step) < 60  # its clock is indeed set
    assert retry.waited < 60
    assert len(letters(config, "alice")) == 1  # no report of delay or failure came to her, the sender
    box.unlink()
    assert_arrived_once(config, alice=1, bob=1)
    worst = json.loads((config.run / "delivery.beat").read_text())["facts"]["worst_wait"]
    assert worst < 60


@pytest.mark.parametrize("step", [-YEAR, YEAR])
def test_a_clock_that_is_set_while_delivery_is_down(
    config: Config, start: Callable[[], subprocess.Popen[bytes]], step: int
) -> None:
    box = break_mailbox(config, "bob")
    accept(config, "alice@example.org", "bob@example.org")
    first = start()
    wait_until(lambda: Spool(config.spool).entries(State.DEFERRED), "it is deferred")
    first.terminate()
    first.wait()
    box.unlink()
    set_clock(config, step)
    start()
    assert_arrived_once(config, alice=1, bob=1)
