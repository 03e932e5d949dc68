"""An SMTP, submission or LMTP server session (RFC 5321, 6409, 2033) without I/O: octets in, events and replies out.

`receive()` octets, take events with `next_event()` until it gives None, send `replies()`. An event that asks
(`...Offered`, `Authentication...`, `MessageEnded`) must be answered by `accept()`, `refuse()`, `challenge()` or
`admit()`; until then the session looks at no further octet, which makes PIPELINING (RFC 2920) safe by construction.
What the world is asked stands in the events; what the grammar decides, the session answers by itself.
"""

from mailsrv.model import reply
from mailsrv.model.envelope import Envelope, Recipient, Sender
from mailsrv.model.reply import Reply
from mailsrv.protocol import sasl
from mailsrv.protocol import smtp_commands as commands
from mailsrv.protocol import smtp_services as services
from mailsrv.protocol.dialogue import Dialogue
from mailsrv.protocol.dots import ContentReader
from mailsrv.protocol.lines import Line
from mailsrv.protocol.smtp_commands import MAX_ENVELOPE, MAX_LINE, Refused, Verb, syntax
from mailsrv.protocol.smtp_content import ChunkReader, Incoming
from mailsrv.protocol.smtp_events import (
    IN_CLEAR,
    QUESTIONS,
    AuthenticationBegun,
    AuthenticationContinued,
    ContentAbandoned,
    ContentOffered,
    EncryptionOffered,
    Event,
    Hello,
    Limits,
    MessageEnded,
    RecipientOffered,
    Security,
    SenderOffered,
    Service,
)
from mailsrv.protocol.smtp_patience import Patience
from mailsrv.protocol.smtp_services import AFTER, ANYWHERE, VERBS, State


class Session(Dialogue[Event]):
    """One connection's dialogue; see the module's docstring for its use."""

    def __init__(self, hostname: str, limits: Limits, service: Service = Service.MAIL) -> None:
        super().__init__(MAX_LINE)
        self._hostname = hostname
        self._limits = limits
        self._service = service
        self._security = IN_CLEAR
        self._events: list[Event] = []  # told one by one
        self._is_starved = False  # nothing more can be said of the octets received so far
        self._patience = Patience()
        self._messages = 0
        self._reader: ContentReader | ChunkReader | None = None  # while what comes is content
        self._incoming: Incoming | None = None  # None while what comes is to be dropped
        self._after_chunk: Reply | None = None  # the answer to a chunk, if it is not the message's
        self._lost = 0  # recipients of a transaction that has failed with a chunk, until its last one
        self._sender: Sender | None = None
        self._recipients: list[Recipient] = []
        self._envelope_octets = 0
        self.hello = Hello("", extended=False)
        self.identity = ""  # who has logged in
        self.state = State.CONNECTED

    # --- the daemon's side -------------------------------------------------------------------------

    @property
    def is_in_transaction(self) -> bool:
        """Whether content is on its way or waits for its answer."""
        return self.state in (State.IN_CONTENT, State.HAS_CHUNKS)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be said after `replies`."""
        return self.state is State.CLOSED

    @property
    def protocol(self) -> str:
        """What a Received line calls the transaction."""
        international = self._sender is not None and self._sender.says_smtputf8
        encrypted, authenticated = self._security.is_encrypted, bool(self.identity)
        return services.protocol_name(
            self._service, self.hello, encrypted=encrypted, authenticated=authenticated, international=international
        )

    def greet(self, security: Security = IN_CLEAR, refusal: Reply | None = None) -> None:
        """Begin with the greeting, or turn the client away with a 421."""
        self._security = security
        if refusal is not None:
            self._close(refusal)
        else:
            kind = "LMTP mailsrv" if self._service is Service.LMTP else reply.GREETING.text
            self._say(reply.GREETING.saying(f"{self._hostname} {kind}"))

    def secured(self, security: Security) -> None:
        """The TLS handshake after STARTTLS is done, and nothing received since: the client begins anew."""
        self._lines.clear()  # what came in the clear after STARTTLS was answered
        self._security = security
        self.state = State.CONNECTED

    def shut_down(self) -> None:
        """The service stops."""
        self._close(reply.SHUTTING_DOWN)

    def time_out(self) -> None:
        """The client has been silent for too long, or sends too slowly."""
        self._close(reply.TOO_SLOW if self.is_in_transaction else reply.IDLE_TOO_LONG)

    def break_off(self) -> None:
        """A fault of ours: the client may come back."""
        self._close(reply.BROKEN_OFF)

    def next_event(self) -> Event | None:
        """The next event; None while octets or an answer are needed."""
        event: Event | None = None
        self._is_starved = False
        while event is None and not self.is_waiting and (self._events or self._can_go_on()):
            if self._events:
                event = self._events.pop(0)
            elif self._reader is not None:
                self._read_content(self._reader)
            else:
                event = self._next_command()
        if isinstance(event, QUESTIONS):
            self._question = event
        return event

    def accept(self, text: str | None = None) -> None:
        """Answer the event that asks with yes; `text` becomes the reply's, for MessageEnded."""
        self._patience.is_excused = False
        match self._answered():
            case EncryptionOffered():
                self._begin_securing()
            case SenderOffered(sender):
                self._sender = sender
                self._messages += 1
                self._move(Verb.MAIL)
                self._say(reply.SENDER_OK)
            case RecipientOffered(recipient):
                self._recipients.append(recipient)
                self._move(Verb.RCPT)
                self._say(reply.RECIPIENT_OK)
            case ContentOffered():
                self._begin_content()
            case MessageEnded():
                self._patience.renew()
                self._end_message(reply.QUEUED.saying(text or reply.QUEUED.text))

    def refuse(self, answer: Reply) -> None:
        """Answer the event that asks with no."""
        match self._answered():
            case _ if answer.is_last_word:
                self._close(answer)
            case AuthenticationBegun() | AuthenticationContinued():
                self._end_authentication()
                self._say_or_close(answer, is_enough=self._patience.ends_with_error(answer))
            case RecipientOffered():
                self._say_or_close(answer, is_enough=self._patience.ends_with_unwanted(answer))
            case ContentOffered() if self._reader is not None:  # the octets of the chunk come all the same
                self._forget_transaction(lost=len(self._recipients))
                self._after_chunk = answer
            case MessageEnded():
                self._end_message(answer)
            case ContentOffered():
                self._forget_transaction()
                self._say(answer)
            case _:
                self._say(answer)

    def challenge(self, octets: bytes) -> None:
        """Answer AUTH, or the response to a challenge, with a challenge."""
        self._answered()
        self.state = State.AUTHENTICATING
        self._say(reply.CHALLENGE.saying(sasl.encode(octets).decode()))

    def admit(self, identity: str) -> None:
        """Answer AUTH, or the response to a challenge: the client is who it says."""
        self._answered()
        self._end_authentication()
        self.identity = identity
        self._say(reply.AUTHENTICATED)

    def _can_go_on(self) -> bool:
        return not (self._is_starved or self.state is State.SECURING or self.is_closed or self.is_overfull)

    # --- commands ----------------------------------------------------------------------------------

    def _next_command(self) -> Event | None:
        line = self._lines.next_line()
        if line is None:
            self._is_starved = True
            return None
        try:
            return self._response(line) if self.state is State.AUTHENTICATING else self._command(line)
        except Refused as refused:
            self._say_or_close(refused.answer, is_enough=self._patience.ends_with_error(refused.answer))
            return None

    def _say_or_close(self, answer: Reply, *, is_enough: bool) -> None:
        if is_enough:
            self._close(reply.TOO_MANY_ERRORS)
        else:
            self._say(answer)

    def _command(self, line: Line) -> Event | None:
        verb, argument = commands.parse_command(line)
        if verb not in VERBS[self._service]:
            raise Refused(reply.NOT_IMPLEMENTED if verb in (Verb.AUTH, Verb.STARTTLS) else reply.UNKNOWN_COMMAND)
        if verb not in ANYWHERE and (self.state, verb) not in AFTER:
            raise Refused(reply.BAD_SEQUENCE)
        event: Event | None = None
        match verb:
            case Verb.MAIL:
                event = self._offer_sender(argument)
            case Verb.RCPT:
                event = self._offer_recipient(argument)
            case Verb.DATA:
                commands.expect_no_argument(verb, argument)
                event = ContentOffered(self._envelope())
            case Verb.BDAT:
                event = self._offer_chunk(argument)
            case Verb.STARTTLS:
                event = self._offer_encryption(argument)
            case Verb.AUTH:
                event = self._offer_authentication(argument)
            case _:
                self._answer(verb, argument)
        return event

    def _answer(self, verb: Verb, argument: str) -> None:
        """The commands that ask the world nothing."""
        match verb:
            case Verb.EHLO | Verb.HELO | Verb.LHLO:
                self._greeted(verb, argument)
            case Verb.RSET:
                commands.expect_no_argument(verb, argument)
                self._forget_transaction()
                self._say(reply.OK)
            case Verb.NOOP:
                self._say(reply.OK)
            case Verb.VRFY:
                # §3.5.3: an address is not disclosed, and not denied.
                self._say(reply.CANNOT_VERIFY if argument else syntax(verb))
            case Verb.HELP:
                self._say(commands.help_on(argument, VERBS[self._service]))
            case Verb.QUIT:
                commands.expect_no_argument(verb, argument)
                self._close(reply.CLOSING)

    def _greeted(self, verb: Verb, argument: str) -> None:
        if not commands.HELLO_NAME.fullmatch(argument):
            raise Refused(syntax(verb))
        self.hello = Hello(argument, extended=verb is not Verb.HELO)
        self._forget_transaction()
        self.state = State.GREETED
        lines = services.extensions(self._service, self._limits, self._security) if self.hello.extended else ()
        self._say(reply.HELLO.saying("\n".join([f"{self._hostname} {reply.HELLO.text}", *lines])))

    def _offer_encryption(self, argument: str) -> Event:
        commands.expect_no_argument(Verb.STARTTLS, argument)
        services.expect_encryption_to_be_possible(self._security)
        return EncryptionOffered()

    def _begin_securing(self) -> None:
        self._say(reply.TLS_READY)
        self._lines.clear()  # RFC 3207 §4.2: what came with STARTTLS was said by whoever stood between
        self._forget_transaction()
        self.hello, self.identity = Hello("", extended=False), ""
        self._move(Verb.STARTTLS)

    def _offer_authentication(self, argument: str) -> Event:
        if self.identity:
            raise Refused(reply.BAD_SEQUENCE)  # RFC 4954 §4
        return AuthenticationBegun(*services.parse_offered_auth(argument, self._security))

    def _response(self, line: Line) -> Event:
        try:
            return AuthenticationContinued(commands.parse_response(line))
        except Refused:
            self._end_authentication()
            raise

    def _end_authentication(self) -> None:
        """What came before the answer is dropped: nothing may be pipelined behind AUTH."""
        self._lines.clear()
        self.state = State.GREETED

    # --- the transaction ---------------------------------------------------------------------------

    def _offer_sender(self, argument: str) -> Event:
        self._patience.is_excused = True
        services.expect_authentication(self._service, self._security, self.identity)
        if self._messages >= self._limits.max_messages:
            raise Refused(reply.TOO_MANY_MESSAGES)  # RFC 9422 §4.1
        sender = commands.parse_mail(argument, self._limits.max_message_octets)
        return SenderOffered(services.allowed_sender(sender, self._service, self._security))

    def _offer_recipient(self, argument: str) -> Event | None:
        self._patience.is_excused, sender = True, self._given_sender()
        recipient = commands.parse_rcpt(argument, sender.parameters)
        self._envelope_octets += recipient.octets
        if len(self._recipients) >= self._limits.max_recipients or self._envelope_octets > MAX_ENVELOPE:
            self._say(reply.TOO_MANY_RECIPIENTS)  # §4.5.3.1.10: not an error of form
            return None
        return RecipientOffered(recipient, sender)

    def _offer_chunk(self, argument: str) -> Event | None:
        chunk = commands.parse_bdat(argument)
        if chunk is None:  # what follows could be anything: nothing that comes may be run as a command
            self._close(syntax(Verb.BDAT))
            return None
        self._reader = ChunkReader(chunk[0], is_last=chunk[1])
        if (self.state, Verb.BDAT) not in AFTER:
            self._after_chunk = reply.BAD_SEQUENCE  # RFC 3030 §2: its octets are dropped
        elif self.state is State.HAS_RECIPIENT:
            return ContentOffered(self._envelope())
        return None

    def _begin_content(self) -> None:
        self._incoming = Incoming(self._limits, tells_header=self._service is Service.SUBMISSION)
        if self._reader is None:
            self._reader = ContentReader()
            self._move(Verb.DATA)
            self._say(reply.SEND_CONTENT)
        else:
            self._move(Verb.BDAT)

    def _read_content(self, reader: ContentReader | ChunkReader) -> None:
        most = reader.left if isinstance(reader, ChunkReader) else self.buffered
        octets, rest = reader.feed(self._lines.take(most))
        self._lines.feed(rest)
        if self._after_chunk is None and self._incoming is not None:
            self._events.extend(self._incoming.take(octets))
        if reader.ended:
            self._reader = None
            self._end_of_content(self._incoming, is_complete=isinstance(reader, ContentReader) or reader.is_last)
        else:
            self._is_starved = True

    def _end_of_content(self, incoming: Incoming | None, *, is_complete: bool) -> None:
        if self._after_chunk is not None or incoming is None:
            answer, self._after_chunk = self._after_chunk or reply.BAD_SEQUENCE, None
            self._say(answer, self._answers_to_chunk(is_last=is_complete))
            return
        if is_complete:
            self._events.extend(incoming.finish())
        fault = incoming.fault(is_complete=is_complete)
        if fault is None and is_complete:
            self._events.append(MessageEnded())
        elif fault is None:
            self._say(reply.CHUNK_TAKEN)
        elif is_complete:
            self._end_message(fault)
        else:
            self._forget_transaction(lost=len(self._recipients))
            self._say(fault)

    def _answers_to_chunk(self, *, is_last: bool) -> int:
        """RFC 2033 §4.3: LMTP answers the last chunk of a transaction, also one that has failed, for each recipient."""
        if self._service is not Service.LMTP or not is_last:
            return 1
        answers, self._lost = (len(self._recipients) if self._sender else self._lost or 1), 0
        return answers

    def _move(self, verb: Verb) -> None:
        self.state = AFTER[self.state, verb]

    def _given_sender(self) -> Sender:
        if self._sender is None:
            raise RuntimeError("the state table let a transaction through that has no sender")
        return self._sender

    def _envelope(self) -> Envelope:
        return Envelope(self._given_sender(), tuple(self._recipients))

    def _end_message(self, outcome: Reply) -> None:
        """RFC 2033 §4.2: LMTP answers once for each recipient that was accepted."""
        answers = len(self._recipients) if self._service is Service.LMTP else 1
        self._incoming = None
        self._forget_transaction()
        self._say(outcome, answers)

    def _forget_transaction(self, lost: int = 0) -> None:
        self._sender, self._recipients, self._envelope_octets, self._lost = None, [], 0, lost
        self._patience.is_excused = False
        if self._incoming is not None and not self._incoming.is_abandoned:
            self._events.append(ContentAbandoned())
        self._incoming = None
        if self.state is not State.CONNECTED:
            self.state = State.GREETED

    def _close(self, farewell: Reply) -> None:
        if self.state is not State.CLOSED:
            self._say(farewell)
            self.state = State.CLOSED
            self._question = None
            self._events.clear()

    def _say(self, answer: Reply, times: int = 1) -> None:
        self._replies += bytes(answer) * times
