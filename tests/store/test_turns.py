"""Turns at the spool: one at a time, a command is let in between two batches, and a dead holder holds nothing."""

import os
import threading
import time
from pathlib import Path

import pytest

from mailsrv.store.turns import Turns
from tests import killing


def test_a_second_one_waits_and_is_told_while_it_does(tmp_path: Path) -> None:
    ours, theirs = Turns(tmp_path / "turn"), Turns(tmp_path / "turn")
    told: list[int] = []
    with ours.taken(1), pytest.raises(TimeoutError), theirs.taken(0.05, lambda: told.append(1)):
        pass
    assert told
    with theirs.taken(0):
        pass


def test_a_busy_delivery_lets_a_command_in_after_the_batch_in_hand(tmp_path: Path) -> None:
    is_done = threading.Event()
    batches = 0

    def be_busy() -> None:
        nonlocal batches
        turns = Turns(tmp_path / "turn")
        while not is_done.is_set():
            with turns.taken(float("inf")):
                batches += 1
                time.sleep(0.02)  # the work of a batch; no moment passes between two

    delivery = threading.Thread(target=be_busy)
    delivery.start()
    command = Turns(tmp_path / "turn")
    try:
        for _ in range(5):
            before = batches
            with command.taken(10):
                assert batches - before <= 2
    finally:
        is_done.set()
        delivery.join()


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    def die_with_it() -> None:
        with Turns(tmp_path / "turn").taken(1):
            os._exit(killing.KILLED)

    assert killing.dies_before(-2, die_with_it)
    with Turns(tmp_path / "turn").taken(0):
        pass
