"""A POP3 server session (RFC 1939) without I/O: octets in, events and responses out.

`receive()` octets, take events with `next_event()` until it gives None, send `replies()`. Every event asks, and until
it is answered the session looks at no further octet. In AUTHORIZATION it asks who this is, in TRANSACTION it knows the
maildrop by the sizes and unique ids it was opened with, and asks for octets only; in UPDATE it asks for the deletions.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from mailsrv.protocol.dialogue import Dialogue
from mailsrv.protocol.dots import ContentWriter, Top
from mailsrv.protocol.lines import Line
from mailsrv.protocol.pop3_events import Event, Listed, LoginOffered, MessageRequested, Refusal, UpdateRequested

MAX_LINE: Final = 255  # octets with CRLF, RFC 2449 §4
MAX_ERRORS: Final = 10


class State(Enum):
    """RFC 1939 §3; CLOSED is after UPDATE, or after the connection is given up."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()
    UPDATE = auto()
    CLOSED = auto()


class Verb(Enum):
    """The commands, each with its syntax; what stands in brackets may be left out."""

    USER = "USER name"
    PASS = "PASS string"
    CAPA = "CAPA"
    QUIT = "QUIT"
    STAT = "STAT"
    LIST = "LIST [message]"
    UIDL = "UIDL [message]"
    RETR = "RETR message"
    TOP = "TOP message lines"
    DELE = "DELE message"
    RSET = "RSET"
    NOOP = "NOOP"

    def takes(self, number: int) -> bool:
        """Whether the command may have so many arguments."""
        most = self.value.count(" ")
        return most - self.value.count("[") <= number <= most


ALLOWED: Final[dict[State, frozenset[Verb]]] = {
    State.AUTHORIZATION: frozenset({Verb.USER, Verb.PASS, Verb.CAPA, Verb.QUIT}),
    State.TRANSACTION: frozenset(set(Verb) - {Verb.USER, Verb.PASS}),
    State.UPDATE: frozenset(),
    State.CLOSED: frozenset(),
}


class _Refused(Exception):
    """A command that the session answers itself, with -ERR."""


class Session(Dialogue[Event]):
    """One connection's dialogue; see the module's docstring for its use."""

    def __init__(self, hostname: str) -> None:
        super().__init__(MAX_LINE)
        self._hostname = hostname
        self._takes_passwords = False
        self._writer: ContentWriter | None = None
        self._user = ""
        self._errors = 0
        self._messages: Sequence[Listed] = ()
        self._deleted: set[int] = set()
        self._top: Top | None = None
        self.state = State.AUTHORIZATION

    # --- the daemon's side -------------------------------------------------------------------------

    @property
    def is_in_transaction(self) -> bool:
        """Whether breaking off now would cost the client something: an answer is on its way."""
        return self._question is not None

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be said after `replies`."""
        return self.state is State.CLOSED

    def greet(self, refusal: Refusal | None = None, *, takes_passwords: bool) -> None:
        """Begin with the greeting, or turn the client away; no password is taken where others may read it."""
        self._takes_passwords = takes_passwords
        if refusal is not None:
            self._close(refusal)
        else:
            self._ok(f"{self._hostname} POP3 mailsrv")

    def shut_down(self) -> None:
        """The service stops; nothing is removed."""
        self._close(Refusal.SHUTTING_DOWN)

    def time_out(self) -> None:
        """The client has been silent for too long."""
        self.state = State.CLOSED  # RFC 1939 §3: without UPDATE, and "without ... sending any response"
        self._question = None

    def break_off(self) -> None:
        """A fault of ours, or the client is gone; nothing is removed."""
        self._close(Refusal.NOT_NOW)

    def next_event(self) -> Event | None:
        """The next event; None while octets or an answer are needed."""
        event: Event | None = None
        while event is None and not (self.is_waiting or self.is_closed or self.is_overfull):
            line = self._lines.next_line()
            if line is None:
                return None
            event = self._take(line)
        self._question = event or self._question
        return event

    def admit(self, messages: Sequence[Listed]) -> None:
        """Answer LoginOffered: the maildrop is locked for this session, and this is what is in it."""
        self._answered()
        self._messages = messages
        self.state = State.TRANSACTION
        self._ok(f"{len(messages)} messages")

    def begin_message(self) -> None:
        """Answer MessageRequested: what follows is the message."""
        self._writer = ContentWriter()
        match self._question:
            case MessageRequested(index, None):
                self._top = None
                self._ok(f"{self._messages[index].octets} octets")
            case MessageRequested(_, int(lines)):
                self._top = Top(lines)
                self._ok("top of the message")

    def write(self, octets: bytes) -> bool:
        """A piece of the message, in lines that end in LF or CRLF; says whether more is wanted."""
        if self._top is not None:
            octets = self._top.cut(octets)
        if self._writer is not None:
            self._replies += self._writer.feed(octets)
        return self._top is None or not self._top.is_complete

    def end_message(self) -> None:
        """The message is whole."""
        self._answered()
        if self._writer is not None:
            self._replies += self._writer.end()
            self._writer = None

    def finish(self) -> None:
        """Answer UpdateRequested: what was marked as deleted is removed for good."""
        self._answered()
        self._ok("goodbye")
        self.state = State.CLOSED

    def refuse(self, refusal: Refusal) -> None:
        """Answer any event with no."""
        question = self._answered()
        self._error(refusal.value)
        if isinstance(question, UpdateRequested) or refusal is Refusal.BANNED:
            self.state = State.CLOSED
        elif refusal is Refusal.BAD_LOGIN:
            self._count_error()

    # --- commands ----------------------------------------------------------------------------------

    def _take(self, line: Line) -> Event | None:
        try:
            verb, words = _parse(line)
            if verb not in ALLOWED[self.state]:
                raise _Refused(f"{verb.name} is not for the {self.state.name} state")
            return self._command(verb, words)
        except _Refused as refused:
            self._error(str(refused))
            self._count_error()
            return None

    def _command(self, verb: Verb, words: list[str]) -> Event | None:
        match verb:
            case Verb.USER:
                self._take_user(words[0])
            case Verb.PASS:
                return self._take_password(words[0])
            case Verb.RETR:
                return MessageRequested(self._index(words[0]), None)
            case Verb.TOP:
                return MessageRequested(self._index(words[0]), _number(words[1]))
            case Verb.QUIT:
                return self._quit()
            case Verb.CAPA:
                self._multi_line("capabilities follow", self._capabilities())
            case Verb.STAT:
                left = self._left()
                self._ok(f"{len(left)} {sum(self._messages[index].octets for index in left)}")
            case Verb.LIST:
                self._list(words, "messages follow", [str(message.octets) for message in self._messages])
            case Verb.UIDL:
                self._list(words, "unique ids follow", [message.uidl for message in self._messages])
            case Verb.DELE:
                self._deleted.add(self._index(words[0]))
                self._ok("deleted at QUIT")
            case Verb.RSET:
                self._deleted.clear()
                self._ok(f"{len(self._messages)} messages")
            case Verb.NOOP:
                self._ok("")
        return None

    def _take_user(self, user: str) -> None:
        if not self._takes_passwords:
            raise _Refused(Refusal.INSECURE.value)
        self._user = user
        self._ok("send the password")  # §7 USER: whether or not there is such a user

    def _take_password(self, password: str) -> Event:
        if not self._user:
            raise _Refused("USER comes before PASS")
        user, self._user = self._user, ""
        return LoginOffered(user, password)

    def _quit(self) -> Event | None:
        if self.state is State.TRANSACTION:
            self.state = State.UPDATE
            return UpdateRequested(frozenset(self._deleted))
        self._ok("goodbye")
        self.state = State.CLOSED
        return None

    def _capabilities(self) -> list[str]:
        return [
            "TOP",
            *(["USER"] if self._takes_passwords else []),
            "UIDL",
            "RESP-CODES",
            "AUTH-RESP-CODE",
            "PIPELINING",
            "EXPIRE NEVER",
            "IMPLEMENTATION mailsrv",
        ]

    def _list(self, words: list[str], title: str, values: Sequence[str]) -> None:
        if words:
            index = self._index(words[0])
            self._ok(f"{index + 1} {values[index]}")
        else:
            self._multi_line(title, [f"{index + 1} {values[index]}" for index in self._left()])

    def _left(self) -> list[int]:
        return [index for index in range(len(self._messages)) if index not in self._deleted]

    def _index(self, word: str) -> int:
        index = _number(word) - 1
        if not 0 <= index < len(self._messages):
            raise _Refused(f"there is no message {word[:20]}")
        if index in self._deleted:
            raise _Refused(f"message {word} is deleted")
        return index

    # --- responses ---------------------------------------------------------------------------------

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._close(Refusal.TOO_MANY_ERRORS)

    def _close(self, refusal: Refusal) -> None:
        if self.state is not State.CLOSED:
            if self._writer is None:  # inside a message nothing else may be said
                self._error(refusal.value)
            self.state = State.CLOSED
            self._question = None

    def _ok(self, text: str) -> None:
        self._say(f"+OK {text}".rstrip())

    def _error(self, text: str) -> None:
        self._say(f"-ERR {text}")

    def _multi_line(self, title: str, lines: Sequence[str]) -> None:
        self._say("\r\n".join([f"+OK {title}", *lines, "."]))

    def _say(self, line: str) -> None:
        self._replies += line.encode("ascii", "replace") + b"\r\n"


def _parse(line: Line) -> tuple[Verb, list[str]]:
    if line.fault is not None:
        raise _Refused("lines end with CRLF and are at most 255 octets long")
    try:
        text = line.octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused("expected UTF-8") from error
    word, *words = text.split(" ")
    verb = Verb.__members__.get(word.upper() if word.isascii() else "")  # a long s is S in capitals, and no keyword
    if verb is None:
        raise _Refused("unknown command")
    if verb is Verb.PASS:
        words = [text[5:]]  # §7 PASS: spaces are part of the password
    words = [each for each in words if each]
    if not verb.takes(len(words)):
        raise _Refused(f"the syntax is {verb.value}")
    return verb, words


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit()):  # as large as it likes: TOP n 2147483647 asks for all lines
        raise _Refused("expected a number")
    return int(word)
