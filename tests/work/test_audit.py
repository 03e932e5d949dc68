"""The books balance, and name what does not: message by message, recipient by recipient."""

import os
import time
import tracemalloc
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import EntryId, derived_id, new_entry_id
from mailsrv.store import ledger
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.spool import Spool, State
from mailsrv.work.audit import Audit, Audited
from mailsrv.work.operating import NotPossibleError, Operator
from tests.work.instance import (
    PEOPLE,
    accept,
    break_mailbox,
    deliver,
    drop,
    fetch_and_delete,
    ledger_of,
    maildir_of,
    make,
)

MAIL = b"From: alice@example.org\nTo: bob@example.org\nSubject: x\n\nHello.\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = make(tmp_path, "team@example.org: alice@example.org, bob@example.org, dave@example.net\n")
    ledger.begin(made.books)
    return replace(made, run_as="root")  # whoever runs the test


def audit(config: Config) -> Audited:
    return Audit(config).run()


def smtp(config: Config) -> Ledger:
    return Ledger(config.books, "smtp", config.ledger.keep_days)


def path_of(config: Config, state: State, entry_id: EntryId) -> Path:
    return Spool(config.spool).path(state, entry_id)


def test_everything_that_can_become_of_mail_balances(config: Config) -> None:
    break_mailbox(config, "carol")
    accept(config, "bob@example.org")
    accept(config, "Team@example.org", "alice@example.org", "ghost@example.org")
    accept(config, "carol@example.org", "bob@example.org")
    accept(config, "ghost@example.org", sender="")
    drop(config, "a.eml", MAIL)
    drop(config, "b.eml", b"nonsense\n")
    deliver(config)
    accept(config, "bob@example.org")
    found = audit(config)
    assert found.is_balanced
    assert (found.unannounced, found.repeated) == (0, 0)
    assert found.lines["accepted"] > 5
    assert (found.lines["claimed"], found.lines["bad"]) == (2, 1)
    spool = Spool(config.spool)
    assert found.waiting == sum(len(spool.entries(state)) for state in State)
    assert found.messages == found.settled + found.waiting


def test_a_file_deleted_by_hand_from_new_is_named_with_its_recipients(config: Config) -> None:
    accept(config, "carol@example.org")
    lost = accept(config, "bob@example.org", "alice@example.org")
    path_of(config, State.NEW, lost).unlink()
    first, second = audit(config).missing
    assert first.startswith(f"{lost} to alice@example.org: accepted at 20")
    assert second.startswith(f"{lost} to bob@example.org: ")
    assert second.endswith("from alice@example.org; it is not in the spool, and nothing tells what became of it")
    Operator(config).write_off(lost)  # somebody has looked into it
    assert audit(config).is_balanced
    present = accept(config, "bob@example.org")
    with pytest.raises(NotPossibleError, match="is in new/"):
        Operator(config).write_off(present)


@pytest.mark.parametrize("state", [State.DEFERRED, State.REMOTE, State.HOLD])
def test_a_file_deleted_by_hand_from_another_folder_is_named_too(config: Config, state: State) -> None:
    box = break_mailbox(config, "carol")
    accept(config, "carol@example.org", "bob@example.org", "dave@example.net")
    deliver(config)
    if state is State.HOLD:
        (entry_id,) = Spool(config.spool).entries(State.DEFERRED)
        Spool(config.spool).hold(State.DEFERRED, entry_id, "a person's whim")
    assert audit(config).is_balanced
    (entry_id,) = Spool(config.spool).entries(state)
    path_of(config, state, entry_id).unlink()
    box.unlink()
    deliver(config)
    (missing,) = audit(config).missing
    assert missing.startswith(f"{entry_id} to {'dave@example.net' if state is State.REMOTE else 'carol@example.org'}: ")


def test_a_recipient_of_whom_nothing_is_said_is_named_though_the_others_were_served(config: Config) -> None:
    books = ledger_of(config)
    entry_id = accept(config, "bob@example.org", "team@example.org")
    path_of(config, State.NEW, entry_id).unlink()
    routes = {"team@example.org": ["alice@example.org", "bob@example.org"]}
    books.write([line(Kind.DELIVERED, entry_id, to=["bob@example.org"], routes=routes)])
    (missing,) = audit(config).missing
    assert missing.startswith(f"{entry_id} to team@example.org: ")
    books.write([line(Kind.DELIVERED, entry_id, to=["alice@example.org"], routes=routes)])
    assert audit(config).is_balanced


def test_what_the_same_boot_has_delivered_twice_is_named(config: Config) -> None:
    entry_id = accept(config, "bob@example.org", "alice@example.org")
    octets = path_of(config, State.NEW, entry_id).read_bytes()
    deliver(config)
    assert audit(config).is_balanced
    for name in PEOPLE:
        fetch_and_delete(config, name)
    path_of(config, State.NEW, entry_id).write_bytes(octets)  # put back by hand
    deliver(config)
    found = audit(config)
    assert [each.partition(":")[0] for each in found.doubled] == [
        f"{entry_id} to alice@example.org",
        f"{entry_id} to bob@example.org",
    ]
    assert found.missing == ()
    Operator(config).write_off(entry_id)
    assert audit(config).is_balanced


def test_what_an_audit_has_settled_is_known_to_the_next_one(config: Config) -> None:
    entry_id = accept(config, "bob@example.org")
    octets = path_of(config, State.NEW, entry_id).read_bytes()
    deliver(config)
    auditor = Audit(config)
    assert (auditor.run().settled, auditor.run().settled) == (1, 1)
    fetch_and_delete(config, "bob")
    path_of(config, State.NEW, entry_id).write_bytes(octets)
    other = accept(config, "carol@example.org")
    deliver(config)
    found = auditor.run()
    assert (found.settled, found.messages) == (2, 2)
    (doubled,) = found.doubled
    assert doubled.startswith(f"{entry_id} to bob@example.org: delivered again at 20")
    assert other not in doubled


def test_what_another_boot_delivers_again_is_counted_and_no_error(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_id = accept(config, "bob@example.org")
    octets = path_of(config, State.NEW, entry_id).read_bytes()
    deliver(config)
    fetch_and_delete(config, "bob")
    path_of(config, State.NEW, entry_id).write_bytes(octets)  # its removal had not reached the disk
    other = config.root / "boot_id"
    other.write_text("another\n")
    monkeypatch.setattr(ledger, "BOOT_ID", other)
    deliver(config)
    found = audit(config)
    assert (found.is_balanced, found.repeated) == (True, 1)


def test_what_came_before_the_books_were_begun_is_not_asked_after(tmp_path: Path) -> None:
    config = make(tmp_path)
    lost = accept(config, "bob@example.org")
    path_of(config, State.NEW, lost).unlink()
    time.sleep(0.001)
    ledger.begin(config.books)
    assert audit(config).is_balanced
    path_of(config, State.NEW, accept(config, "bob@example.org")).unlink()
    assert not audit(config).is_balanced


def test_an_entry_whose_acceptance_a_kill_has_kept_out_of_the_books_is_counted_and_no_error(config: Config) -> None:
    entry_id = accept(config, "bob@example.org")
    smtp_books = next(part.path for part in ledger.files(config.books) if part.program == "smtp")
    smtp_books.write_bytes(
        b"".join(each for each in smtp_books.read_bytes().splitlines(keepends=True) if entry_id.encode() not in each)
    )
    deliver(config)
    found = audit(config)
    assert (found.is_balanced, found.unannounced) == (True, 1)


def test_an_alias_that_was_changed_meanwhile_leaves_nothing_open(config: Config) -> None:
    box = break_mailbox(config, "bob")
    accept(config, "team@example.org")
    deliver(config)
    config.aliases.write_text("team@example.org: alice@example.org\n", "utf-8")
    deliver(config)
    assert Spool(config.spool).entries(State.DEFERRED) == []
    assert audit(config).is_balanced
    assert box.is_file()


@pytest.mark.parametrize(
    "recipient", ["far@example.org", "FAR@example.org", "dave@Example.NET", "jörg@éx.example", "old@example.org"]
)
def test_mail_that_is_only_sent_on_balances(config: Config, recipient: str) -> None:
    config.aliases.write_text("far@example.org: Dave@Example.NET, ghost@example.org\nold@example.org: x@EXAMPLE.net\n")
    accept(config, recipient)
    deliver(config)
    audited = audit(config)
    assert audited.is_balanced, audited.missing
    assert (len(Spool(config.spool).entries(State.REMOTE)), audited.unannounced) == (1, 0)


def test_only_what_has_failed_is_told_as_bounced(config: Config) -> None:
    wanted = ("<ghost@example.org>", "<team@example.org> NOTIFY=SUCCESS", "<bob@example.org> NOTIFY=SUCCESS")
    receivers = "".join(f"X-Receiver: {each}\r\n" for each in wanted)
    entry_id = accept(config, block=f"X-Sender: <alice@example.org>\r\n{receivers}".encode())
    deliver(config)
    (bounced,) = [each for each in ledger.Reader(config.books).read() if each["fate"] == "bounced"]
    assert (bounced["id"], bounced["to"]) == (entry_id, ["report ghost@example.org"])
    assert audit(config).is_balanced, audit(config).missing


def test_a_message_without_a_sender_that_was_held_released_and_held_again_balances(config: Config) -> None:
    block = b"X-Sender: <>\r\nX-Receiver: <Ghost@Example.org>\r\n"
    accept(config, block=block + b"X-Arrived: 2026-11-23T12:00:01+00:00 with=report-to-postmaster\r\n")
    deliver(config)
    (held,) = Spool(config.spool).entries(State.HOLD)
    Operator(config).release(held)
    deliver(config)
    assert audit(config).is_balanced, audit(config).missing
    assert Spool(config.spool).entries(State.HOLD) == [derived_id(held, "held")]


def test_a_removed_or_released_entry_is_accounted_for(config: Config) -> None:
    books = smtp(config)
    for kind, facts in ((Kind.REMOVED, {}), (Kind.RELEASED, {"file": "x.eml"})):
        entry_id = accept(config, "bob@example.org")
        path_of(config, State.NEW, entry_id).unlink()
        assert not audit(config).is_balanced
        books.write([line(kind, entry_id, **facts)])
        assert audit(config).is_balanced


def test_an_audit_writes_nothing(config: Config) -> None:
    accept(config, "bob@example.org")
    before = state_of(config)
    audit(config)
    assert state_of(config) == before


def state_of(config: Config) -> dict[Path, int]:
    """Every file and folder, and when it was last changed."""
    return {path: path.lstat().st_mtime_ns for path in config.root.rglob("*")}


def test_mail_that_flows_meanwhile_is_never_told_as_missing(config: Config) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test runner may have threads
        pid = os.fork()
    if pid == 0:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            accept(config, "team@example.org", "ghost@example.org")
            deliver(config)
        os._exit(0)
    try:
        audits = 0
        auditor = Audit(config)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            assert auditor.run().is_balanced
            assert audit(config).is_balanced
            audits += 1
        pid = 0
    finally:
        if pid:
            os.waitpid(pid, 0)
    assert audits > 3
    assert maildir_of(config, "bob").is_dir()


LISTS = """[list@example.org]
owner = carol@example.org
post = anybody
alice@example.org
ghost@example.org
dave@example.net
[nobody@example.org]
owner = carol@example.org
post = anybody
"""


def test_of_many_messages_only_those_under_way_are_in_memory(config: Config) -> None:
    """Once a message took 2.6 KB until the audit was over, and the first one reads a month."""
    number, incoming, delivered = 3000, smtp(config), ledger_of(config)
    for _ in range(number // 100):
        ids = [new_entry_id(datetime.now(UTC)) for _ in range(100)]
        incoming.write([line(Kind.ACCEPTED, each, **{"from": "", "to": ["bob@example.org"]}) for each in ids])
        delivered.write([line(Kind.DELIVERED, each, to=["bob@example.org"]) for each in ids])
    tracemalloc.start()
    try:
        found = audit(config)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.messages, found.settled, found.missing) == (number, number, ())
    assert peak < 700 * number


def test_lists_answers_warnings_and_reports_of_success_balance(tmp_path: Path) -> None:
    aliases = "team@example.org: alice@example.org, dave@example.net, nowhere@example.org\n"
    config = make(tmp_path, aliases, LISTS, "inbound *@old.example -> *@example.org\n")
    ledger.begin(config.books)
    config.quotas.write_text("bob@example.org messages=4\ncarol@example.org octets=100\n")
    config.away.mkdir()
    (config.away / "bob@example.org").write_text("I am away.\n")
    letter = b"Received: x\r\nTo: bob@example.org\r\n\r\nHello.\r\n"
    for _ in range(6):
        accept(config, "bob@example.org", content=letter)
    accept(config, "list@example.org", "team@example.org", "bob+x@old.example", "nobody@example.org")
    accept(config, "carol@example.org", content=letter + b"x" * 200)
    for receiver in ("alice@example.org", "list@example.org", "team@example.org", "ghost@example.org"):
        notify = f"X-Receiver: <{receiver}> NOTIFY=SUCCESS,FAILURE\r\n"
        accept(config, block=f"X-Sender: <carol@example.org> RET=FULL\r\n{notify}".encode(), content=letter)
    accept(config, "alice@example.org", content=b"Delivered-To: alice@example.org\r\n" + letter)
    for _ in range(4):
        deliver(config)
        found = audit(config)
        assert (found.missing, found.doubled) == ((), ())
