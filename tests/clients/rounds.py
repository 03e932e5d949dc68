"""Acts on one mailbox by all who use it, several at the same time, with books that have to balance in the end.

Each message has a number, in its subject, and content that follows from the number. Only one of the three who delete
may delete it: so it is known how many of each number have to be there.
"""

import imaplib
import poplib
import random
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import ClassVar

from bench.dovecot import Dovecot
from tests.clients.messages import Message, header
from tests.clients.pop3.mail import Mailbox, on_the_wire
from tests.clients.sessions import Seen, its_imap, its_pop3, listed, our_pop3, retrieved, subject_of, uids_by_subject

AT_FIRST = 30  # times that messages are brought
UNFINISHED = 5  # every fifth message has no end of the last line
SOMETHING_GONE = "found something gone"


def make_message(number: int) -> Message:
    """The message of this number: some are long, some have lines of dots, some have no end of the last line."""
    words = random.Random(number)
    lines = [words.choice((b"", b".", b"..", b".dot", b"x" * words.randrange(900))) for _ in range(words.randrange(60))]
    name = f"n{number}"
    end = b"\r\n" if number % UNFINISHED else b""
    return Message(name, header(name) + b"\r\n".join([*lines, b"This was %d." % number]) + end)


def number_of(content: bytes) -> int:
    """The number of a message, once its octets were found to be those of that number."""
    number = _number(subject_of(content))
    assert content == on_the_wire(make_message(number)), f"mixed up: {content[:400]!r}"
    return number


class Books:
    """How many messages of each number have to be there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._last = 0

    def new(self) -> Message:
        """A message of a number that was not there before."""
        with self._lock:
            self._last += 1
            return make_message(self._last)

    def enter(self, number: int, change: int) -> None:
        """So many more of them, or fewer."""
        with self._lock:
            self._counts[number] += change

    @property
    def due(self) -> Counter[int]:
        """What has to be there."""
        with self._lock:
            return +self._counts


class Actor(ABC):
    """One who uses the mailbox, and chooses by lot what to do next."""

    def __init__(self, books: Books, seed: str) -> None:
        self.books = books
        self.lots = random.Random(seed)
        self.done: Counter[str] = Counter()

    @abstractmethod
    def acts(self) -> Sequence[Callable[[], None]]:
        """What there is to do now; what is likely stands there more than once."""

    def act(self) -> None:
        """Do something."""
        act = self.lots.choice(self.acts())
        act()
        self.done[act.__name__] += 1

    def finish(self) -> None:
        """Carry out what was begun, and leave."""
        return


class Sender(Actor):
    """One who brings new messages."""

    def __init__(self, books: Books, seed: str, mailbox: Mailbox) -> None:
        super().__init__(books, seed)
        self._mailbox = mailbox

    def acts(self) -> Sequence[Callable[[], None]]:
        return [self.put]

    def put(self) -> None:
        messages = [self.books.new() for _ in range(self.lots.randrange(3))]
        self._mailbox.put(messages)
        for message in messages:
            self.books.enter(number_of(on_the_wire(message)), 1)


class Pop3(Actor):
    """One who reads and deletes by POP3, in sessions of several rounds; it deletes numbers of its own only."""

    share: ClassVar[int]  # its numbers, modulo 3

    def __init__(
        self, books: Books, seed: str, open_session: Callable[[], AbstractContextManager[poplib.POP3]]
    ) -> None:
        super().__init__(books, seed)
        self._open_session = open_session
        self._stack = ExitStack()
        self._client: poplib.POP3 | None = None
        self._listed: list[Seen] = []
        self._marked: dict[int, int] = {}  # the messages marked as deleted: of a number in the session, that of ours

    def acts(self) -> Sequence[Callable[[], None]]:
        if self._client is None:
            return [self.log_in]
        if not self._unmarked:
            return [self.quit]
        return [self.retrieve, self.retrieve, self.retrieve, self.delete, self.delete, self.quit, self.drop]

    def finish(self) -> None:
        if self._client is not None:
            self.quit()

    def log_in(self) -> None:
        before = [number for number in self.books.due if number % 3 == self.share]  # nobody else deletes them
        self._client = self._stack.enter_context(self._open_session())
        self._listed = listed(self._client)
        self.check_listing(before)

    def retrieve(self) -> None:
        self._read(self.lots.choice(self._unmarked))

    def delete(self) -> None:
        seen = self.lots.choice(self._unmarked)
        number = self._read(seen)
        if self._client is not None and number is not None and number % 3 == self.share:
            self._client.dele(seen.number)
            self._marked[seen.number] = number

    def quit(self) -> None:
        assert self._client is not None
        answer = self._client.quit()
        assert answer.startswith(b"+OK"), answer
        for number in self._marked.values():
            self.books.enter(number, -1)
        self._leave()

    def drop(self) -> None:
        """Break off: nothing is deleted."""
        assert self._client is not None
        self._client.close()
        self._leave()

    def check_listing(self, before: Sequence[int]) -> None:
        """Look at what a new session lists, where the messages of the numbers `before` have to be."""

    @abstractmethod
    def failed(self, seen: Seen, error: Exception) -> None:
        """A message could not be read."""

    @property
    def _unmarked(self) -> list[Seen]:
        return [seen for seen in self._listed if seen.number not in self._marked]

    def _read(self, seen: Seen) -> int | None:
        assert self._client is not None
        try:
            content = retrieved(self._client, seen.number)
        except (poplib.error_proto, OSError) as error:
            self.failed(seen, error)
            return None
        return _checked(seen, content)

    def _leave(self) -> None:
        self._client, self._listed, self._marked = None, [], {}
        self._stack.close()


class OurPop3(Pop3):
    """With us nothing is missing, nothing is doubled, and nothing fails but for what somebody else has removed."""

    share = 0

    def check_listing(self, before: Sequence[int]) -> None:
        uidls = [seen.uidl for seen in self._listed]
        assert len(set(uidls)) == len(uidls)
        told = [number for uidl in uidls if (number := _told_by(uidl)) is not None]
        assert len(set(told)) == len(told), "a file is listed twice"
        assert set(before) <= set(told), f"missing: {set(before) - set(told)}"

    def failed(self, seen: Seen, error: Exception) -> None:
        assert "-ERR [SYS/TEMP]" in str(error)
        number = _told_by(seen.uidl)
        assert number is None or number % 3 != self.share, f"{seen}: {error}"
        self.done[SOMETHING_GONE] += 1


class ItsPop3(Pop3):
    """Dovecot may end a session where a message is gone."""

    share = 1

    def failed(self, seen: Seen, error: Exception) -> None:
        del seen, error
        self.drop()


class ItsImap(Actor):
    """One who reads, sets flags, copies, adds and expunges by IMAP, in long sessions."""

    share = 2

    def __init__(
        self, books: Books, seed: str, open_session: Callable[[], AbstractContextManager[imaplib.IMAP4]]
    ) -> None:
        super().__init__(books, seed)
        self._open_session = open_session
        self._stack = ExitStack()
        self._client = self._stack.enter_context(open_session())

    def acts(self) -> Sequence[Callable[[], None]]:
        return [self.flag, self.flag, self.flag, self.look, self.copy, self.append, self.expunge, self.expunge]

    def finish(self) -> None:
        self._stack.close()

    def flag(self) -> None:
        """Set or remove flags of all: each is a rename."""
        flags = self.lots.sample([r"\Seen", r"\Flagged", r"\Answered", r"\Draft", "keyword"], 2)
        self._client.uid("STORE", "1:*", self.lots.choice(["+FLAGS", "-FLAGS"]), f"({' '.join(flags)})")

    def look(self) -> None:
        """Read many; where one of them is gone, Dovecot hangs up."""
        try:
            found = self._client.uid("FETCH", f"{self.lots.randrange(1, 200)}:*", "(BODY.PEEK[])")[1]
        except imaplib.IMAP4.abort:
            self.finish()
            self._client = self._stack.enter_context(self._open_session())
            return
        for part in found:
            if isinstance(part, tuple):
                number_of(on_the_wire(Message("", part[1])))

    def copy(self) -> None:
        number, uid = self._choose()
        self._client.uid("COPY", uid, "INBOX")
        assert self._client.response("COPYUID")[1] != [None]
        self.books.enter(number, 1)

    def append(self) -> None:
        number, _ = self._choose()
        answer, _ = self._client.append("INBOX", "", "", make_message(number).content)
        assert answer == "OK"
        self.books.enter(number, 1)

    def expunge(self) -> None:
        number, uid = self._choose()
        self._client.uid("STORE", uid, "+FLAGS", r"(\Deleted)")
        answer, _ = self._client.uid("EXPUNGE", uid)
        assert answer == "OK"
        self.books.enter(number, -1)

    def _choose(self) -> tuple[int, str]:
        """One of those that it may delete: its number, and its UID."""
        found = [
            (number, uid)
            for subject, uids in uids_by_subject(self._client).items()
            if (number := _number(subject)) % 3 == self.share
            for uid in uids
        ]
        return self.lots.choice(found)


def _number(subject: str) -> int:
    return int(subject.removeprefix("n"))


def _told_by(uidl: str) -> int | None:
    """The number of a message that came as a file, as its UIDL with us tells."""
    told = re.search(r"_n(\d+)\.elsewhere$", uidl)
    return int(told.group(1)) if told else None


def _checked(seen: Seen, content: bytes) -> int:
    """The number of a message, once its octets, their count and its UIDL were found to be of one message."""
    number = number_of(content)
    assert _told_by(seen.uidl) in (None, number), f"{seen} is message {number}"
    # Sizes in names, as Dovecot gives them too, do not count the line end that RETR adds.
    uncounted = (0,) if number % UNFINISHED else (0, 2)
    assert len(content) - seen.octets in uncounted, f"{seen} has {len(content)} octets"
    return number


def found_by_us(mailbox: Mailbox) -> Counter[int]:
    """How many messages of each number there are, all of them read."""
    with our_pop3(mailbox.instance) as client:
        return Counter(_checked(seen, retrieved(client, seen.number)) for seen in listed(client))


def found_by_dovecot(mailbox: Mailbox, neighbour: Dovecot) -> Counter[int]:
    """The same by IMAP, by their subjects."""
    with its_imap(mailbox.instance, neighbour) as client:
        return Counter({_number(subject): len(uids) for subject, uids in uids_by_subject(client).items()})


def play(mailbox: Mailbox, neighbour: Dovecot, rounds: int, seed: str) -> tuple[Books, Counter[str]]:
    """So many rounds of all at once; then what has to be in the mailbox, and what was done how often."""
    books, instance = Books(), mailbox.instance
    sender = Sender(books, f"{seed} sender", mailbox)
    for _ in range(AT_FIRST):
        sender.put()
    actors: list[Actor] = [
        sender,
        OurPop3(books, f"{seed} ours", lambda: our_pop3(instance)),
        ItsPop3(books, f"{seed} its", lambda: its_pop3(instance, neighbour)),
        ItsImap(books, f"{seed} imap", lambda: its_imap(instance, neighbour)),
    ]
    with ThreadPoolExecutor(len(actors)) as pool:
        for _ in range(rounds):
            for future in [pool.submit(actor.act) for actor in actors]:
                future.result()
    for actor in actors:
        actor.finish()
    return books, sum((actor.done for actor in actors), Counter())
