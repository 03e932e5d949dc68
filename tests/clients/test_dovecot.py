"""A Dovecot on the same Maildir, by IMAP and POP3, in turn and at the same time."""

import poplib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bench import dovecot
from bench.dovecot import Dovecot
from tests.clients import rounds
from tests.clients.client import skip_missing
from tests.clients.messages import Message
from tests.clients.pop3.mail import Mailbox, on_the_wire
from tests.clients.sessions import its_imap, its_pop3, listed, our_pop3, retrieved, subject_of, uids_by_subject
from tests.system.instance import USER, Instance, free_port_base, wait_until

ROUNDS = 200
ACTS = {"put", "log_in", "retrieve", "delete", "quit", "drop", "flag", "look", "copy", "append", "expunge"}


@pytest.fixture(scope="session")
def neighbour(running_instance: Instance, open_place: Path) -> Iterator[Dovecot]:
    """A Dovecot that serves the mailboxes of the instance, with the same password."""
    if not dovecot.is_here():
        skip_missing("Dovecot", dovecot.PACKAGES)
    base = free_port_base()
    mail = running_instance.root / "var" / "mail"
    with dovecot.running(open_place / "dovecot", mail, {USER: running_instance.password}, (base, base + 1)) as started:
        yield started


@pytest.fixture
def filled(mailbox: Mailbox, mail: dict[str, Message]) -> Mailbox:
    """The mailbox with all messages but the large one."""
    mailbox.put([message for message in mail.values() if message.name != "large"])
    return mailbox


def read_from_us(mailbox: Mailbox) -> dict[str, bytes]:
    """Every message by its UIDL, once its octets were found to be as many as LIST says."""
    with our_pop3(mailbox.instance) as client:
        found = {seen.uidl: (seen.octets, retrieved(client, seen.number)) for seen in listed(client)}
    assert [octets for octets, _ in found.values()] == [len(content) for _, content in found.values()]
    return {uidl: content for uidl, (_, content) in found.items()}


def number_of(client: poplib.POP3, subject: str) -> int:
    """The number of the message in this session."""
    return next(seen.number for seen in listed(client) if subject_of(retrieved(client, seen.number)) == subject)


def complaints(neighbour: Dovecot, since: int) -> list[str]:
    """What Dovecot has logged as wrong; `since` is how long the log was before."""
    return re.findall(".* (?:Warning|Error|Fatal|Panic): .*", neighbour.log[since:])


# --- in turn ---------------------------------------------------------------------------------------


def test_uidls_and_octets_stay_when_dovecot_moves_messages_to_cur_and_sets_flags(
    filled: Mailbox, neighbour: Dovecot
) -> None:
    before = read_from_us(filled)
    assert len(before) == len(filled.names())
    with its_imap(filled.instance, neighbour) as imap:
        assert list((filled.path / "new").iterdir()) == []
        assert read_from_us(filled) == before
        for uid, flags in enumerate([r"\Seen", r"\Flagged \Answered", "keyword", r"\Deleted"], 1):
            imap.uid("STORE", str(uid), "+FLAGS", f"({flags})")
        assert read_from_us(filled) == before
        imap.uid("STORE", "1:*", "-FLAGS", r"(\Seen \Deleted keyword)")
    assert read_from_us(filled) == before


def test_dovecots_pop3_gives_the_same_octets(filled: Mailbox, neighbour: Dovecot) -> None:
    ours = {subject_of(content): content for content in read_from_us(filled).values()}
    with its_pop3(filled.instance, neighbour) as pop3:
        contents = {seen.octets: retrieved(pop3, seen.number) for seen in listed(pop3)}
    assert {subject_of(content): content for content in contents.values()} == ours
    for octets, content in contents.items():  # it does not count the line end that it adds
        assert octets == len(content) - 2 * (subject_of(content) == "unfinished")


def test_a_copy_that_dovecot_makes_has_a_uidl_of_its_own(filled: Mailbox, neighbour: Dovecot) -> None:
    before = read_from_us(filled)
    with its_imap(filled.instance, neighbour) as imap:
        imap.uid("COPY", ",".join(uids_by_subject(imap)["short"]), "INBOX")
    after = read_from_us(filled)
    (copy,) = after.keys() - before.keys()
    assert after == {**before, copy: next(each for each in before.values() if subject_of(each) == "short")}


def test_what_we_delete_is_gone_from_sessions_of_dovecot(filled: Mailbox, neighbour: Dovecot) -> None:
    with its_imap(filled.instance, neighbour) as imap:
        subjects = uids_by_subject(imap).keys()
        with our_pop3(filled.instance) as pop3:
            pop3.dele(number_of(pop3, "dots"))
            assert uids_by_subject(imap).keys() == subjects  # nothing happens before QUIT
            pop3.quit()
        assert uids_by_subject(imap).keys() == subjects - {"dots"}
    with its_pop3(filled.instance, neighbour) as pop3:
        assert len(listed(pop3)) == len(subjects) - 1


def test_folders_and_files_of_dovecot_are_no_messages_and_stay(filled: Mailbox, neighbour: Dovecot) -> None:
    before = read_from_us(filled)
    with its_imap(filled.instance, neighbour) as imap:
        imap.create("Sent")
        imap.subscribe("Sent")
        imap.append("Sent", "", "", b"Subject: sent\r\n\r\nBy somebody.\r\n")
        imap.uid("STORE", "1", "+FLAGS", "(keyword)")
    files = {path.relative_to(filled.path) for path in filled.path.iterdir()}
    assert {"subscriptions", ".Sent", "dovecot-uidlist", "dovecot-keywords"} <= {str(each) for each in files}
    assert read_from_us(filled) == before
    with our_pop3(filled.instance) as pop3:
        for seen in listed(pop3):
            pop3.dele(seen.number)
        pop3.quit()
    assert filled.names() == []
    assert {path.relative_to(filled.path) for path in filled.path.iterdir()} >= files
    with its_imap(filled.instance, neighbour) as imap:
        assert uids_by_subject(imap) == {}
        assert imap.select("Sent") == ("OK", [b"1"])


def test_mail_that_we_deliver_has_the_size_in_its_name_that_dovecot_expects(
    mailbox: Mailbox, neighbour: Dovecot, mail: dict[str, Message]
) -> None:
    told_before = len(neighbour.log)
    sent = [message for message in mail.values() if message.name in ("short", "8bit", "dots", "long")]
    with its_imap(mailbox.instance, neighbour) as imap:
        for message in sent:
            mailbox.instance.send(message.content)
        wait_until(lambda: len(uids_by_subject(imap)) == len(sent), "Dovecot sees the new mail")
        ours = {subject_of(content): content for content in read_from_us(mailbox).values()}
        for subject, (uid,) in uids_by_subject(imap).items():
            ((told, content), *_) = imap.uid("FETCH", uid, "(RFC822.SIZE BODY.PEEK[])")[1]
            assert content == ours[subject]
            assert b"RFC822.SIZE %d " % len(content) in told
    assert complaints(neighbour, told_before) == []


# --- at once ---------------------------------------------------------------------------------------


def test_flags_set_during_our_session_disturb_neither_retr_nor_dele(
    filled: Mailbox, neighbour: Dovecot, mail: dict[str, Message]
) -> None:
    with our_pop3(filled.instance) as pop3, its_imap(filled.instance, neighbour) as imap:
        for flags in (r"\Seen", r"\Flagged", r"\Answered"):
            imap.uid("STORE", "1:*", "+FLAGS", f"({flags})")
            contents = [retrieved(pop3, seen.number) for seen in listed(pop3)]
            assert all(content == on_the_wire(mail[subject_of(content)]) for content in contents)
        pop3.dele(number_of(pop3, "short"))
        imap.uid("STORE", "1:*", "+FLAGS", r"(\Draft)")
        pop3.quit()
        assert uids_by_subject(imap).keys() == mail.keys() - {"large", "short"}


def test_a_message_that_dovecot_expunges_during_our_session_is_an_error_and_never_another_one(
    filled: Mailbox, neighbour: Dovecot, mail: dict[str, Message]
) -> None:
    with our_pop3(filled.instance) as pop3, its_imap(filled.instance, neighbour) as imap:
        before = listed(pop3)
        numbers = {subject_of(retrieved(pop3, seen.number)): seen.number for seen in before}
        uids = uids_by_subject(imap)
        imap.uid("COPY", ",".join(uids["utf8"]), "INBOX")  # the same octets are no excuse: it is not that message
        for subject in ("utf8", "long"):
            imap.uid("STORE", ",".join(uids[subject]), "+FLAGS", r"(\Deleted)")
        imap.expunge()
        for subject in ("utf8", "long"):
            for command in (pop3.retr, partial(pop3.top, howmuch=1)):
                with pytest.raises(poplib.error_proto, match=re.escape("-ERR [SYS/TEMP]")):
                    command(numbers[subject])
        assert listed(pop3) == before  # RFC 1939 section 3: numbers and sizes do not change in a session
        for subject in numbers.keys() - {"utf8", "long"}:
            assert retrieved(pop3, numbers[subject]) == on_the_wire(mail[subject])
        pop3.dele(numbers["long"])  # what is gone already is as the client wants it
        pop3.dele(numbers["short"])
        pop3.quit()
    assert {subject_of(content) for content in read_from_us(filled).values()} == numbers.keys() - {"long", "short"}


def test_both_pop3_servers_may_delete_at_the_same_time(filled: Mailbox, neighbour: Dovecot) -> None:
    with our_pop3(filled.instance) as ours, its_pop3(filled.instance, neighbour) as its:
        subjects = {subject_of(retrieved(ours, seen.number)) for seen in listed(ours)}
        for client, doomed in ((ours, ("short", "8bit")), (its, ("8bit", "dots"))):
            for number in [number_of(client, subject) for subject in doomed]:
                client.dele(number)
        its.quit()
        ours.quit()
    left = {subject_of(content) for content in read_from_us(filled).values()}
    assert left == subjects - {"short", "8bit", "dots"}


def test_many_rounds_of_all_at_once_lose_nothing_and_mix_nothing_up(mailbox: Mailbox, neighbour: Dovecot) -> None:
    told_before = len(neighbour.log)
    books, done = rounds.play(mailbox, neighbour, ROUNDS, seed="4")
    assert done.keys() >= ACTS, done
    assert rounds.found_by_us(mailbox) == rounds.found_by_dovecot(mailbox, neighbour) == books.due
    assert list((mailbox.path / "tmp").iterdir()) == []
    assert complaints(neighbour, told_before) == []
