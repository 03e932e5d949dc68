"""Deciding entries: delivered, deferred and tried again, reported, held; and what the heartbeat is told of it."""

import email
import email.policy
import errno
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import parse_mailbox
from mailsrv.model.envelope import Envelope, Recipient, Sender
from mailsrv.model.identity import EntryId, derived_id, new_entry_id
from mailsrv.model.parameters import parse_parameters
from mailsrv.settings import Delivery
from mailsrv.store.batch import Plan, Step, write_batch
from mailsrv.store.durable import Move
from mailsrv.store.maildir import Maildir
from mailsrv.store.maildrop import Maildrop
from mailsrv.store.retry import DONE, WAITING, Fate, Retry, read_retry, write_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.decide import Decider
from mailsrv.work.desk import BATCH
from mailsrv.work.outlook import queue
from mailsrv.work.pickup import Pickup
from mailsrv.work.plan import Planner
from mailsrv.work.routing import Directory
from tests.work.instance import (
    CONTENT,
    PEOPLE,
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

ON_DISK = CONTENT.replace(b"\r\n", b"\n")
LATER = Delivery(retry_after=(3600.0,))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make(tmp_path)


def decider_of(config: Config, beat: Callable[[str], None] = lambda _in_hand: None) -> Decider:
    Spool(config.spool).create_folders()
    return Decider(config, Spool(config.spool), Directory(config), ledger_of(config), beat)


def retry_of(config: Config, entry_id: EntryId) -> Retry:
    retry = read_retry(Spool(config.spool).retry_path(entry_id))
    assert retry is not None
    return retry


def status_of(letter: bytes) -> list[tuple[str, str, str]]:
    """Of a report, each recipient with its action and its status."""
    part = list(parsed(letter).iter_parts())[1]
    groups = list(part.walk())[2:]
    return [(str(g["Final-Recipient"]).partition("; ")[2], str(g["Action"]), str(g["Status"])) for g in groups]


def parsed(letter: bytes) -> EmailMessage:
    message = email.message_from_bytes(letter, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


# --- delivered -------------------------------------------------------------------------------------


def test_a_letter_begins_with_its_return_path_and_its_mailbox(config: Config) -> None:
    accept(config, "Bob@example.org")
    deliver(config)
    expected = b"Return-Path: <alice@example.org>\nDelivered-To: bob@example.org\n" + ON_DISK
    assert letters(config, "bob") == [expected]
    assert unfinished(config) == []


def test_several_recipients_share_one_file_that_names_none_of_them(config: Config) -> None:
    accept(config, *(f"{name}@example.org" for name in PEOPLE), sender="")
    deliver(config)
    for name in PEOPLE:
        assert letters(config, name) == [b"Return-Path: <>\n" + ON_DISK]
    inodes = {path.stat().st_ino for name in PEOPLE for path in (maildir_of(config, name) / "new").iterdir()}
    assert len(inodes) == 1


def test_the_sizes_in_the_name_are_true(config: Config) -> None:
    accept(config, "bob@example.org", content=b"Subject: x\r\n\r\n" + b"line\r\n" * 300_000 + b"no end, \r bare \n")
    deliver(config)
    (path,) = (maildir_of(config, "bob") / "new").iterdir()
    octets = path.read_bytes()
    assert f",S={len(octets)}," in path.name
    assert path.name.endswith(f",W={len(octets) + octets.count(bytes([10]))}")
    maildrop = Maildrop(maildir_of(config, "bob"))
    assert maildrop.listing.octets[0] == len(octets) + octets.count(b"\n")
    maildrop.close()


@pytest.mark.parametrize("size", [1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1])
def test_line_ends_are_converted_wherever_the_pieces_end(config: Config, size: int) -> None:
    content = b"Subject: x\r\n\r\n"
    content += b"x" * (size - len(content) - 1) + b"\r\ny\r\n"
    accept(config, "bob@example.org", content=content)
    deliver(config)
    assert letters(config, "bob")[0].endswith(content.replace(b"\r\n", b"\n"))


def test_entries_are_decided_in_order_of_arrival_over_many_batches(config: Config) -> None:
    for number in range(BATCH + 3):
        accept(config, "bob@example.org", content=b"Subject: %d\r\n\r\n" % number)
    beats: list[str] = []
    decider = decider_of(config, beats.append)
    decider.decide()
    assert [int(parsed(letter)["Subject"]) for letter in letters(config, "bob")] == list(range(BATCH + 3))
    assert decider.progress == BATCH + 3
    assert [len(beat.split()) for beat in beats] == [BATCH, 3]


def test_stopping_ends_after_the_batch_in_hand(config: Config) -> None:
    for _ in range(BATCH + 1):
        accept(config, "bob@example.org")
    deciders: list[Decider] = []
    decider = decider_of(config, lambda _in_hand: deciders[0].stop())
    deciders.append(decider)
    decider.decide()
    assert len(letters(config, "bob")) == BATCH
    assert len(Spool(config.spool).entries(State.NEW)) == 1
    assert unfinished(config)[0].startswith("spool/new/")


# --- remote ----------------------------------------------------------------------------------------


def elsewhere(config: Config) -> list[Envelope]:
    """The envelopes of what waits for the relay, in order of arrival."""
    spool = Spool(config.spool)
    found = []
    for entry_id in spool.entries(State.REMOTE):
        file, block = spool.open(State.REMOTE, entry_id)
        file.close()
        found.append(block.envelope)
    return found


def test_remote_recipients_keep_their_parameters(config: Config) -> None:
    block = (
        b"X-Sender: <alice@example.org> ENVID=1 RET=FULL\r\nX-Receiver: <eve@example.net> NOTIFY=NEVER\r\n"
        b"X-Receiver: <bob@example.org>\r\n"
    )
    entry_id = accept(config, block=block)
    deliver(config)
    file, found = Spool(config.spool).open(State.REMOTE, derived_id(entry_id, "remote"))
    with file:
        assert file.read() == CONTENT
    assert found.envelope.sender == Sender(parse_mailbox("alice@example.org"), (("ENVID", "1"), ("RET", "FULL")))
    assert found.envelope.recipients == (Recipient(parse_mailbox("eve@example.net"), (("NOTIFY", "NEVER"),)),)
    assert len(letters(config, "bob")) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "ORCPT=rfc822;one+2Btwo@example.org"),
        (" NOTIFY=NEVER", "NOTIFY=NEVER ORCPT=rfc822;one+2Btwo@example.org"),
        (" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y"),
    ],
)
def test_parameters_follow_an_alias_of_one_address(tmp_path: Path, given: str, expected: str) -> None:
    config = make(tmp_path, "one+two@example.org: dave@example.net\n")
    accept(config, block=f"X-Sender: <alice@example.org>\r\nX-Receiver: <one+two@example.org>{given}\r\n".encode())
    deliver(config)
    (envelope,) = elsewhere(config)
    assert envelope.recipients == (Recipient(parse_mailbox("dave@example.net"), parse_parameters(expected)),)
    assert letters(config, "alice") == []


@pytest.mark.parametrize(
    ("given", "notify", "is_told"),
    [
        ("", "", False),
        (" NOTIFY=SUCCESS", "NOTIFY=NEVER ", True),
        (" NOTIFY=SUCCESS,FAILURE", "NOTIFY=FAILURE ", True),
        (" NOTIFY=DELAY", "NOTIFY=DELAY ", False),
    ],
)
def test_of_an_alias_of_several_addresses_the_sender_is_told_once_that_it_was_expanded(
    tmp_path: Path, given: str, notify: str, is_told: bool
) -> None:
    config = make(tmp_path, "team@example.org: dave@example.net, bob@example.org, carol@example.org\n")
    accept(config, block=f"X-Sender: <alice@example.org>\r\nX-Receiver: <team@example.org>{given}\r\n".encode())
    deliver(config)
    (envelope,) = elsewhere(config)
    parameters = parse_parameters(f"{notify}ORCPT=rfc822;team@example.org")
    assert envelope.recipients == (Recipient(parse_mailbox("dave@example.net"), parameters),)
    assert len(letters(config, "bob")) == len(letters(config, "carol")) == 1
    told = [status_of(letter) for letter in letters(config, "alice")]
    assert told == ([[("team@example.org", "expanded", "2.1.5")]] if is_told else [])


def test_recipients_elsewhere_that_differ_in_case_each_get_the_message(config: Config) -> None:
    entry_id = accept(config, "Dave@example.net", "dave@example.net", "dave@EXAMPLE.NET")
    deliver(config)
    file, block = Spool(config.spool).open(State.REMOTE, derived_id(entry_id, "remote"))
    file.close()
    assert [each.forward_path.local_part for each in block.envelope.recipients] == ["Dave", "dave"]


# --- reported --------------------------------------------------------------------------------------


def test_the_sender_gets_one_report_of_all_that_failed(config: Config) -> None:
    block = (
        b"X-Sender: <alice@example.org> ENVID=QQ1\r\nX-Receiver: <ghost@example.org> ORCPT=rfc822;g@x\r\n"
        b"X-Receiver: <nobody@example.org>\r\nX-Receiver: <Ghost@example.org>\r\nX-Receiver: <bob@example.org>\r\n"
    )
    accept(config, block=block)
    deliver(config)
    assert len(letters(config, "bob")) == 1
    (letter,) = letters(config, "alice")
    report = parsed(letter)
    assert letter.startswith(b"Return-Path: <>\n")
    assert report["Auto-Submitted"] == "auto-replied"
    assert report.get_content_type() == "multipart/report"
    words, status, header = report.iter_parts()
    assert "ghost@example.org" in words.get_content()
    parts = list(status.walk())[1:]
    assert parts[0]["Original-Envelope-Id"] == "QQ1"
    assert [part["Final-Recipient"] for part in parts[1:]] == [
        "rfc822; ghost@example.org",
        "rfc822; nobody@example.org",
    ]
    assert parts[1]["Original-Recipient"] == "rfc822;g@x"
    assert parts[1]["Status"] == reply.NO_SUCH_MAILBOX.status
    assert "Subject: hello" in header.get_content()
    assert b"Bye." not in letter
    assert unfinished(config) == []


def test_a_report_needs_tls_where_the_message_did(config: Config) -> None:
    for parameters in (" ENVID=1 REQUIRETLS", " ENVID=1"):
        accept(config, block=f"X-Sender: <dave@example.net>{parameters}\r\nX-Receiver: <g@example.org>\r\n".encode())
    deliver(config)
    spool = Spool(config.spool)
    found = []
    for entry_id in spool.entries(State.REMOTE):
        file, block = spool.open(State.REMOTE, entry_id)
        file.close()
        found.append(block.envelope.sender)
    assert found == [Sender(None, (("REQUIRETLS", None),)), Sender(None)]


@pytest.mark.parametrize("notify", ["NEVER", "never", "SUCCESS", "DELAY,SUCCESS"])
def test_a_sender_who_wants_no_report_gets_none(config: Config, notify: str) -> None:
    block = b"X-Sender: <alice@example.org>\r\nX-Receiver: <ghost@example.org> NOTIFY=%s\r\n" % notify.encode()
    accept(config, block=block)
    deliver(config)
    assert letters(config, "alice") == []
    assert unfinished(config) == []
    assert names_in(config.spool / "hold") == []


@pytest.mark.parametrize("notify", ["FAILURE", "delay,failure"])
def test_a_sender_who_asks_for_a_report_of_failure_gets_it(config: Config, notify: str) -> None:
    block = b"X-Sender: <alice@example.org>\r\nX-Receiver: <ghost@example.org> NOTIFY=%s\r\n" % notify.encode()
    accept(config, block=block)
    deliver(config)
    assert len(letters(config, "alice")) == 1


def test_what_failed_without_a_sender_to_tell_is_told_whole_to_postmaster(config: Config) -> None:
    accept(config, "ghost@example.org", "bob@example.org", sender="")
    deliver(config)
    (letter,) = letters(config, "alice")  # who reads what comes to postmaster
    assert status_of(letter) == [("ghost@example.org", "failed", "5.1.1")]
    assert parsed(letter)["To"] == "postmaster@example.org"
    assert letter.startswith(b"Return-Path: <>\n")
    assert ON_DISK in letter
    assert names_in(config.spool / "hold") == []
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []


def test_a_report_that_cannot_be_delivered_goes_to_postmaster_and_is_not_reported_to_anybody_else(
    config: Config,
) -> None:
    accept(config, "ghost@example.org", sender="phantom@example.org")
    deliver(config)
    (letter,) = letters(config, "alice")
    assert status_of(letter) == [("phantom@example.org", "failed", "5.1.1")]
    assert b"\nSubject: Your message could not be delivered\n" in letter  # the report that failed, whole
    assert letter.count(b"\nSubject: hello\n") == 1
    assert names_in(config.spool / "hold") == []
    assert unfinished(config) == []


def test_what_postmaster_cannot_be_told_waits_for_a_person(tmp_path: Path) -> None:
    config = make(tmp_path, "postmaster@example.org: nobody@example.org\n")
    entry_id = accept(config, "ghost@example.org", "bob@example.org", sender="")
    deliver(config)
    held = derived_id(derived_id(entry_id, "report"), "held")
    assert names_in(config.spool / "hold") == [held, f"{held}.txt"]
    assert "postmaster@example.org: 550 5.1.1" in Spool(config.spool).reason(held)
    file, block = Spool(config.spool).open(State.HOLD, held)
    with file:
        assert CONTENT in file.read()
    assert [str(each.forward_path) for each in block.envelope.recipients] == ["postmaster@example.org"]
    assert block.envelope.sender.reverse_path is None
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []


# --- what a report returns, and success ------------------------------------------------------------


@pytest.mark.parametrize(("extent", "is_whole"), [("", False), (" RET=HDRS", False), (" RET=FULL", True)])
def test_a_report_of_failure_returns_what_the_sender_asked_for(config: Config, extent: str, is_whole: bool) -> None:
    accept(config, block=f"X-Sender: <alice@example.org>{extent}\r\nX-Receiver: <g@example.org>\r\n".encode())
    deliver(config)
    (letter,) = letters(config, "alice")
    assert (ON_DISK in letter) == is_whole
    returned = list(parsed(letter).iter_parts())[2]
    assert returned.get_content_type() == ("message/rfc822" if is_whole else "text/rfc822-headers")


def test_a_large_message_is_returned_whole_in_bounded_pieces(config: Config) -> None:
    content = b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 200_000
    block = b"X-Sender: <alice@example.org> RET=FULL\r\nX-Receiver: <ghost@example.org>\r\n"
    accept(config, block=block, content=content)
    deliver(config)
    assert content.replace(b"\r\n", b"\n") in letters(config, "alice")[0]


def test_a_sender_who_asks_to_be_told_of_success_is_told_once_it_is_in_the_mailbox(config: Config) -> None:
    block = (
        b"X-Sender: <alice@example.org> RET=FULL ENVID=QQ1\r\n"
        b"X-Receiver: <bob@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@x\r\n"
        b"X-Receiver: <carol@example.org> NOTIFY=FAILURE\r\n"
    )
    accept(config, block=block)
    deliver(config)
    (letter,) = letters(config, "alice")
    assert status_of(letter) == [("bob@example.org", "delivered", "2.1.5")]
    assert b"Original-Recipient: rfc822;b@x\n" in letter
    assert b"Original-Envelope-Id: QQ1\n" in letter
    assert ON_DISK not in letter  # RFC 3461 §4.3: RET is about failures
    assert len(letters(config, "bob")) == len(letters(config, "carol")) == 1
    assert unfinished(config) == []


def test_success_is_told_by_the_address_that_was_asked_for(tmp_path: Path) -> None:
    config = make(tmp_path, "robert@example.org: bob@example.org\n")
    accept(config, block=b"X-Sender: <alice@example.org>\r\nX-Receiver: <robert@example.org> NOTIFY=SUCCESS\r\n")
    deliver(config)
    assert [status_of(each) for each in letters(config, "alice")] == [[("robert@example.org", "delivered", "2.1.5")]]


def test_success_is_not_told_before_the_message_is_in_the_mailbox(config: Config) -> None:
    block = b"X-Sender: <alice@example.org>\r\nX-Receiver: <bob@example.org> NOTIFY=SUCCESS\r\n"
    box = break_mailbox(config, "bob")
    accept(config, block=block)
    deliver(config)
    assert letters(config, "alice") == []
    box.unlink()
    deliver(config)
    assert [status_of(each) for each in letters(config, "alice")] == [[("bob@example.org", "delivered", "2.1.5")]]
    assert names_in(config.spool / "deferred") == []
    assert unfinished(config) == []


def test_success_is_not_told_where_the_last_rename_fails(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    block = b"X-Sender: <alice@example.org>\r\nX-Receiver: <bob@example.org> NOTIFY=SUCCESS\r\n"
    accept(config, block=block)
    real = Path.rename

    def fails_for_bob(path: Path, target: Path) -> Path:
        if "/bob/new/" in str(target):
            raise OSError(errno.EIO, "a fault of the disk")
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails_for_bob)
        decider_of(config).decide()
    assert letters(config, "alice") == letters(config, "bob") == []
    assert [name for name in unfinished(config) if "success" in name] == []
    deliver(config)
    assert len(letters(config, "bob")) == len(letters(config, "alice")) == 1


# --- delay -----------------------------------------------------------------------------------------

LATE_AT_ONCE = Delivery(retry_after=(0.0,), report_delay_after=0.0)


def test_a_sender_is_told_once_that_a_message_is_delayed(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, LATE_AT_ONCE)
    box = break_mailbox(config, "bob")
    accept(config, "bob@example.org", "carol@example.org")
    for _ in range(3):
        deliver(config)
    (letter,) = letters(config, "alice")
    assert status_of(letter) == [("bob@example.org", "delayed", "4.3.0")]
    assert b"Will-Retry-Until: " in letter
    assert b"Not a directory" not in letter  # no internal text reaches anybody outside
    box.unlink()
    deliver(config)
    assert len(letters(config, "bob")) == len(letters(config, "alice")) == len(letters(config, "carol")) == 1
    assert unfinished(config) == []


@pytest.mark.parametrize("notify", ["NEVER", "FAILURE", "SUCCESS,FAILURE"])
def test_a_sender_who_does_not_ask_for_it_is_not_told_of_delay(tmp_path: Path, notify: str) -> None:
    make(tmp_path)
    config = config_of(tmp_path, LATE_AT_ONCE)
    break_mailbox(config, "bob")
    accept(config, block=f"X-Sender: <alice@example.org>\r\nX-Receiver: <bob@example.org> NOTIFY={notify}\r\n".encode())
    deliver(config)
    assert letters(config, "alice") == []


def test_nobody_is_told_that_a_report_is_delayed(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, LATE_AT_ONCE)
    break_mailbox(config, "bob")
    accept(config, "bob@example.org", sender="")
    deliver(config)
    assert letters(config, "alice") == []


def test_a_report_to_another_host_goes_to_the_relay(config: Config) -> None:
    entry_id = accept(config, "ghost@example.org", sender="dave@example.net")
    deliver(config)
    report = derived_id(derived_id(entry_id, "report"), "remote")
    assert Spool(config.spool).entries(State.REMOTE) == [report]


# --- deferred --------------------------------------------------------------------------------------


def test_a_fault_with_one_mailbox_defers_it_and_serves_the_others(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, LATER)
    break_mailbox(config, "bob")
    entry_id = accept(config, "alice@example.org", "bob@example.org", "dave@example.net", "ghost@example.org")
    before = time.time()
    decider = decider_of(config)
    decider.decide()
    retry = retry_of(config, entry_id)
    assert retry.attempts == 1
    assert 3600 <= retry.due - before < 3600 * 1.2
    assert 3500 < decider.seconds_until_due() < 3600 * 1.2
    assert retry.destinations["bob@example.org"].state == WAITING
    assert retry.destinations["bob@example.org"].error.startswith("451 4.3.0")
    others = {key for key, fate in retry.destinations.items() if fate.state == DONE}
    assert others == {"alice@example.org", "dave@example.net", "report ghost@example.org"}
    assert len(letters(config, "alice")) == 1
    assert Spool(config.spool).entries(State.DEFERRED) == [entry_id]
    assert decider.facts()["deferred"] == 1


def test_a_deferred_entry_is_tried_again_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, LATER)
    box = break_mailbox(config, "bob")
    entry_id = accept(config, "alice@example.org", "bob@example.org")
    decider_of(config).decide()
    fetch_and_delete(config, "alice")
    box.unlink()
    spool = Spool(config.spool)
    for due, count in ((time.time() + 3600, 0), (time.time() - 1, 1)):
        retry = retry_of(config, entry_id)
        write_retry(spool.retry_path(entry_id), Retry(retry.attempts, due, retry.destinations))
        decider = decider_of(config)
        decider.recover()
        decider.decide()
        assert len(letters(config, "bob")) == count
    assert letters(config, "alice") == []
    assert names_in(config.spool / "deferred") == []
    assert decider.seconds_until_due() == float("inf")


def test_each_attempt_that_fails_waits_longer(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(retry_after=(10.0, 100.0)))
    break_mailbox(config, "bob")
    entry_id = accept(config, "bob@example.org")
    spool = Spool(config.spool)
    for attempt, pause in ((1, 10), (2, 100), (3, 100)):
        decider = decider_of(config)
        decider.recover()
        decider.decide()
        retry = retry_of(config, entry_id)
        assert retry.attempts == attempt
        assert pause - 1 < retry.due - time.time() < pause * 1.2
        write_retry(spool.retry_path(entry_id), Retry(attempt, 0.0, retry.destinations))


def test_a_deferred_entry_without_a_sidecar_is_tried_at_once(config: Config) -> None:
    spool = Spool(config.spool)
    entry_id = accept(config, "bob@example.org")
    spool.path(State.NEW, entry_id).rename(spool.path(State.DEFERRED, entry_id))
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert names_in(config.spool / "deferred") == []


def test_what_was_not_served_in_time_is_reported(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(retry_after=(0.0,), give_up_after=0.0))
    break_mailbox(config, "bob")
    accept(config, "alice@example.org", "bob@example.org", sender="carol@example.org")
    deliver(config)
    deliver(config)
    (letter,) = letters(config, "carol")
    assert f"Status: {reply.EXPIRED.status}" in letter.decode()
    assert b"bob@example.org" in letter
    assert b"alice@example.org" not in letter
    assert len(letters(config, "alice")) == 1
    assert names_in(config.spool / "deferred") == []


def test_a_later_report_does_not_take_the_place_of_an_earlier_one_that_is_still_on_its_way(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(retry_after=(0.0,), give_up_after=0.0))
    break_mailbox(config, "bob")
    accept(config, "ghost@example.org", "bob@example.org", sender="dave@example.net")
    deliver(config)
    deliver(config)
    spool = Spool(config.spool)
    reports = [spool.path(State.REMOTE, entry_id).read_bytes() for entry_id in spool.entries(State.REMOTE)]
    reported = [sum(name in report for report in reports) for name in (b"; ghost@example.org", b"; bob@example.org")]
    assert len(reports) == 2
    assert reported == [1, 1]


def test_a_first_attempt_is_never_too_late(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(give_up_after=0.0))
    accept(config, "bob@example.org")
    deliver(config)
    assert len(letters(config, "bob")) == 1


def test_nobody_is_reported_unknown_while_the_accounts_cannot_be_read(config: Config) -> None:
    text = config.accounts.read_text()
    config.accounts.write_text("nonsense\n")
    accept(config, "bob@example.org", "ghost@example.org")
    deliver(config)
    assert len(Spool(config.spool).entries(State.DEFERRED)) == 1
    assert unfinished(config) == []
    config.accounts.write_text(text)
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert len(letters(config, "alice")) == 1  # the report on ghost
    assert names_in(config.spool / "deferred") == []


def test_what_was_delivered_or_reported_once_is_not_so_again_after_a_broken_edit(config: Config) -> None:
    text = config.accounts.read_text()
    box = break_mailbox(config, "bob")
    accept(config, "bob@example.org", "ghost@example.org", "carol@example.org")
    deliver(config)
    assert len(fetch_and_delete(config, "alice")) == len(fetch_and_delete(config, "carol")) == 1
    config.accounts.write_text("nonsense\n")
    deliver(config)
    config.accounts.write_text(text)
    box.unlink()
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert letters(config, "alice") == letters(config, "carol") == []
    assert names_in(config.spool / "deferred") == []


# --- a fault of ours -------------------------------------------------------------------------------


def test_what_cannot_be_read_is_let_be_for_a_while_and_costs_no_busy_loop(config: Config) -> None:
    spool = Spool(config.spool)
    new, deferred = accept(config, "bob@example.org"), accept(config, "bob@example.org")
    for state, entry_id in ((State.NEW, new), (State.DEFERRED, deferred)):
        spool.path(State.NEW, entry_id).unlink()
        spool.path(state, entry_id).mkdir()  # to open it is an error of the system
    decider = decider_of(config)
    decider.recover()
    decider.decide()
    assert 1 < decider.seconds_until_due() <= 5
    for entry_id, state in ((new, State.NEW), (deferred, State.DEFERRED)):
        assert spool.path(state, entry_id).is_dir()


def test_a_batch_file_that_cannot_be_written_lets_all_be_and_leaves_no_draft(config: Config) -> None:
    spool = Spool(config.spool)
    accept(config, "bob@example.org", "ghost@example.org", "dave@example.net")
    decider = decider_of(config)
    spool.batch.mkdir()
    decider.decide()
    assert letters(config, "bob") == []
    assert len(spool.entries(State.NEW)) == 1
    assert list(maildir_of(config, "bob").glob("tmp/*")) == []
    assert 1 < decider.seconds_until_due() <= 5
    spool.batch.rmdir()
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []


def test_a_spool_that_is_out_of_reach_is_an_error_of_the_system(config: Config) -> None:
    decider = decider_of(config)
    (config.spool / "new").rmdir()
    with pytest.raises(FileNotFoundError):
        decider.decide()


def test_an_entry_that_a_person_took_away_is_forgotten(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(retry_after=(0.0,)))
    break_mailbox(config, "bob")
    entry_id = accept(config, "bob@example.org")
    decider = decider_of(config)
    decider.decide()
    Spool(config.spool).path(State.DEFERRED, entry_id).unlink()
    decider.decide()
    assert decider.facts()["deferred"] == 0
    assert decider.seconds_until_due() == float("inf")


# --- held ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.NEW, State.DEFERRED])
@pytest.mark.parametrize("octets", [b"", b"From: x\r\n\r\n", b"X-Receiver: <bob@example.org>\r\n\r\n", b"\0" * 1000])
def test_a_broken_entry_is_held_with_the_reason_and_the_rest_flows(config: Config, state: State, octets: bytes) -> None:
    spool = Spool(config.spool)
    broken = accept(config, "bob@example.org")
    spool.path(State.NEW, broken).unlink()
    spool.path(state, broken).write_bytes(octets)
    accept(config, "bob@example.org")
    decider = deliver(config)
    assert spool.path(State.HOLD, broken).read_bytes() == octets
    assert "line 1" in spool.reason(broken)
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []
    assert decider.facts()["deferred"] == 0


# --- after a crash ---------------------------------------------------------------------------------


def interrupted(config: Config, *, is_same_boot: bool) -> None:
    """A batch that said bob's letter was about to be renamed; it was, and a client has deleted it."""
    spool = Spool(config.spool)
    entry_id = accept(config, "bob@example.org")
    Maildir(maildir_of(config, "bob")).create()
    step = Step(Maildir(maildir_of(config, "bob")).move_of(entry_id, 1, 1), ("bob@example.org",))
    write_batch(spool.batch, [Plan(entry_id, State.NEW, 0, (step,), {})])
    if not is_same_boot:
        document = json.loads(spool.batch.read_text())
        spool.batch.write_text(json.dumps(document | {"boot": "another"}))


def test_a_batch_of_this_boot_is_carried_through(config: Config) -> None:
    interrupted(config, is_same_boot=True)
    deliver(config)
    assert letters(config, "bob") == []
    assert unfinished(config) == []


def test_a_batch_of_another_boot_is_dropped_and_its_entries_are_decided_anew(config: Config) -> None:
    interrupted(config, is_same_boot=False)
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []


def test_after_a_power_loss_what_the_mailbox_holds_is_not_delivered_again(config: Config) -> None:
    entry_id = accept(config, "alice@example.org", "bob@example.org")
    octets = Spool(config.spool).path(State.NEW, entry_id).read_bytes()
    deliver(config)
    (path,) = (maildir_of(config, "bob") / "new").iterdir()
    path.rename(maildir_of(config, "bob") / "cur" / f"{path.name}:2,S")
    Spool(config.spool).path(State.NEW, entry_id).write_bytes(octets)  # its removal had not reached the disk
    deliver(config)
    assert len(letters(config, "alice")) == len(letters(config, "bob")) == 1
    assert unfinished(config) == []


def test_a_batch_whose_rename_fails_when_it_is_carried_through_defers(config: Config) -> None:
    entry_id = accept(config, "bob@example.org")
    spool = Spool(config.spool)
    (spool.tmp / "draft").write_bytes(b"octets")
    step = Step(Move(spool.tmp / "draft", config.mail / "gone" / "new" / "x"), ("bob@example.org",))
    plan = Plan(entry_id, State.NEW, 0, (step,), {"alice@example.org": Fate(DONE)})
    write_batch(spool.batch, [plan])
    decider_of(config).recover()
    retry = retry_of(config, entry_id)
    assert retry.attempts == 1
    assert retry.is_done("alice@example.org")
    assert not retry.is_done("bob@example.org")


# --- facts -----------------------------------------------------------------------------------------


def test_the_worst_wait_is_told(config: Config) -> None:
    spool = Spool(config.spool)
    waited = new_entry_id(datetime.now(UTC) - timedelta(seconds=100))
    spool.path(State.NEW, accept(config, "bob@example.org")).rename(spool.path(State.NEW, waited))
    decider = decider_of(config)
    decider.decide()
    worst = decider.facts()["worst_wait"]
    assert isinstance(worst, float)
    assert 100 <= worst < 160
    accept(config, "bob@example.org")
    decider.decide()
    assert decider.facts()["worst_wait"] == worst
    assert decider.facts()["decided"] == 2


def test_a_deferred_entry_that_cannot_be_deferred_again_is_tried_again(config: Config) -> None:
    box = break_mailbox(config, "bob")
    accept(config, "bob@example.org")
    decider = decider_of(config)
    decider.decide()
    spool = Spool(config.spool)
    (entry_id,) = spool.entries(State.DEFERRED)
    sidecar = spool.retry_path(entry_id)
    in_the_way = sidecar.with_name(f".{sidecar.name}.tmp")
    in_the_way.mkdir()  # the sidecar cannot be replaced: neither delivered nor deferred
    decider.decide()
    in_the_way.rmdir()
    box.unlink()
    decider._finish_at = 0.0
    decider.decide()
    assert len(letters(config, "bob")) == 1


def test_a_copy_that_a_client_deleted_does_not_come_again_where_the_sidecar_could_not_be_written(
    config: Config,
) -> None:
    """It was delivered in part, could not be deferred, and delivery was started again, twice."""
    box = break_mailbox(config, "bob")
    entry_id = accept(config, "alice@example.org", "bob@example.org")
    sidecar = Spool(config.spool).retry_path(entry_id)
    in_the_way = sidecar.with_name(f".{sidecar.name}.tmp")
    in_the_way.mkdir()
    deliver(config)
    assert len(fetch_and_delete(config, "alice")) == 1
    deliver(config)
    accept(config, "carol@example.org")  # another batch comes between
    deliver(config)
    assert letters(config, "alice") == []
    assert len(letters(config, "carol")) == 1
    in_the_way.rmdir()
    box.unlink()
    deliver(config)
    deliver(config)
    assert letters(config, "alice") == []
    assert len(letters(config, "bob")) == 1
    assert unfinished(config) == []


def test_a_plan_that_breaks_off_leaves_nothing_in_a_mailbox(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_arguments: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Planner, "_plan_remote", break_off)
    entry_id = accept(config, "alice@example.org", "bob@example.org")
    deliver(config)
    assert Spool(config.spool).entries(State.HOLD) == [entry_id]
    assert "a fault of ours" in Spool(config.spool).reason(entry_id)
    assert unfinished(config) == []
    assert letters(config, "alice") == letters(config, "bob") == []


def test_a_large_message_is_told_of_while_it_is_read(config: Config) -> None:
    decider = decider_of(config)
    accept(config, "bob@example.org", content=b"Subject: x\r\n\r\n" + b"line\r\n" * 1_000_000)
    decider.decide()
    assert decider.ticks >= 5
    pickup = Pickup(config, Spool(config.spool), ledger_of(config), decider.hand, decider.tick)
    before = decider.ticks
    drop(config, "large.eml", b"From: alice@example.org\nTo: bob@example.org\n\n" + b"line\n" * 1_000_000)
    assert pickup.scan(frozenset({"large.eml"})).taken == 1
    assert decider.ticks - before >= 5


def test_nothing_is_late_or_expires_because_it_came_long_ago_by_a_clock(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(retry_after=(0.0,)))
    box = break_mailbox(config, "bob")
    spool = Spool(config.spool)
    old = new_entry_id(datetime.now(UTC) - timedelta(days=3650))
    spool.path(State.NEW, accept(config, "bob@example.org")).rename(spool.path(State.NEW, old))
    for _ in range(3):
        deliver(config)
    assert spool.entries(State.DEFERRED) == [old]
    assert letters(config, "alice") == []
    box.unlink()
    deliver(config)
    assert len(letters(config, "bob")) == 1


def test_an_entry_put_into_deferred_by_hand_is_decided(config: Config) -> None:
    decider = decider_of(config)
    decider.recover()
    entry_id = accept(config, "bob@example.org")
    spool = Spool(config.spool)
    spool.path(State.NEW, entry_id).rename(spool.path(State.DEFERRED, entry_id))
    decider.relearn()
    decider.decide()
    assert len(letters(config, "bob")) == 1
    assert spool.entries(State.DEFERRED) == []


# --- beyond ASCII ----------------------------------------------------------------------------------


@pytest.fixture
def international(tmp_path: Path) -> Config:
    config = replace(
        make(tmp_path, "büro@example.org: jörg@bücher.example\n"), domains=("example.org", "bücher.example")
    )
    with config.accounts.open("a", encoding="utf-8") as file:
        file.write("jörg@bücher.example $argon2id$none\n")
    return config


def test_a_letter_to_an_alias_of_any_script_lies_in_the_maildir_of_its_account(international: Config) -> None:
    accept(international, "BU\u0308RO@example.org", "jörg@xn--bcher-kva.example", sender="用户@例え.jp")
    deliver(international)
    (path,) = (international.mail / "xn--bcher-kva.example" / "jörg" / "new").iterdir()
    expected = "Return-Path: <用户@例え.jp>\nDelivered-To: jörg@bücher.example\n".encode() + ON_DISK
    assert path.read_bytes() == expected
    assert [folder.name for folder in international.mail.iterdir()] == ["xn--bcher-kva.example"]
    assert unfinished(international) == []


def test_a_sender_of_any_script_is_told_of_an_unknown_recipient_of_any_script(international: Config) -> None:
    block = "X-Sender: <jörg@bücher.example> SMTPUTF8\r\nX-Receiver: <用户@bücher.example>\r\n"
    accept(international, block=block.encode())
    deliver(international)
    (path,) = (international.mail / "xn--bcher-kva.example" / "jörg" / "new").iterdir()
    report = parsed(path.read_bytes())
    assert [part.defects for part in report.walk()] == [[]] * len(list(report.walk()))
    words, status, _ = report.iter_parts()
    assert "用户@bücher.example" in words.get_content()
    assert status.get_content_type() == "message/global-delivery-status"
    assert "Final-Recipient: utf-8; 用户@bücher.example\n".encode() in path.read_bytes()
    assert unfinished(international) == []


def test_a_report_that_speaks_utf_8_says_so_to_the_relay_and_another_does_not(international: Config) -> None:
    for ghost in ("用户", "ghost"):
        block = f"X-Sender: <dave@example.net> SMTPUTF8\r\nX-Receiver: <{ghost}@example.org>\r\n"
        accept(international, block=block.encode())
    deliver(international)
    spool = Spool(international.spool)
    reports = [spool.open(State.REMOTE, entry_id) for entry_id in spool.entries(State.REMOTE)]
    for file, _ in reports:
        file.close()
    assert [block.envelope.sender.says_smtputf8 for _, block in reports] == [True, False]


def test_an_alias_that_leads_to_a_mailbox_of_any_script_elsewhere_says_so_to_the_relay(tmp_path: Path) -> None:
    config = make(tmp_path, "team@example.org: jörg@elsewhere.example\n")
    accept(config, "team@example.org")
    deliver(config)
    (envelope,) = elsewhere(config)
    assert envelope.sender.says_smtputf8
    assert [each.forward_path for each in envelope.recipients] == [parse_mailbox("jörg@elsewhere.example")]


def test_the_queue_shows_addresses_of_any_script(international: Config) -> None:
    accept(international, "用户@例え.jp", sender="jörg@bücher.example")
    (listed,) = queue(international)
    assert (listed.sender, listed.recipients) == ("jörg@bücher.example", ("用户@例え.jp",))
