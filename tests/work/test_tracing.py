"""The life of a message, by whatever people know it by."""

from email.header import Header
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import derived_id
from mailsrv.work.tracing import Life, decoded, trace
from tests.work.instance import accept, break_mailbox, deliver, drop, fetch_and_delete, maildir_of, make

CONTENT = (
    b"Message-ID: <One.2@client.example>\r\nSubject: =?utf-8?q?B=C3=BCro?=\r\n =?utf-8?q?_morgen?=\r\n\r\nHello.\r\n"
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make(tmp_path, "team@example.org: alice@example.org, bob@example.org\n")


def fates(life: Life) -> list[str]:
    return [line["fate"] for line in life.lines]


@pytest.mark.parametrize(
    "what", ["<one.2@client.example>", "One.2@client.example", "BÜRO mor", "Team@example.org", "bob@example.org"]
)
def test_a_message_is_found_by_what_people_know_it_by(config: Config, what: str) -> None:
    entry_id = accept(config, "team@example.org", content=CONTENT)
    accept(config, "carol@example.org", sender="carol@example.org")
    deliver(config)
    (life,) = trace(config, what)
    assert (life.entry_id, life.sender, life.subject) == (entry_id, "alice@example.org", "Büro morgen")
    assert life.message_id == "<One.2@client.example>"
    assert fates(life) == ["accepted", "delivered"]
    assert trace(config, entry_id) == trace(config, entry_id[:14]) == [life]


def test_a_message_that_is_not_yet_decided_is_found_by_its_header(config: Config) -> None:
    entry_id = accept(config, "bob@example.org", content=CONTENT)
    (life,) = trace(config, "büro")
    assert (life.entry_id, life.subject, life.now) == (entry_id, "Büro morgen", (f"{entry_id}: in new/",))


@pytest.mark.parametrize("what", ["bob@example.org, me", "BU\u0308RO  @ 5", "the end", "Strasse", "ghost@example.org"])
def test_a_subject_is_found_whatever_stands_in_it_and_however_long_it_is(config: Config, what: str) -> None:
    subject = f"Büro @ 5 for bob@example.org, me in der Straße {'x' * 100} {'ü' * 60} the end"
    content = f"Subject: {Header(subject, 'utf-8').encode(linesep=chr(13) + chr(10))}\r\n\r\nHello.\r\n".encode()
    config.lists.write_text("[l@example.org]\nowner = alice@example.org\npost = anybody\nghost@example.org\n")
    entry_id = accept(config, "l@example.org", content=content)
    accept(config, "carol@example.org", sender="carol@example.org")
    deliver(config)
    (life,) = trace(config, what)
    assert (life.entry_id, life.subject) == (entry_id, subject)


def test_a_message_that_is_only_sent_on_is_found_by_what_people_know_it_by(config: Config) -> None:
    entry_id = accept(config, "dave@example.net", content=CONTENT)
    deliver(config)
    for what in ("büro", "one.2@client.example", "dave@example.net"):
        (life,) = trace(config, what)
        assert (life.entry_id, life.subject) == (entry_id, "Büro morgen")
        assert life.message_id == "<One.2@client.example>"


def test_the_whole_life_is_told_with_reports_and_where_it_is_now(config: Config) -> None:
    box = break_mailbox(config, "carol")
    entry_id = accept(config, "bob@example.org", "carol@example.org", "ghost@example.org", content=CONTENT)
    deliver(config)
    (life,) = trace(config, entry_id)
    assert fates(life)[0] == "accepted"
    assert {"delivered", "bounced", "deferred"} < set(fates(life))
    report = derived_id(entry_id, "report")
    assert f"{report}: in the mailbox of alice@example.org" in life.now
    assert f"{entry_id}: in the mailbox of bob@example.org" in life.now
    assert any(each.startswith(f"{entry_id}: in deferred/; carol@example.org: 451 4.3.0") for each in life.now)
    box.unlink()
    deliver(config)
    fetch_and_delete(config, "bob")
    (life,) = trace(config, entry_id)
    assert f"{entry_id}: no longer in the mailbox of bob@example.org" in life.now
    assert f"{entry_id}: in the mailbox of carol@example.org" in life.now
    assert maildir_of(config, "carol").is_dir()


def test_a_dropped_file_is_traced_also_where_it_could_not_be_understood(config: Config) -> None:
    drop(config, "a.eml", b"From: alice@example.org\nTo: bob@example.org\nSubject: dropped\n\nx\n")
    drop(config, "b.eml", b"From: alice@example.org\nSubject: nobody\n\nx\n")
    deliver(config)
    (life,) = trace(config, "dropped")
    assert (fates(life), life.lines[0]["file"]) == (["claimed", "delivered"], "a.eml")


def test_what_is_in_no_book_is_nowhere(config: Config) -> None:
    accept(config, "bob@example.org")
    deliver(config)
    assert trace(config, "carol@example.org") == trace(config, "no such subject") == []


@pytest.mark.parametrize("subject", ["=?utf-8?q?=", "=?no-such-charset?q?x?=", "=?utf-8?b?!!!?=", "plain"])
def test_a_subject_that_cannot_be_decoded_is_shown_as_it_is(subject: str) -> None:
    assert decoded(subject) == subject
