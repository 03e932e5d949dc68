"""An SMTP server session (RFC 5321) without I/O: octets in, events and replies out.

`receive()` octets, take events with `next_event()` until it gives None, send `replies()`. An event that asks
(`...Offered`, `MessageEnded`) must be answered by `accept()` or `refuse()`; until then the session looks at
no further octet, which makes PIPELINING (RFC 2920) safe by construction. What the world is asked stands in
the events; what the grammar decides, the session answers by itself. The state machine is the table AFTER.
"""

from enum import Enum, auto
from typing import Final

from mailsrv.model import reply
from mailsrv.model.envelope import Envelope, Recipient, Sender
from mailsrv.model.reply import Reply
from mailsrv.protocol.dialogue import Dialogue
from mailsrv.protocol.dots import ContentReader
from mailsrv.protocol.lines import Line
from mailsrv.protocol.smtp_commands import (
    HELLO_NAME,
    MAX_LINE,
    Refused,
    Verb,
    expect_no_argument,
    help_on,
    parse_command,
    parse_mail,
    parse_rcpt,
    syntax,
)
from mailsrv.protocol.smtp_events import (
    QUESTIONS,
    ContentAbandoned,
    ContentOffered,
    ContentReceived,
    Event,
    Hello,
    Limits,
    MessageEnded,
    RecipientOffered,
    SenderOffered,
)

MAX_ERRORS: Final = 10  # commands refused for their form before we hang up
# What a client may run into without a mistake of its own: what it pipelined behind a MAIL that was refused, say.
UNCOUNTED: Final = frozenset({reply.BAD_SEQUENCE, reply.MESSAGE_TOO_BIG})


class State(Enum):
    """Where the dialogue stands."""

    CONNECTED = auto()
    GREETED = auto()
    HAS_SENDER = auto()
    HAS_RECIPIENT = auto()
    IN_CONTENT = auto()
    CLOSED = auto()


_ANYWHERE: Final = frozenset({Verb.NOOP, Verb.HELP, Verb.VRFY, Verb.RSET, Verb.QUIT, Verb.EHLO, Verb.HELO})

# RFC 5321 §4.1.4. A pair that is absent, and not of a verb allowed anywhere, is a bad sequence (503).
AFTER: Final[dict[tuple[State, Verb], State]] = {
    (State.GREETED, Verb.MAIL): State.HAS_SENDER,
    (State.HAS_SENDER, Verb.RCPT): State.HAS_RECIPIENT,
    (State.HAS_RECIPIENT, Verb.RCPT): State.HAS_RECIPIENT,
    (State.HAS_RECIPIENT, Verb.DATA): State.IN_CONTENT,
}


class Session(Dialogue[Event]):
    """One connection's dialogue; see the module's docstring for its use."""

    def __init__(self, hostname: str, limits: Limits) -> None:
        super().__init__(MAX_LINE)
        self._hostname = hostname
        self._limits = limits
        self._is_starved = False  # nothing more can be said of the octets received so far
        self._errors = 0
        self._content: ContentReader | None = None
        self._content_octets = 0
        self._is_abandoned = False  # what comes of this content is only counted
        self._sender: Sender | None = None
        self._recipients: list[Recipient] = []
        self.hello = Hello("", extended=False)
        self.state = State.CONNECTED

    # --- the daemon's side -------------------------------------------------------------------------

    @property
    def is_in_transaction(self) -> bool:
        """Whether content is on its way or waits for its answer."""
        return self.state is State.IN_CONTENT

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be said after `replies`."""
        return self.state is State.CLOSED

    def greet(self, refusal: Reply | None = None) -> None:
        """Begin with the greeting, or turn the client away with a 421."""
        if refusal is not None:
            self._close(refusal)
        else:
            self._say(reply.GREETING.saying(f"{self._hostname} {reply.GREETING.text}"))

    def shut_down(self) -> None:
        """The service stops."""
        self._close(reply.SHUTTING_DOWN)

    def time_out(self) -> None:
        """The client has been silent for too long."""
        self._close(reply.IDLE_TOO_LONG)

    def break_off(self) -> None:
        """A fault of ours: the client may come back."""
        self._close(reply.BROKEN_OFF)

    def next_event(self) -> Event | None:
        """The next event; None while octets or an answer are needed."""
        event: Event | None = None
        self._is_starved = False
        while event is None and self._can_go_on():
            event = self._next_command() if self._content is None else self._next_of_content(self._content)
        if isinstance(event, QUESTIONS):
            self._question = event
        return event

    def accept(self, text: str | None = None) -> None:
        """Answer the event that asks with yes; `text` becomes the reply's, for MessageEnded."""
        match self._answered():
            case SenderOffered(sender):
                self._sender = sender
                self._move(Verb.MAIL)
                self._say(reply.SENDER_OK)
            case RecipientOffered(recipient):
                self._recipients.append(recipient)
                self._move(Verb.RCPT)
                self._say(reply.RECIPIENT_OK)
            case ContentOffered():
                self._move(Verb.DATA)
                self._content = ContentReader()
                self._content_octets, self._is_abandoned = 0, False
                self._say(reply.SEND_CONTENT)
            case MessageEnded():
                self._errors = 0  # a session is kept open for many messages: only what comes without mail counts
                self._forget_transaction()
                self._say(reply.QUEUED.saying(text or reply.QUEUED.text))

    def refuse(self, answer: Reply) -> None:
        """Answer the event that asks with no."""
        if isinstance(self._answered(), MessageEnded | ContentOffered):
            self._forget_transaction()
        self._say(answer)

    def _can_go_on(self) -> bool:
        return not (self.is_waiting or self._is_starved or self.is_closed or self.is_overfull)

    # --- commands ----------------------------------------------------------------------------------

    def _next_command(self) -> Event | None:
        line = self._lines.next_line()
        if line is None:
            self._is_starved = True
            return None
        try:
            return self._command(line)
        except Refused as refused:
            self._count_error(refused.answer)
            return None

    def _count_error(self, answer: Reply) -> None:
        self._errors += answer not in UNCOUNTED
        if self._errors >= MAX_ERRORS:
            self._close(reply.TOO_MANY_ERRORS)
        else:
            self._say(answer)

    def _command(self, line: Line) -> Event | None:
        verb, argument = parse_command(line)
        if verb not in _ANYWHERE and (self.state, verb) not in AFTER:
            raise Refused(reply.BAD_SEQUENCE)
        match verb:
            case Verb.MAIL:
                return SenderOffered(parse_mail(argument, self._limits.max_message_octets))
            case Verb.RCPT:
                return self._offer_recipient(parse_rcpt(argument))
            case Verb.DATA:
                expect_no_argument(verb, argument)
                return ContentOffered(self._envelope())
            case Verb.EHLO | Verb.HELO:
                self._greeted(verb, argument)
            case Verb.RSET:
                expect_no_argument(verb, argument)
                self._forget_transaction()
                self._say(reply.OK)
            case Verb.NOOP:
                self._say(reply.OK)
            case Verb.VRFY:
                # §3.5.3: an address is not disclosed, and not denied.
                self._say(reply.CANNOT_VERIFY if argument else syntax(verb))
            case Verb.HELP:
                self._say(help_on(argument))
            case Verb.QUIT:
                expect_no_argument(verb, argument)
                self._close(reply.CLOSING)
        return None

    def _greeted(self, verb: Verb, argument: str) -> None:
        if not HELLO_NAME.fullmatch(argument):
            raise Refused(syntax(verb))
        self.hello = Hello(argument, extended=verb is Verb.EHLO)
        self._forget_transaction()
        self.state = State.GREETED
        text = f"{self._hostname} {reply.HELLO.text}"
        if verb is Verb.EHLO:
            text = "\n".join([text, *self._extensions()])
        self._say(reply.HELLO.saying(text))

    def _extensions(self) -> tuple[str, ...]:
        return ("PIPELINING", f"SIZE {self._limits.max_message_octets}", "8BITMIME", "ENHANCEDSTATUSCODES", "HELP")

    def _offer_recipient(self, recipient: Recipient) -> Event | None:
        if len(self._recipients) >= self._limits.max_recipients:
            self._say(reply.TOO_MANY_RECIPIENTS)  # §4.5.3.1.10: not an error of form
            return None
        return RecipientOffered(recipient, self._sender.reverse_path if self._sender else None)

    # --- content -----------------------------------------------------------------------------------

    def _next_of_content(self, content: ContentReader) -> Event | None:
        if content.ended:
            return self._end_of_content(content)
        octets, rest = content.feed(self._lines.take_all())
        self._lines.feed(rest)
        self._content_octets += len(octets)
        if self._is_abandoned:
            octets = b""
        elif self._fault_of(content) is not None:
            self._is_abandoned = True
            return ContentAbandoned()
        self._is_starved = not content.ended
        return ContentReceived(octets) if octets else None

    def _fault_of(self, content: ContentReader) -> Reply | None:
        if content.has_bare_line_end:
            return reply.BARE_LINE_END_IN_CONTENT
        if self._content_octets > self._limits.max_message_octets:
            return reply.MESSAGE_TOO_BIG
        return None

    def _end_of_content(self, content: ContentReader) -> Event | None:
        self._content = None
        fault = self._fault_of(content)  # judged on all of it: the pieces it came in make no difference
        if fault is None:
            return MessageEnded()
        self._forget_transaction()
        self._say(fault)
        return None

    # --- state -------------------------------------------------------------------------------------

    def _move(self, verb: Verb) -> None:
        self.state = AFTER[self.state, verb]

    def _envelope(self) -> Envelope:
        if self._sender is None:
            raise RuntimeError("the state table let a transaction through that has no sender")
        return Envelope(self._sender, tuple(self._recipients))

    def _forget_transaction(self) -> None:
        self._sender = None
        self._recipients = []
        if self.state is not State.CONNECTED:
            self.state = State.GREETED

    def _close(self, farewell: Reply) -> None:
        if self.state is not State.CLOSED:
            self._say(farewell)
            self.state = State.CLOSED
            self._question = None

    def _say(self, answer: Reply) -> None:
        self._replies += bytes(answer)
