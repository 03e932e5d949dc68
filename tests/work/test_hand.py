"""A file that kills the process that reads it is attempted at most twice, then held with its incident."""

import os
from functools import partial
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.protocol import header
from mailsrv.store import incidents
from mailsrv.store.ledger import Reader
from mailsrv.store.spool import Spool, State
from mailsrv.work import books, intake
from mailsrv.work.hand import SYMPTOM
from tests import killing
from tests.work.instance import accept, deliver, drop, letters, make, names_in, unfinished

POISON = b"Subject: poison\r\n\r\nposion\r\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make(tmp_path)


def die(config: Config) -> bool:
    """Whether a process that delivers dies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "about", _about_that_dies)
        patch.setattr(intake, "split_fields", _split_that_dies)
        return killing.dies_before(-2, partial(deliver, config))


_about, _split = books.about, header.split_fields


def _about_that_dies(octets: bytes) -> dict[str, str]:
    if b"Subject: poison" in octets:
        os._exit(killing.KILLED)
    return _about(octets)


def _split_that_dies(octets: bytes) -> tuple[header.Field, ...]:
    if b"Subject: poison" in octets:
        os._exit(killing.KILLED)
    return _split(octets)


def held_reason(config: Config) -> tuple[EntryId, str]:
    spool = Spool(config.spool)
    (entry_id,) = spool.entries(State.HOLD)
    return entry_id, spool.reason(entry_id)


def assert_is_held_after_two_deaths(config: Config) -> EntryId:
    assert die(config)
    assert die(config)
    assert not die(config)
    entry_id, reason = held_reason(config)
    assert reason.startswith(f"{SYMPTOM}, at 20")
    (incident,) = incidents.read_all(config.incidents)
    assert incident.name in reason
    assert (incident.report["entry"], len(incident.report["deaths"])) == (entry_id, 2)
    lines = [each for each in Reader(config.books).read() if each["id"] == entry_id]
    assert [each["fate"] for each in lines].count("held") == 1
    assert len(letters(config, "carol")) == 3  # the rest flows
    assert unfinished(config) == []
    return entry_id


def test_an_entry_that_kills_twice_is_held_with_its_incident_and_the_rest_flows(config: Config) -> None:
    accept(config, "carol@example.org")
    poison = accept(config, "bob@example.org", content=POISON)
    accept(config, "carol@example.org")
    accept(config, "carol@example.org")
    assert assert_is_held_after_two_deaths(config) == poison
    assert letters(config, "bob") == []
    spool = Spool(config.spool)
    assert spool.path(State.HOLD, poison).read_bytes().endswith(POISON)
    spool.release(poison)  # what killed it was mended
    deliver(config)
    assert len(letters(config, "bob")) == 1


def test_a_dropped_file_that_kills_twice_is_held_likewise(config: Config) -> None:
    mail = b"From: alice@example.org\nTo: carol@example.org\nSubject: x\n\nHello.\n"
    for name in ("a.eml", "c.eml", "d.eml"):
        drop(config, name, mail)
    poison = mail.replace(b"Subject: x", b"Subject: poison")
    drop(config, "b.eml", poison)
    entry_id = assert_is_held_after_two_deaths(config)
    spool = Spool(config.spool)
    assert spool.path(State.HOLD, entry_id).read_bytes() == poison
    spool.drop_again(entry_id)
    deliver(config)
    assert len(letters(config, "carol")) == 4


def test_one_death_is_forgiven_once_the_message_was_decided(config: Config) -> None:
    accept(config, "bob@example.org", content=POISON)
    assert die(config)
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert names_in(config.run) == [
        "delivery.attempt",
        "delivery.attempt.deaths",
        "spool.turn",
        "spool.turn.gate",
        "worst_wait",
    ]
    assert (config.run / "delivery.attempt.deaths").read_text() == "{}\n"
    assert (config.run / "delivery.attempt").read_bytes().strip(b"\0\n") == b""


def test_what_a_process_had_in_hand_and_lived_through_is_no_death(config: Config) -> None:
    for _ in range(3):
        accept(config, "bob@example.org")
        deliver(config)
    assert len(letters(config, "bob")) == 3
    assert not (config.run / "delivery.attempt.deaths").exists()
