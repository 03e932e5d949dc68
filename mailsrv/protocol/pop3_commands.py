"""The commands of POP3: their verbs and states, and their arguments by the grammar."""

from enum import Enum, auto
from typing import Final

from mailsrv.model.language import Language
from mailsrv.protocol import pop3_texts as texts
from mailsrv.protocol import sasl
from mailsrv.protocol.lines import Line
from mailsrv.protocol.pop3_texts import Text

MAX_COMMAND: Final = 255  # octets with CRLF, RFC 2449 §4
MAX_AUTH: Final = 12_288  # octets without CRLF; RFC 5034 §4 asks for what the mechanisms need, RFC 4954 §4 names this
MAX_LINE: Final = MAX_AUTH + 2


class State(Enum):
    """RFC 1939 §3; CLOSED is after UPDATE, or after the connection is given up."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()
    UPDATE = auto()
    CLOSED = auto()

    __hash__ = object.__hash__  # Enum has one of its own in Python, which counts at each command


class Verb(Enum):
    """The commands, each with its syntax; what stands in brackets may be left out."""

    USER = "USER name"
    PASS = "PASS string"
    AUTH = "AUTH [mechanism] [initial-response]"
    STLS = "STLS"
    UTF8 = "UTF8"
    LANG = "LANG [language]"
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

    __hash__ = object.__hash__  # as above

    def __init__(self, syntax: str) -> None:
        self._most = syntax.count(" ")
        self._least = self._most - syntax.count("[")

    def takes(self, number: int) -> bool:
        """Whether the command may have so many arguments."""
        return self._least <= number <= self._most


_VERBS: Final = {verb.name.encode(): verb for verb in Verb}


_TO_LOG_IN: Final = frozenset({Verb.USER, Verb.PASS, Verb.AUTH, Verb.STLS, Verb.UTF8})
ALLOWED: Final[dict[State, frozenset[Verb]]] = {
    State.AUTHORIZATION: _TO_LOG_IN | {Verb.LANG, Verb.CAPA, Verb.QUIT},
    State.TRANSACTION: frozenset(Verb) - _TO_LOG_IN,
    State.UPDATE: frozenset(),
    State.CLOSED: frozenset(),
}


class Refused(Exception):
    """A command that the session answers itself, with -ERR."""

    def __init__(self, text: Text, *words: object) -> None:
        super().__init__(text.said_in(Language.DEFAULT, *words))
        self._text = text
        self._words = words

    def said_in(self, language: Language) -> str:
        """What stands behind -ERR."""
        return self._text.said_in(language, *self._words)


def parse_command(line: Line) -> tuple[Verb, list[str]]:
    """The verb of a command line and its arguments; raises Refused."""
    word, _, rest = line.octets.partition(b" ")
    verb = _VERBS.get(word) or _VERBS.get(word.upper())
    if line.fault is not None or (len(line.octets) + 2 > MAX_COMMAND and verb is not Verb.AUTH):  # it has MAX_LINE
        raise Refused(texts.BAD_LINE, MAX_COMMAND)
    try:
        text = rest.decode()
    except UnicodeDecodeError as error:
        raise Refused(texts.NOT_UTF8) from error
    if verb is None:
        raise Refused(texts.UNKNOWN_COMMAND)
    words = [text] if verb is Verb.PASS else text.split(" ")  # RFC 1939 §7: spaces are part of the password
    if "" in words:
        words = [each for each in words if each]
    if not verb.takes(len(words)):
        raise Refused(texts.SYNTAX, verb.value)
    return verb, words


def parse_number(word: str) -> int:
    """A number as large as it likes: TOP n 2147483647 asks for all lines; raises Refused."""
    if not (word.isascii() and word.isdigit()):
        raise Refused(texts.NOT_A_NUMBER)
    return int(word)


def parse_response(line: Line) -> bytes:
    """The response to a challenge; raises Refused, also where the client cancels (RFC 5034 §4)."""
    if line.fault is not None:
        raise Refused(texts.BAD_LINE, MAX_LINE)
    if line.octets == b"*":
        raise Refused(texts.CANCELLED)
    return _expect_base64(sasl.decode(line.octets))


def parse_initial_response(words: list[str]) -> bytes | None:
    """The initial response of AUTH, if there is one; raises Refused."""
    return _expect_base64(sasl.decode_initial(words[0].encode())) if words else None


def _expect_base64(octets: bytes | None) -> bytes:
    if octets is None:
        raise Refused(texts.NOT_BASE64)
    return octets
