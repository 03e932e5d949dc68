"""Quotas at delivery and at RCPT: what fits, what waits, what goes back, who is warned; and other programs at work."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import parse_mailbox
from mailsrv.model.envelope import Sender
from mailsrv.model.parameters import parse_parameters
from mailsrv.settings import Delivery
from mailsrv.settings import Quotas as QuotaSettings
from mailsrv.store import quotas
from mailsrv.store.quotas import read_record
from mailsrv.store.spool import Spool, State
from mailsrv.work import quota
from mailsrv.work.quota import Gauge
from mailsrv.work.routing import Directory
from tests import killing
from tests.work.instance import accept, config_of, deliver, letters, maildir_of, make, names_in, unfinished

BOB = parse_mailbox("bob@example.org")
ALICE = parse_mailbox("alice@example.org")


def content(octets: int, subject: str = "x") -> bytes:
    """A message of about so many octets."""
    return f"Subject: {subject}\r\n\r\n".encode() + b"0123456789abcd\r\n" * (octets // 16)


def limited(root: Path, line: str, *, warn_at: float = 1000) -> Config:
    config = replace(make(root), quota=QuotaSettings(warn_at=warn_at))
    config.quotas.write_text(f"{line}\n")
    return config


def gauge_of(config: Config) -> Gauge:
    return Gauge(Directory(config), config.mail)


# --- delivery --------------------------------------------------------------------------------------


def test_what_does_not_fit_waits_and_comes_when_there_is_room(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org octets=3000")
    for _ in range(2):
        accept(config, "bob@example.org", "carol@example.org", content=content(2000))
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert len(letters(config, "carol")) == 2
    (entry_id,) = Spool(config.spool).entries(State.DEFERRED)
    assert str(reply.MAILBOX_FULL) in Spool(config.spool).retry_path(entry_id).read_text()
    assert letters(config, "alice") == []
    (path,) = (maildir_of(config, "bob") / "new").iterdir()
    path.unlink()
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert names_in(config.spool / "deferred") == []
    assert unfinished(config) == []


def test_what_can_never_fit_goes_back(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org octets=3000")
    accept(config, "bob@example.org", "carol@example.org", content=content(4000))
    deliver(config)
    assert letters(config, "bob") == []
    assert len(letters(config, "carol")) == 1
    (report,) = letters(config, "alice")
    assert b"Final-Recipient: rfc822; bob@example.org\nAction: failed\nStatus: 5.2.2\n" in report


def test_messages_are_counted_too_and_within_one_batch(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org messages=3")
    for _ in range(5):
        accept(config, "bob@example.org")
    deliver(config)
    assert len([each for each in letters(config, "bob") if b"nearly full" not in each]) == 3
    assert len(Spool(config.spool).entries(State.DEFERRED)) == 2


def test_a_mailbox_is_not_counted_for_each_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = limited(tmp_path, "bob@example.org octets=1G")
    accept(config, "bob@example.org")
    deliver(config)
    monkeypatch.setattr(quota, "counted", lambda *_: pytest.fail("it is counted again"))
    for _ in range(5):
        accept(config, "bob@example.org")
        deliver(config)
    assert gauge_of(config).usage(BOB).messages == 6
    record = read_record(maildir_of(config, "bob"))
    assert record.octets == sum(path.stat().st_size for path in (maildir_of(config, "bob") / "new").iterdir())


def test_what_other_programs_do_counts_at_once(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org octets=10000 messages=2")
    for _ in range(2):
        accept(config, "bob@example.org")
    deliver(config)
    gauge = gauge_of(config)
    assert gauge.refusal(BOB, 0) is reply.MAILBOX_FULL
    box = maildir_of(config, "bob")
    first = min((box / "new").iterdir())
    first.rename(box / "cur" / f"{first.name}:2,S")
    assert gauge.refusal(BOB, 0) is reply.MAILBOX_FULL
    (box / "cur" / f"{first.name}:2,S").unlink()
    assert gauge.refusal(BOB, 0) is None
    (box / "cur" / "1.foreign.host:2,").write_bytes(b"x" * 9000)
    assert gauge.refusal(BOB, 0) is reply.MAILBOX_FULL
    accept(config, "bob@example.org")
    deliver(config)
    assert len(letters(config, "bob")) == 2
    (box / "cur" / "1.foreign.host:2,").unlink()
    deliver(config)
    assert len(letters(config, "bob")) == 2


def test_a_mailbox_that_was_removed_is_empty(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org messages=1")
    accept(config, "bob@example.org")
    deliver(config)
    shutil.rmtree(maildir_of(config, "bob"))
    accept(config, "bob@example.org")
    deliver(config)
    assert len(letters(config, "bob")) == 1


def test_a_record_that_says_too_much_refuses_nobody(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org octets=100000")
    accept(config, "bob@example.org")
    deliver(config)
    box = maildir_of(config, "bob")
    record = read_record(box)
    quotas.write_record(box, replace(record, octets=99_999))  # untrue, and nothing shows it
    accept(config, "bob@example.org")
    deliver(config)
    assert len(letters(config, "bob")) == 2
    assert read_record(box).octets < 2000


def test_the_settings_limit_everybody(tmp_path: Path) -> None:
    make(tmp_path)
    config = replace(config_of(tmp_path), quota=QuotaSettings(messages=1, warn_at=1000))
    for _ in range(2):
        accept(config, "bob@example.org")
    deliver(config)
    assert len(letters(config, "bob")) == 1


def test_what_does_not_fit_in_time_goes_back(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org messages=1")
    config = replace(config, delivery=Delivery(retry_after=(0.0,), give_up_after=0.0))
    for _ in range(2):
        accept(config, "bob@example.org")
    deliver(config)
    deliver(config)
    (report,) = letters(config, "alice")
    assert b"Final-Recipient: rfc822; bob@example.org\nAction: failed\n" in report
    assert names_in(config.spool / "deferred") == []


# --- warnings --------------------------------------------------------------------------------------


def warnings(config: Config, name: str = "bob") -> list[bytes]:
    return [each for each in letters(config, name) if b"Subject: Your mailbox is nearly full" in each]


def test_an_account_is_warned_once_when_it_crosses_the_threshold(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org messages=10", warn_at=90)
    for count in range(1, 11):
        accept(config, "bob@example.org", sender="carol@example.org")
        deliver(config)
        assert len(warnings(config)) == int(count >= 9)
    (warning,) = warnings(config)
    assert warning.startswith(b"Return-Path: <>\nDelivered-To: bob@example.org\n")
    assert b"\nAuto-Submitted: auto-generated\n" in warning
    assert b"  9 of 10 messages\n" in warning
    assert letters(config, "carol") == []
    assert unfinished(config) == []


def test_who_makes_room_and_fills_it_again_is_not_warned_twice_a_day(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org messages=10", warn_at=20)
    for _ in range(3):
        for _ in range(2):
            accept(config, "bob@example.org")
        deliver(config)
        for path in (maildir_of(config, "bob") / "new").iterdir():
            if b"nearly full" not in path.read_bytes():
                path.unlink()
    assert len(letters(config, "bob")) == len(warnings(config)) == 1


def test_nobody_is_warned_of_a_limit_that_is_not_there(tmp_path: Path) -> None:
    config = make(tmp_path)
    accept(config, "bob@example.org")
    deliver(config)
    assert warnings(config) == []
    assert not (maildir_of(config, "bob") / quotas.RECORD_NAME).exists()


# --- RCPT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", None),
        ("SIZE=1500", None),
        ("SIZE=2500", reply.MAILBOX_FULL),
        ("SIZE=4000", reply.TOO_BIG_FOR_MAILBOX),
    ],
)
def test_the_size_that_mail_told_is_asked_at_rcpt(tmp_path: Path, parameters: str, expected: object) -> None:
    config = limited(tmp_path, "bob@example.org octets=3000")
    accept(config, "bob@example.org", content=content(1000))
    deliver(config)
    directory = Directory(config)
    sender = Sender(ALICE, parse_parameters(parameters))
    gauge = Gauge(directory, config.mail)
    assert gauge.refusal_of_all(directory.route(BOB, ALICE), sender) == expected


def test_who_has_room_behind_an_alias_is_reason_enough_to_take_a_message(tmp_path: Path) -> None:
    config = limited(tmp_path, "bob@example.org octets=3000\ncarol@example.org octets=100K")
    config.aliases.write_text(
        "both@example.org: bob@example.org, carol@example.org\ntwo@example.org: bob@example.org, x@y.z\n"
    )
    directory = Directory(config)
    gauge = Gauge(directory, config.mail)

    def refusal(name: str, size: int) -> object:
        route = directory.route(parse_mailbox(f"{name}@example.org"), ALICE)
        return gauge.refusal_of_all(route, Sender(ALICE, (("SIZE", str(size)),)))

    assert refusal("both", 5000) is None
    assert refusal("both", 200_000) is reply.TOO_BIG_FOR_MAILBOX
    assert refusal("two", 5000) is None
    assert refusal("bob", 5000) is reply.TOO_BIG_FOR_MAILBOX


# --- kill -9 ---------------------------------------------------------------------------------------


def test_a_kill_at_any_step_loses_doubles_and_warns_twice_of_nothing(tmp_path: Path) -> None:
    def prepare(place: Path) -> None:
        config = limited(place, "bob@example.org messages=3")
        accept(config, "bob@example.org")
        killing.run(lambda: deliver(config))
        for number in range(3):
            accept(config, "bob@example.org", content=content(16, f"number {number}"))

    def work(place: Path) -> None:
        deliver(replace(config_of(place), quota=QuotaSettings(warn_at=90)))

    for place in killing.deaths(tmp_path, prepare, work, every=2):
        config = config_of(place)
        killing.run(partial(work, place))
        found = letters(config, "bob")
        assert len(warnings(config)) == 1
        assert len(found) == 4
        assert len({each for each in found if b"number" in each}) == 2
        assert len(Spool(config.spool).entries(State.DEFERRED)) == 1
        assert unfinished(config) == []
