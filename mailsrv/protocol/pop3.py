"""A POP3 server session (RFC 1939) without I/O: octets in, events and responses out.

`receive()` octets, take events with `next_event()` until it gives None, send `replies()`. Every event asks, and until
it is answered the session looks at no further octet. In AUTHORIZATION it asks who this is, in TRANSACTION it knows the
maildrop by the sizes and unique ids it was opened with, and asks for octets only; in UPDATE it asks for the deletions.
A long listing is made as fast as the client takes it.
"""

from collections.abc import Iterator
from typing import Final

from mailsrv.model.language import Language, language_of
from mailsrv.protocol import pop3_commands as commands
from mailsrv.protocol import pop3_multiline as multiline
from mailsrv.protocol import pop3_texts as texts
from mailsrv.protocol import sasl
from mailsrv.protocol.dialogue import Dialogue
from mailsrv.protocol.lines import Line
from mailsrv.protocol.pop3_commands import ALLOWED, MAX_LINE, Refused, State, Verb
from mailsrv.protocol.pop3_content import Content, at_once
from mailsrv.protocol.pop3_events import (
    AuthenticationBegun,
    AuthenticationContinued,
    EncryptionOffered,
    Event,
    Listing,
    LoginOffered,
    MessageRequested,
    Policy,
    Refusal,
    Security,
    UpdateRequested,
)
from mailsrv.protocol.pop3_texts import Text

MAX_ERRORS: Final = 10
NOTHING: Final = Security()  # as long as nobody has been greeted


class Session(Dialogue[Event]):
    """One connection's dialogue; see the module's docstring for its use."""

    def __init__(self, hostname: str, policy: Policy) -> None:
        super().__init__(MAX_LINE)
        self._hostname = hostname
        self._policy = policy
        self._security = NOTHING
        self._language = Language.DEFAULT
        self._is_utf8 = False
        self._is_securing = False  # STLS is answered, the handshake not done
        self._is_authenticating = False  # the next line is the response to a challenge
        self._user = ""
        self._errors = 0
        self._listing: Listing | None = None
        self._deleted: set[int] = set()
        self._pieces_left: Iterator[bytes] | None = None  # of a multi-line response that is being said
        self._content: Content | None = None  # of the message that is being said
        self._maildrop_octets = self._deleted_octets = 0
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

    def greet(self, security: Security, refusal: Refusal | None = None) -> None:
        """Begin with the greeting, or turn the client away."""
        self._security = security
        if refusal is not None:
            self._close(refusal)
        else:
            self._ok(texts.GREETING, self._hostname)

    def secured(self, security: Security) -> None:
        """The TLS handshake after STLS is done, and nothing received since: the client begins anew."""
        self._lines.clear()  # what came in the clear after STLS was answered
        self._security = security
        self._is_securing = False

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
        while self._question is None and not (self._is_securing or self.is_closed or self.is_overfull):
            if self._pieces_left is not None:
                self._say_more(self._pieces_left)
                continue
            line = self._lines.next_line()
            if line is None:
                return None
            event = self._question = self._take(line)
        return event

    def accept(self) -> None:
        """Answer EncryptionOffered or UpdateRequested with yes."""
        match self._answered():
            case EncryptionOffered():
                self._ok(texts.TLS_BEGINS)
                self._begin_securing()
            case UpdateRequested():
                self._ok(texts.GOODBYE)
                self.state = State.CLOSED

    def challenge(self, octets: bytes) -> None:
        """Answer AUTH, or the response to a challenge, with a challenge (RFC 5034 §4)."""
        self._answered()
        self._is_authenticating = True
        self._say(f"+ {sasl.encode(octets).decode()}")

    def admit(self, listing: Listing) -> None:
        """Answer any kind of login: the maildrop is locked for this session, and this is what is in it."""
        self._answered()
        self._is_authenticating = False
        self._listing, self._maildrop_octets = listing, listing.total
        self.state = State.TRANSACTION
        self._ok(texts.MESSAGES, len(listing.octets))

    def say_message(self, message: bytes) -> bool:
        """Answer MessageRequested with the whole message, in lines that end in LF or CRLF.

        One that has not the octets that are listed is another one: says so, and the question stands.
        """
        index, lines, _ = self._requested()
        octets = self._messages.octets[index]
        response = at_once(message, octets, lines)
        if response is None:
            return False
        self._question = None
        self._begin_content(octets, lines)
        self._replies += response
        return True

    def begin_message(self, octets: int) -> None:
        """The same with a message that comes in pieces, of so many octets as RETR sends it."""
        lines = self._requested().body_lines
        self._content = Content(octets, lines)
        self._begin_content(octets, lines)

    def write(self, octets: bytes) -> bool:
        """A piece of the message, in lines that end in LF or CRLF; says whether more is wanted."""
        if self._content is None:
            return False
        self._replies += self._content.feed(octets)
        return self._content.wants_more

    def end_message(self) -> bool:
        """The message is whole; if it has not the octets that were told, says so, and ends without its end."""
        self._answered()
        content, self._content = self._content, None
        end = content.end() if content is not None else b""
        if end is None:
            self.state = State.CLOSED
            return False
        self._replies += end
        return True

    def refuse(self, refusal: Refusal) -> None:
        """Answer any event with no."""
        question = self._answered()
        self._is_authenticating = False
        self._error(refusal.said_in(self._language))
        if isinstance(question, UpdateRequested) or refusal is Refusal.BANNED:
            self.state = State.CLOSED
        elif refusal in (Refusal.BAD_LOGIN, Refusal.MALFORMED):
            self._count_error()

    # --- commands ----------------------------------------------------------------------------------

    def _take(self, line: Line) -> Event | None:
        try:
            if self._is_authenticating:
                self._is_authenticating = False
                return AuthenticationContinued(commands.parse_response(line))
            verb, words = commands.parse_command(line)
            if verb not in ALLOWED[self.state]:
                raise Refused(texts.WRONG_STATE, verb.name, self.state.name)
            if self.state is State.AUTHORIZATION:
                return self._introduce(verb, words)
            event = self._transact(verb, words)
            self._errors = 0  # who has logged in may get things wrong, if not all the time
            return event
        except Refused as refused:
            self._error(refused.said_in(self._language))
            self._count_error()
            return None

    def _introduce(self, verb: Verb, words: list[str]) -> Event | None:
        """The commands of AUTHORIZATION."""
        match verb:
            case Verb.USER:
                self._take_user(words[0])
            case Verb.PASS:
                return self._take_password(words[0])
            case Verb.AUTH:
                return self._offer_authentication(words)
            case Verb.STLS:
                return self._offer_encryption()
            case Verb.UTF8:
                self._is_utf8 = True
                self._ok(texts.UTF8_BEGINS)
            case Verb.QUIT:
                self._ok(texts.GOODBYE)
                self.state = State.CLOSED
            case _:
                self._inform(verb, words)
        return None

    def _transact(self, verb: Verb, words: list[str]) -> Event | None:
        """The commands of TRANSACTION."""
        match verb:
            case Verb.RETR:
                return MessageRequested(self._index(words[0]), None, self._is_utf8)
            case Verb.TOP:
                return MessageRequested(self._index(words[0]), commands.parse_number(words[1]), self._is_utf8)
            case Verb.QUIT:
                self.state = State.UPDATE
                return UpdateRequested(frozenset(self._deleted))
            case Verb.STAT:
                left = len(self._messages.octets) - len(self._deleted)
                self._say(f"+OK {left} {self._maildrop_octets - self._deleted_octets}")
            case Verb.LIST:
                self._list(words, verb, texts.MESSAGES_FOLLOW)
            case Verb.UIDL:
                self._list(words, verb, texts.UNIQUE_IDS_FOLLOW)
            case Verb.DELE:
                self._delete(self._index(words[0]))
            case Verb.RSET:
                self._deleted.clear()
                self._deleted_octets = 0
                self._ok(texts.MESSAGES, len(self._messages.octets))
            case Verb.NOOP:
                self._ok(texts.NOTHING)
            case _:
                self._inform(verb, words)
        return None

    def _inform(self, verb: Verb, words: list[str]) -> None:
        """CAPA and LANG, which both states have."""
        if verb is Verb.CAPA:
            self._multi_line(texts.CAPABILITIES_FOLLOW, iter(multiline.capabilities(self._security, self._policy)))
        elif words:
            self._choose_language(words[0])
        else:
            self._multi_line(texts.LANGUAGES_FOLLOW, (language.listing for language in Language))

    def _take_user(self, user: str) -> None:
        if not self._security.takes_passwords:
            raise Refused(texts.INSECURE)
        self._user = user
        self._ok(texts.SEND_PASSWORD)  # §7 USER: whether or not there is such a user

    def _take_password(self, password: str) -> Event:
        if not self._user:
            raise Refused(texts.USER_FIRST)
        user, self._user = self._user, ""
        return LoginOffered(user, password)

    def _offer_authentication(self, words: list[str]) -> Event | None:
        mechanisms = self._security.mechanisms
        if not words:  # RFC 1734 knew it so; clients still ask
            self._multi_line(texts.MECHANISMS_FOLLOW, iter(mechanisms))
            return None
        mechanism = words[0].upper()
        if mechanism not in mechanisms:
            raise Refused(texts.NO_MECHANISM if mechanisms or self._security.takes_passwords else texts.INSECURE)
        return AuthenticationBegun(mechanism, commands.parse_initial_response(words[1:]))

    def _offer_encryption(self) -> Event | None:
        if self._security.is_encrypted:
            raise Refused(texts.TLS_ALREADY)  # RFC 2595 §4
        if not self._security.can_encrypt:
            self._error(Refusal.NO_TLS.said_in(self._language))
            return None
        return EncryptionOffered()

    def _begin_securing(self) -> None:
        """RFC 2595 §4: what was said before TLS was said by whoever stood between."""
        self._lines.clear()
        self._user, self._is_utf8, self._language = "", False, Language.DEFAULT
        self._is_securing = True

    def _choose_language(self, wanted: str) -> None:
        language = self._policy.language if wanted == "*" else language_of(wanted)
        if language is None:
            raise Refused(texts.NO_SUCH_LANGUAGE)
        self._language = language
        self._say(f"+OK {language.tag} {texts.LANGUAGE_CHANGED.said_in(language)}")  # RFC 6856 §3

    # --- the maildrop ------------------------------------------------------------------------------

    @property
    def _messages(self) -> Listing:
        if self._listing is None:
            raise RuntimeError("the state table let a command through that needs a maildrop")
        return self._listing

    def _list(self, words: list[str], verb: Verb, title: Text) -> None:
        if words:
            self._say(f"+OK {multiline.line_of(self._messages, verb, self._index(words[0]))}")
        elif self._deleted:
            left = (index for index in range(len(self._messages.octets)) if index not in self._deleted)
            self._multi_line(title, (multiline.line_of(self._messages, verb, index) for index in left))
        else:
            self._ok(title)
            self._begin_to_say(multiline.all_messages(self._messages, verb))

    def _requested(self) -> MessageRequested:
        if not isinstance(self._question, MessageRequested):
            raise RuntimeError("no message was asked for")
        return self._question

    def _begin_content(self, octets: int, lines: int | None) -> None:
        title = texts.OCTETS if lines is None else texts.TOP_FOLLOWS
        self._say(f"+OK {title.said_in(self._language, octets)}")

    def _delete(self, index: int) -> None:
        self._deleted.add(index)
        self._deleted_octets += self._messages.octets[index]
        self._ok(texts.DELETED)

    def _index(self, word: str) -> int:
        index = commands.parse_number(word) - 1
        if not 0 <= index < len(self._messages.octets):
            raise Refused(texts.NO_SUCH_MESSAGE, word[:20])
        if index in self._deleted:
            raise Refused(texts.IS_DELETED, word)
        return index

    # --- responses ---------------------------------------------------------------------------------

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._close(Refusal.TOO_MANY_ERRORS)

    def _close(self, refusal: Refusal) -> None:
        if self.state is not State.CLOSED:
            if self._content is None and self._pieces_left is None:  # inside a response nothing else may be said
                self._error(refusal.said_in(self._language))
            self.state = State.CLOSED
            self._question = None

    def _ok(self, text: Text, *words: object) -> None:
        self._say(f"+OK {text.said_in(self._language, *words)}".rstrip())

    def _error(self, text: str) -> None:
        self._say(f"-ERR {text}")

    def _multi_line(self, title: Text, lines: Iterator[str]) -> None:
        self._ok(title)
        self._begin_to_say(multiline.in_pieces(lines))

    def _begin_to_say(self, pieces: Iterator[bytes]) -> None:
        self._pieces_left = pieces
        self._say_more(pieces)

    def _say_more(self, pieces: Iterator[bytes]) -> None:
        """Go on with a multi-line response; each of its lines is ours, and begins with no dot."""
        piece = next(pieces, None)
        if piece is not None:
            self._replies += piece
        else:
            self._say(".")
            self._pieces_left = None

    def _say(self, line: str) -> None:
        self._replies += line.encode() + b"\r\n"
