"""What an operator does with entries, and that it is safe while delivery works."""

import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.settings import Delivery
from mailsrv.store.batch import Plan, write_batch
from mailsrv.store.ledger import Reader
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.store.turns import Turns
from mailsrv.work import operating
from mailsrv.work.audit import Audit
from mailsrv.work.decide import Decider
from mailsrv.work.operating import NotPossibleError, Operator
from mailsrv.work.outlook import queue
from mailsrv.work.routing import Directory
from tests.work.instance import (
    accept,
    break_mailbox,
    config_of,
    deliver,
    drop,
    fetch_and_delete,
    ledger_of,
    letters,
    maildir_of,
    make,
    names_in,
    unfinished,
)
from tests.work.test_audit import state_of

LATER = Delivery(retry_after=(3600.0,))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    make(tmp_path)
    return ours(tmp_path, LATER)


def ours(root: Path, delivery: Delivery) -> Config:
    """An instance whose programs run as whoever runs the test."""
    return replace(config_of(root, delivery), run_as="root")


@pytest.fixture
def spool(config: Config) -> Spool:
    return Spool(config.spool)


def decider_of(config: Config) -> Decider:
    made = Decider(config, Spool(config.spool), Directory(config), ledger_of(config), lambda _in_hand: None)
    made.recover()
    return made


def fates_of(config: Config, entry_id: EntryId) -> list[str]:
    lines = sorted(Reader(config.books).read(), key=lambda line: float(line["t"]))
    return [line["fate"] for line in lines if line["id"] == entry_id]


def deferred(config: Config) -> EntryId:
    """An entry of which alice has her copy and bob waits; what kept it from bob is mended."""
    box = break_mailbox(config, "bob")
    entry_id = accept(config, "alice@example.org", "bob@example.org")
    decider_of(config).decide()
    assert len(fetch_and_delete(config, "alice")) == 1
    box.unlink()
    return entry_id


def test_what_is_to_be_tried_again_is_tried_at_once_by_a_running_delivery(config: Config, spool: Spool) -> None:
    entry_id = deferred(config)
    running = decider_of(config)
    running.decide()
    assert letters(config, "bob") == []
    before = read_retry(spool.retry_path(entry_id))
    Operator(config).retry(entry_id)
    after = read_retry(spool.retry_path(entry_id))
    assert before is not None
    assert after is not None
    assert (after.attempts, after.destinations) == (before.attempts, before.destinations)
    running.decide()
    assert len(letters(config, "bob")) == 1
    assert letters(config, "alice") == []
    assert names_in(spool.folder(State.DEFERRED)) == []


def test_what_is_held_stays_until_it_is_released_and_what_was_served_is_not_served_again(
    config: Config, spool: Spool
) -> None:
    entry_id = deferred(config)
    running = decider_of(config)
    Operator(config).hold(entry_id, "to be looked at")
    running.decide()
    running.relearn()
    assert spool.entries(State.HOLD) == [entry_id]
    assert spool.reason(entry_id).endswith(": to be looked at")
    assert names_in(spool.folder(State.DEFERRED)) == []
    assert Operator(config).release(entry_id) == "deferred/"
    assert names_in(spool.folder(State.HOLD)) == []
    running.decide()
    assert len(letters(config, "bob")) == 1
    assert letters(config, "alice") == []
    assert fates_of(config, entry_id) == ["accepted", "delivered", "deferred", "held", "released", "delivered"]
    assert Audit(config).run().is_balanced
    assert unfinished(config) == []


@pytest.mark.parametrize("state", list(State))
def test_an_entry_is_removed_from_wherever_it_is_with_what_lies_beside_it(
    config: Config, spool: Spool, state: State
) -> None:
    entry_id = deferred(config)
    if state is State.HOLD:
        Operator(config).hold(entry_id)
    elif state is not State.DEFERRED:
        entry_id = accept(config, "dave@example.net")
        if state is State.REMOTE:
            decider_of(config).decide()
            (entry_id,) = spool.entries(State.REMOTE)
    Operator(config).remove(entry_id)
    assert spool.state_of(entry_id) is None
    assert not any(name.startswith(entry_id) for name in names_in(spool.folder(state)))
    (line,) = [each for each in Reader(config.books).read() if (each["id"], each["fate"]) == (entry_id, "removed")]
    assert line["was"] == state.value
    assert line["recipients"]
    assert line["who"]
    assert Audit(config).run().is_balanced


def test_what_cannot_be_done_is_told_with_what_can_be(config: Config, spool: Spool) -> None:
    operator = Operator(config)
    entry_id = deferred(config)
    with pytest.raises(NotPossibleError, match="is in deferred/; `mailsrv queue retry` has it tried at once"):
        operator.release(entry_id)
    operator.hold(entry_id)
    for attempt in (operator.hold, operator.retry):
        with pytest.raises(NotPossibleError, match="is in hold/; `mailsrv queue release` has it decided"):
            attempt(entry_id)
    with pytest.raises(NotPossibleError, match="there is no entry x in the spool"):
        operator.remove(EntryId("x"))
    assert spool.entries(State.HOLD) == [entry_id]


def test_a_held_file_that_is_no_entry_goes_into_the_drop_box_anew(config: Config, spool: Spool) -> None:
    claim = spool.claim(
        drop(config, "a.eml", b"X-Receiver: <bob@example.org>\nX-Sender: <>\n\nhello\n"),
        EntryId("0hofqxo9q6i-f85zzn5t"),
    )
    spool.hold_claim(claim, "it killed twice")
    assert Operator(config).release(claim.entry_id).endswith("0hofqxo9q6i-f85zzn5t.eml")
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert names_in(spool.folder(State.HOLD)) == []
    assert Audit(config).run().is_balanced


def test_an_entry_that_an_interrupted_delivery_has_half_delivered_is_not_moved(config: Config, spool: Spool) -> None:
    entry_id = accept(config, "bob@example.org")
    write_batch(spool.batch, [Plan(entry_id, State.NEW, 0, (), {})])
    for do in (Operator(config).hold, Operator(config).remove):
        with pytest.raises(NotPossibleError, match="is half delivered"):
            do(entry_id)
    assert spool.entries(State.NEW) == [entry_id]


def test_a_delivery_that_does_not_let_go_is_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating, "PATIENCE", 0.05)
    entry_id = deferred(config)
    with Turns(config.turns).taken(1), pytest.raises(NotPossibleError, match="has the spool in hand"):
        Operator(config).remove(entry_id)


def test_listing_writes_nothing(config: Config) -> None:
    deferred(config)
    accept(config, "bob@example.org")
    before = state_of(config)
    assert len(queue(config)) == 2
    assert state_of(config) == before


def test_what_was_delivered_before_a_power_loss_is_not_delivered_again_when_it_is_released(
    config: Config, spool: Spool
) -> None:
    entry_id = accept(config, "bob@example.org")
    octets = spool.path(State.NEW, entry_id).read_bytes()
    deliver(config)
    (letter,) = (maildir_of(config, "bob") / "new").iterdir()
    letter.rename(maildir_of(config, "bob") / "cur" / f"{letter.name}:2,S")  # it was read meanwhile
    spool.path(State.NEW, entry_id).write_bytes(octets)  # its removal was lost
    Operator(config).hold(entry_id)
    running = decider_of(config)
    assert Operator(config).release(entry_id) == "new/"
    running.decide()
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []


def test_an_entry_that_cannot_be_read_is_listed_with_the_others_and_says_why(config: Config, spool: Spool) -> None:
    first, second, third = (deferred(config), deferred(config), accept(config, "bob@example.org"))
    spool.retry_path(first).unlink()
    spool.retry_path(first).mkdir()  # a fault that also root meets
    Operator(config).hold(second)
    (spool.folder(State.HOLD) / f"{second}.txt").write_bytes(b"by \xff me\n")
    found = {each.entry_id: each.reason for each in queue(config)}
    assert found == {
        first: f"cannot be read: Is a directory: {spool.retry_path(first)}",
        second: "by \ufffd me",
        third: "",
    }


@pytest.mark.timeout(60)
def test_holding_releasing_and_removing_while_delivery_works_loses_and_doubles_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    config = ours(tmp_path, Delivery(retry_after=(0.0,)))
    spool = Spool(config.spool)
    ids = [accept(config, "alice@example.org", "bob@example.org") for _ in range(300)]
    is_done = threading.Event()
    removed: set[EntryId] = set()
    held: set[EntryId] = set()

    def operate() -> None:
        operator = Operator(config)
        for number, entry_id in enumerate(itertools.chain(reversed(ids), reversed(ids))):
            try:
                if number % 3 == 0:
                    operator.remove(entry_id)
                    removed.add(entry_id)
                else:
                    operator.hold(entry_id)
                    held.add(entry_id)
            except NotPossibleError:
                continue
        for entry_id in spool.entries(State.HOLD):
            operator.release(entry_id)
        is_done.set()

    thread = threading.Thread(target=operate)
    thread.start()
    decider = decider_of(config)
    deadline = time.monotonic() + 50
    while not is_done.is_set() or spool.entries(State.NEW) or spool.entries(State.DEFERRED):
        assert time.monotonic() < deadline
        decider.decide()
    thread.join()
    assert removed
    assert held
    for name in ("alice", "bob"):
        assert len(letters(config, name)) == len(ids) - len(removed)
    audited = Audit(config).run()
    assert (audited.missing, audited.doubled, audited.waiting) == ((), (), 0)
