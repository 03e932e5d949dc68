"""Delivery killed at every step, and again while it recovers: each recipient exactly once, nothing left behind.

A destination is counted over what clients fetched and deleted before the recovery and what is there after it.
"""

import itertools
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import derived_id
from mailsrv.store.entry import read_block
from mailsrv.store.spool import Spool, State
from mailsrv.work.audit import Audit
from mailsrv.work.hand import SYMPTOM
from tests import killing
from tests.work.instance import (
    CONTENT,
    PEOPLE,
    accept,
    break_mailbox,
    config_of,
    deliver,
    drop,
    fetch_and_delete,
    letters,
    maildir_of,
    make,
    names_in,
    unfinished,
)

ON_DISK = CONTENT.replace(b"\r\n", b"\n")
ALIASES = "team@example.org: alice@example.org, bob@example.org, dave@example.net\n"
LISTS = """[list@example.org]
owner = carol@example.org
post = anybody
alice@example.org
bob@example.org
ghost@example.org
dave@example.net
"""


@dataclass(frozen=True, slots=True)
class Case:
    """Recipients of one message, and what must come of it: how often which mailbox gets it, whether a report is due."""

    recipients: tuple[str, ...]
    mailboxes: tuple[str, ...] = ()
    remote: tuple[str, ...] = ()
    reports: int = 0
    sender: str = "alice@example.org"
    held: int = 0
    owner_reports: int = 0  # to carol, who owns the list
    block: bytes = b""  # an envelope of its own


LAST_REPORT_BLOCK = (
    b"X-Sender: <>\r\nX-Receiver: <ghost@example.org>\r\n"
    b"X-Arrived: 2026-11-23T12:00:01+00:00 with=report-to-postmaster\r\n"
)
SUCCESS_BLOCK = (
    b"X-Sender: <alice@example.org>\r\nX-Receiver: <bob@example.org> NOTIFY=SUCCESS\r\n"
    b"X-Receiver: <carol@example.org> NOTIFY=SUCCESS\r\n"
)

CASES = {
    "one recipient": Case(("bob@example.org",), ("bob",)),
    "several recipients": Case(tuple(f"{name}@example.org" for name in PEOPLE), PEOPLE),
    "an unknown recipient": Case(("ghost@example.org",), reports=1),
    "a remote recipient": Case(("dave@example.net",), remote=("dave@example.net",)),
    "an alias": Case(("team@example.org", "alice@example.org"), ("alice", "bob"), ("dave@example.net",)),
    "a report that fails": Case(("ghost@example.org",), reports=1, sender=""),
    "a report to postmaster that fails": Case((), held=1, block=LAST_REPORT_BLOCK),
    "a report of success": Case((), ("bob", "carol"), reports=1, block=SUCCESS_BLOCK),
    "a list with a lost member": Case(("list@example.org",), ("alice", "bob"), ("dave@example.net",), owner_reports=1),
    "everything": Case(
        ("team@example.org", "ghost@example.org", "carol@example.org"), PEOPLE, ("dave@example.net",), reports=1
    ),
}


each_case = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


def work(place: Path) -> None:
    deliver(config_of(place))


def prepare(place: Path, case: Case) -> None:
    accept(make(place, ALIASES, LISTS), *case.recipients, sender=case.sender, block=case.block)


def fetch_all(config: Config) -> Counter[tuple[str, bool]]:
    """Have POP3 clients fetch and delete everything: by mailbox, and whether it is a report."""
    found: Counter[tuple[str, bool]] = Counter()
    for name in PEOPLE:
        for letter in fetch_and_delete(config, name):
            is_report = b"multipart/report" in letter
            assert is_report or letter.endswith(ON_DISK)
            found[name, is_report] += 1
    return found


def assert_served(config: Config, case: Case, fetched: Counter[tuple[str, bool]]) -> None:
    expected = Counter({(name, False): 1 for name in case.mailboxes})
    if case.reports:
        expected["alice", True] = case.reports
    if case.owner_reports:
        expected["carol", True] = case.owner_reports
    assert fetched + fetch_all(config) == expected
    assert unfinished(config) == []
    assert_balanced(config)
    spool = Spool(config.spool)
    assert remote_recipients(spool) == list(case.remote)
    assert len(spool.entries(State.HOLD)) == case.held
    assert len(names_in(spool.folder(State.HOLD))) == 2 * case.held  # each with its reason
    assert names_in(spool.folder(State.DEFERRED)) == []


def remote_recipients(spool: Spool) -> list[str]:
    found = []
    for entry_id in spool.entries(State.REMOTE):
        with spool.path(State.REMOTE, entry_id).open("rb") as file:
            block = read_block(file)
            assert block is not None
            file.seek(block.length)
            assert file.read().endswith(CONTENT)
            found += [str(each.forward_path) for each in block.envelope.recipients]
    return found


@each_case
def test_a_killed_delivery_serves_each_destination_once(tmp_path: Path, case: Case) -> None:
    for place in killing.deaths(tmp_path, partial(prepare, case=case), work):
        killing.run(partial(work, place))
        assert_served(config_of(place), case, Counter())


@each_case
def test_what_a_client_deleted_before_the_recovery_is_not_delivered_again(tmp_path: Path, case: Case) -> None:
    for place in killing.deaths(tmp_path, partial(prepare, case=case), work):
        fetched = fetch_all(config_of(place))
        killing.run(partial(work, place))
        assert_served(config_of(place), case, fetched)


@pytest.mark.timeout(300)  # some hundred processes, on a machine that may have others to run
@pytest.mark.parametrize("first_step", range(0, 16, 4))
def test_killed_twice_in_a_row_still_serves_each_destination_once(tmp_path: Path, first_step: int) -> None:
    case = Case(("team@example.org", "ghost@example.org"), ("alice", "bob"), ("dave@example.net",), reports=1)

    def die_first(place: Path, step: int) -> bool:
        prepare(place, case)
        is_killed = killing.dies_before(step, partial(work, place))
        fetched = fetch_all(config_of(place))
        (place / "fetched").write_text(json.dumps(list(fetched.elements())))
        return is_killed

    for step in itertools.count(first_step, 16):
        (probed := tmp_path / f"probe-{step}").mkdir()
        if not die_first(probed, step):
            assert step > 16  # it has come to its end
            return
        dying_first = partial(die_first, step=step)
        for place in killing.deaths(tmp_path / str(step), dying_first, work, first=step % 5, every=5):
            before = Counter((name, is_report) for name, is_report in json.loads((place / "fetched").read_text()))
            fetched = before + fetch_all(config_of(place))
            killing.run(partial(work, place))
            release_poison(config_of(place))
            killing.run(partial(work, place))
            assert_served(config_of(place), case, fetched)


def release_poison(config: Config) -> None:
    """What the process has died with twice is held, for a person to release."""
    spool = Spool(config.spool)
    for entry_id in spool.entries(State.HOLD):
        if spool.reason(entry_id).startswith(SYMPTOM):
            spool.release(entry_id)


# --- the drop box ----------------------------------------------------------------------------------

WITH_HEADER = b"From: alice@example.org\nTo: bob@example.org, carol@example.org\nSubject: dropped\n\nHello.\n"
WITH_BLOCK = b"X-Sender: <alice@example.org>\nX-Receiver: <bob@example.org>\nX-Receiver: <carol@example.org>\n" + (
    b"X-EndOfInjectedXHeaders: 0\nFrom: x\n\nHello.\n"
)


@pytest.mark.parametrize("octets", [WITH_HEADER, WITH_BLOCK], ids=["header", "block"])
def test_a_dropped_file_is_neither_lost_nor_doubled_by_a_kill(tmp_path: Path, octets: bytes) -> None:
    def put(place: Path) -> None:
        config = make(place)
        drop(config, "one.eml", octets)
        drop(config, "two.eml", octets)

    for place in killing.deaths(tmp_path, put, work):
        config = config_of(place)
        fetched = fetch_all_dropped(config)
        killing.run(partial(work, place))
        assert fetched + fetch_all_dropped(config) == Counter(bob=2, carol=2)
        assert unfinished(config) == []
        assert_balanced(config)


def assert_balanced(config: Config) -> None:
    """The books agree: nothing is missing, and nothing was done twice."""
    audited = Audit(config).run()
    assert (audited.missing, audited.doubled, audited.unannounced) == ((), (), 0)


def fetch_all_dropped(config: Config) -> Counter[str]:
    found: Counter[str] = Counter()
    for name in PEOPLE:
        for letter in fetch_and_delete(config, name):
            assert letter.endswith(b"\n\nHello.\n")
            found[name] += 1
    return found


def test_a_file_that_cannot_be_understood_is_set_aside_once_whatever_kills(tmp_path: Path) -> None:
    octets = b"no header, no envelope\n"

    for place in killing.deaths(tmp_path, lambda place: drop(make(place), "odd.eml", octets), work):
        config = config_of(place)
        killing.run(partial(work, place))
        bad = config.spool / "bad"
        mails = [name for name in names_in(bad) if not name.endswith(".txt")]
        assert len(mails) == 1
        assert (bad / mails[0]).read_bytes() == octets
        assert "line 1" in (bad / f"{mails[0]}.txt").read_text()
        assert unfinished(config) == []


# --- deferral --------------------------------------------------------------------------------------


def prepare_deferral(place: Path) -> None:
    config = make(place)
    break_mailbox(config, "bob")
    accept(config, "alice@example.org", "bob@example.org", "ghost@example.org")


def test_a_killed_deferral_serves_the_others_once_and_the_broken_one_when_it_is_mended(tmp_path: Path) -> None:
    for place in killing.deaths(tmp_path, prepare_deferral, work):
        config = config_of(place)
        fetched = fetch_all(config)
        killing.run(partial(work, place))
        assert [name for name in names_in(config.spool / "deferred") if not name.endswith(".retry")] != []
        assert unfinished(config) == []
        fetched += fetch_all(config)
        maildir_of(config, "bob").unlink()
        killing.run(partial(work, place))
        assert fetched + fetch_all(config) == Counter({("alice", False): 1, ("alice", True): 1, ("bob", False): 1})
        assert_balanced(config)
        assert names_in(config.spool / "deferred") == []
        assert unfinished(config) == []


def test_a_killed_retry_serves_what_was_deferred_once(tmp_path: Path) -> None:
    def prepare_retry(place: Path) -> None:
        prepare_deferral(place)
        killing.run(partial(work, place))
        config = config_of(place)
        assert fetch_all(config) == Counter({("alice", False): 1, ("alice", True): 1})
        maildir_of(config, "bob").unlink()

    for place in killing.deaths(tmp_path, prepare_retry, work):
        config = config_of(place)
        fetched = fetch_all(config)
        killing.run(partial(work, place))
        assert fetched + fetch_all(config) == Counter({("bob", False): 1})
        assert names_in(config.spool / "deferred") == []
        assert unfinished(config) == []


# --- what cannot be read ---------------------------------------------------------------------------


def test_a_broken_entry_is_held_once_whatever_kills(tmp_path: Path) -> None:
    block = b"X-Sender: <alice@example.org\r\nX-Receiver: <bob@example.org>\r\n"

    for place in killing.deaths(tmp_path, lambda place: accept(make(place), block=block), work):
        config = config_of(place)
        killing.run(partial(work, place))
        (entry_id,) = Spool(config.spool).entries(State.HOLD)
        assert Spool(config.spool).path(State.HOLD, entry_id).read_bytes() == block + CONTENT
        assert "X-Sender: expected '>'" in Spool(config.spool).reason(entry_id)
        assert unfinished(config) == []


def test_a_draft_that_a_crash_left_linked_to_a_delivered_message_is_not_written_into(tmp_path: Path) -> None:
    config = make(tmp_path)
    first = accept(config, *(f"{name}@example.org" for name in PEOPLE))
    deliver(config)
    (delivered,) = (maildir_of(config, "alice") / "new").iterdir()
    assert delivered.stat().st_nlink == len(PEOPLE)
    spool = Spool(config.spool)
    again = derived_id(first, "again")
    os.link(delivered, maildir_of(config, "bob") / "tmp" / delivered.name.partition(",")[0].replace(first, again))
    spool.path(State.NEW, again).write_bytes(b"X-Sender: <>\r\nX-Receiver: <bob@example.org>\r\n\r\nanother\r\n")
    deliver(config)
    assert letters(config, "alice")[0].endswith(ON_DISK)
    assert sum(letter.endswith(b"another\n") for letter in letters(config, "bob")) == 1
