"""Sessions with us and with a Dovecot on the same mailbox, as programs hold them."""

import imaplib
import poplib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bench.dovecot import Dovecot
from tests.system.instance import PATIENCE, USER, Instance


@dataclass(frozen=True)
class Seen:
    """A message as a POP3 session lists it."""

    number: int
    octets: int
    uidl: str


@contextmanager
def pop3(port: int, password: str) -> Iterator[poplib.POP3]:
    """A session in TRANSACTION; dropped at the end unless it has said QUIT, so that nothing is removed."""
    client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.user(USER)
        client.pass_(password)
        yield client
    finally:
        client.close()


def our_pop3(instance: Instance) -> AbstractContextManager[poplib.POP3]:
    """A session with us."""
    return pop3(instance.pop3_port, instance.password)


@contextmanager
def its_pop3(instance: Instance, dovecot: Dovecot) -> Iterator[poplib.POP3]:
    """A session with Dovecot, which has done with the mailbox afterwards; dropped if the client was closed."""
    with pop3(dovecot.pop3_port, instance.password) as client:
        yield client
        if client.sock is not None:
            client.rset()
            client.quit()


@contextmanager
def its_imap(instance: Instance, dovecot: Dovecot) -> Iterator[imaplib.IMAP4]:
    """A session with Dovecot that has INBOX selected."""
    client = imaplib.IMAP4("127.0.0.1", dovecot.imap_port, timeout=PATIENCE)
    try:
        client.login(USER, instance.password)
        client.select()
        yield client
    finally:
        try:
            client.logout()
        except (OSError, imaplib.IMAP4.error):  # it has hung up
            client.shutdown()


def listed(client: poplib.POP3) -> list[Seen]:
    """What LIST and UIDL say."""
    octets = dict(line.split() for line in client.list()[1])
    uidls = dict(line.split() for line in client.uidl()[1])
    assert octets.keys() == uidls.keys()
    return [Seen(int(number), int(octets[number]), uidls[number].decode()) for number in octets]


def retrieved(client: poplib.POP3, number: int) -> bytes:
    """The octets of a message; raises poplib.error_proto."""
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


def subject_of(content: bytes) -> str:
    """What our messages are told apart by."""
    subject = re.search(rb"(?m)^Subject: (\S+)\r$", content)
    assert subject, content[:1000]
    return subject.group(1).decode()


def uids_by_subject(client: imaplib.IMAP4) -> dict[str, list[str]]:
    """The UIDs of what is in the selected folder, by subject."""
    client.noop()  # takes in what others have done
    answer = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    found: dict[str, list[str]] = {}
    for part in answer:
        if isinstance(part, tuple) and (uid := re.search(rb"UID (\d+)", part[0])):
            found.setdefault(subject_of(part[1]), []).append(uid.group(1).decode())
    return found
