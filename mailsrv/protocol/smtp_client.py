"""An SMTP client session (RFC 5321) without I/O: replies in, events and commands out.

`receive()` octets, take events with `next_event()` until it gives None, send `outgoing()`. Each command that is said
leaves one expectation in a queue, so that replies find their commands however many are on their way (RFC 2920). When
the connection is gone, `lost()` says so, and every recipient that was not yet decided is given a reason.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from mailsrv.model import outcome
from mailsrv.model.envelope import Recipient
from mailsrv.model.reply import Reply
from mailsrv.protocol import sasl
from mailsrv.protocol.dots import ContentWriter
from mailsrv.protocol.smtp_answers import NotSmtpError, Offered, ReplyReader, offered_by
from mailsrv.protocol.smtp_transaction import Transaction

MOST_AWAITED: Final = 50  # commands on their way: their replies fit into the buffers of any connection

# Seconds to wait for what comes next, RFC 5321 §4.5.3.2.
PATIENCE: Final = 300.0
PATIENCE_FOR_DATA: Final = 180.0
PATIENCE_FOR_END: Final = 600.0
PATIENCE_FOR_QUIT: Final = 5.0


class Encrypt(Enum):
    """How TLS is wanted of a server that is met in the clear."""

    NEVER = auto()
    IF_OFFERED = auto()
    ALWAYS = auto()


class Stage(Enum):
    """Where the dialogue stands."""

    OPENING = auto()  # greeting, EHLO, STARTTLS
    ENCRYPTING = auto()
    LOGGING_IN = auto()
    READY = auto()  # for a transaction
    IN_ENVELOPE = auto()
    IN_CONTENT = auto()
    ENDED_CONTENT = auto()  # the final dot is said, or the last chunk
    LEAVING = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class EncryptionAgreed:
    """Begin the TLS handshake once `outgoing` is sent, and call `secured`."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A transaction may `begin`, or the session `leave`."""


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """The next piece of `content`; `outgoing` is to be sent before it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The transaction is over: what became of each recipient, in their order. 2yz is taken."""

    outcomes: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing more is said; a reason where that was not our wish. What is `outgoing` may still be sent."""

    reason: Reply | None


Event: TypeAlias = EncryptionAgreed | Ready | ContentWanted | Ended | Closed
# Of the mechanisms offered, and whether the connection is encrypted: how to log in, or None where there is no way.
Login: TypeAlias = Callable[[frozenset[str], bool], sasl.Exchange | None]


class Client:
    """One connection's dialogue; see the module's docstring for its use."""

    def __init__(self, hostname: str, encrypt: Encrypt, login: Login | None = None) -> None:
        self._hostname = hostname
        self._encrypt = encrypt
        self._login = login
        self._reader = ReplyReader()
        self._outgoing = bytearray()
        self._events: deque[Event] = deque()
        self._commands: deque[tuple[str, Callable[[Reply], None]]] = deque()
        self._awaited: deque[Callable[[Reply], None]] = deque([self._take_greeting])
        self._exchange: sasl.Exchange | None = None
        self._is_dirty = False  # the server has a transaction of ours that came to nothing
        self._transaction: Transaction | None = None
        self._recipients: list[Recipient] = []  # those that are offered
        self._outcomes: list[Reply | None] = []  # of all recipients
        self._accepted: list[int] = []
        self._refusal: Reply | None = None  # of MAIL
        self._writer: ContentWriter | None = None  # None where content goes in chunks
        self.offered = Offered()
        self.is_encrypted = False
        self.is_trusted = False  # by a certificate that is good
        self.stage = Stage.OPENING

    # --- the caller's side -------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """Seconds to wait for the next octets of the server."""
        match self.stage:
            case Stage.ENDED_CONTENT:
                return PATIENCE_FOR_END
            case Stage.IN_CONTENT:
                return PATIENCE_FOR_DATA
            case Stage.LEAVING:
                return PATIENCE_FOR_QUIT
            case _:
                return PATIENCE

    @property
    def accepted(self) -> tuple[int, ...]:
        """The recipients that the server takes the content for, by their place in the transaction."""
        return tuple(sorted(self._accepted))

    def receive(self, octets: bytes) -> None:
        """Octets from the server."""
        self._reader.feed(octets)

    def outgoing(self) -> bytes:
        """What is to be sent to the server now; taken once."""
        octets = bytes(self._outgoing)
        self._outgoing.clear()
        return octets

    def next_event(self) -> Event | None:
        """The next event; None while octets are needed."""
        while not self._events and self.stage not in (Stage.ENCRYPTING, Stage.CLOSED):
            try:
                answer = self._reader.next_reply()
            except NotSmtpError:
                self.lost(outcome.NOT_SMTP)
                break
            if answer is None:
                break
            self._take(answer)
        if self.stage is Stage.ENCRYPTING and len(self._reader):  # said in the clear, as if within TLS
            self._events.clear()
            self.lost(outcome.NOT_SMTP)
        return self._events.popleft() if self._events else None

    def encrypted(self, *, is_trusted: bool) -> None:
        """TLS was there before the first octet (RFC 8314 §3)."""
        self.is_encrypted, self.is_trusted = True, is_trusted

    def secured(self, *, is_trusted: bool) -> None:
        """The TLS handshake after STARTTLS is done: what was said before it is forgotten (RFC 3207 §4.2)."""
        self.encrypted(is_trusted=is_trusted)
        self.offered = Offered()
        self.stage = Stage.OPENING
        self._say(f"EHLO {self._hostname}", self._take_hello)

    def begin(self, transaction: Transaction) -> None:
        """Begin a transaction, after `Ready` or `Ended`; `Ended` tells of it in any case."""
        self._transaction = transaction
        self._outcomes = [
            transaction.unfit(each, self.offered, is_trusted=self.is_trusted) for each in transaction.recipients
        ]
        fit = [index for index, unfit in enumerate(self._outcomes) if unfit is None]
        self._accepted, self._refusal = [], None
        self.stage = Stage.IN_ENVELOPE
        if not fit:
            self._end()
            return
        if self._is_dirty:
            self._commands.append(("RSET", lambda _answer: None))
        self._is_dirty = True
        self._writer = None if "CHUNKING" in self.offered else ContentWriter()
        recipients = tuple(transaction.recipients[index] for index in fit)
        self._commands.append((transaction.mail_command(self.offered, recipients), self._take_mail))
        for index in fit:
            command = transaction.rcpt_command(transaction.recipients[index], self.offered)
            self._commands.append((command, self._taker_of(index)))
        if self._writer is not None:
            self._commands.append(("DATA", self._take_data))
        self._say_commands()

    def content(self, octets: bytes, *, is_last: bool) -> None:
        """A piece of the content, once for each `ContentWanted`."""
        if self._writer is None:
            self._outgoing += f"BDAT {len(octets)}{' LAST' if is_last else ''}\r\n".encode()  # RFC 3030 §2
            self._outgoing += octets
            self._awaited.append(self._take_end if is_last else self._take_chunk)
        else:
            self._outgoing += self._writer.feed(octets)
            if is_last:
                self._outgoing += self._writer.end()
                self._awaited.append(self._take_end)
            else:
                self._events.append(ContentWanted())
        if is_last:
            self.stage = Stage.ENDED_CONTENT

    def leave(self) -> None:
        """Say QUIT; not within a transaction."""
        self.stage = Stage.LEAVING
        self._say("QUIT", lambda _answer: self._close(None))

    def lost(self, reason: Reply) -> None:
        """The connection is gone, or of no more use."""
        if self.stage is Stage.CLOSED:
            return
        is_leaving = self.stage is Stage.LEAVING
        if self._transaction is not None:
            if self.stage is Stage.ENDED_CONTENT:
                reason = outcome.IN_DOUBT
            self._decide(reason)
        self._close(None if is_leaving else reason)

    # --- opening -----------------------------------------------------------------------------------

    def _take(self, answer: Reply) -> None:
        if answer.is_last_word and self.stage is not Stage.LEAVING:  # RFC 5321 §3.8: at any time
            self._decide(outcome.as_reason(answer))
            self._close(outcome.as_reason(answer))
        elif self._awaited:
            self._awaited.popleft()(answer)
            self._say_commands()
        elif self.stage is Stage.IN_CONTENT:  # it has heard enough, and what is said on could be taken for commands
            self._decide(outcome.as_reason(_expected(answer)))
            self._close(outcome.as_temporary(_expected(answer)))
        else:
            self.lost(outcome.NOT_SMTP)

    def _take_greeting(self, answer: Reply) -> None:
        if answer.code == 220:
            self._say(f"EHLO {self._hostname}", self._take_hello)
        else:
            self._close(outcome.as_temporary(answer))

    def _take_hello(self, answer: Reply) -> None:
        if answer.code == 250:
            self.offered = offered_by(answer)
            self._secure()
        elif answer.is_permanent:  # RFC 5321 §3.2: a server without extensions
            self._say(f"HELO {self._hostname}", self._take_old_hello)
        else:
            self._close(outcome.as_reason(answer))

    def _take_old_hello(self, answer: Reply) -> None:
        if answer.code == 250:
            self._secure()
        else:
            self._close(outcome.as_temporary(answer))

    def _secure(self) -> None:
        if not self.is_encrypted and self._encrypt is not Encrypt.NEVER:
            if "STARTTLS" in self.offered:
                self._say("STARTTLS", self._take_starttls)
                return
            if self._encrypt is Encrypt.ALWAYS:
                self._close(outcome.TLS_NOT_OFFERED)
                return
        self._log_in()

    def _take_starttls(self, answer: Reply) -> None:
        if answer.code == 220:
            self.stage = Stage.ENCRYPTING
            self._events.append(EncryptionAgreed())
        elif self._encrypt is Encrypt.ALWAYS:
            self._close(outcome.as_temporary(answer))
        else:
            self._log_in()

    # --- logging in --------------------------------------------------------------------------------

    def _log_in(self) -> None:
        if self._login is None:
            self._be_ready()
            return
        self._exchange = self._login(self.offered.mechanisms, self.is_encrypted)
        if self._exchange is None:
            self._close(outcome.LOGIN_NOT_POSSIBLE)
            return
        self.stage = Stage.LOGGING_IN
        initial = self._exchange.initial()
        response = "" if initial is None else f" {sasl.encode(initial).decode() or '='}"  # RFC 4954 §4
        self._say(f"AUTH {self._exchange.mechanism}{response}", self._take_challenge)

    def _take_challenge(self, answer: Reply) -> None:
        exchange = self._exchange
        if answer.code == 235 and exchange is not None and exchange.is_convinced:
            self._be_ready()
        elif answer.code == 334 and exchange is not None:
            challenge = sasl.decode(answer.text.strip().encode())
            response = exchange.respond(challenge) if challenge is not None else None
            self._say("*" if response is None else sasl.encode(response).decode(), self._take_challenge)
        else:  # a wrong password is our fault, and may be put right
            said = outcome.as_reason(answer)
            self._close(outcome.LOGIN_FAILED.saying(f"{outcome.LOGIN_FAILED.text}: {said.text}"[: outcome.MAX_TEXT]))

    def _be_ready(self) -> None:
        self.stage = Stage.READY
        self._events.append(Ready())

    # --- a transaction -----------------------------------------------------------------------------

    def _take_mail(self, answer: Reply) -> None:
        if answer.code != 250:
            self._refusal = outcome.as_reason(_expected(answer))

    def _taker_of(self, index: int) -> Callable[[Reply], None]:
        def take(answer: Reply) -> None:
            if answer.code in (250, 251, 252):
                self._accepted.append(index)
            else:
                self._outcomes[index] = self._refusal or outcome.as_reason(_expected(answer))
            if self._writer is None and not self._awaited and not self._commands:
                self._want_content()

        return take

    def _want_content(self) -> None:
        """All recipients are answered, and content goes in chunks: nobody has to be asked."""
        if self._accepted and self._refusal is None:
            self.stage = Stage.IN_CONTENT
            self._events.append(ContentWanted())
        else:
            self._end()

    def _take_data(self, answer: Reply) -> None:
        has_takers = bool(self._accepted) and self._refusal is None
        if answer.code == 354 and has_takers:
            self.stage = Stage.IN_CONTENT
            self._events.append(ContentWanted())
        elif answer.code == 354:  # RFC 2920 §3.1: nobody is to get it, and the server wants it all the same
            self._outgoing += b".\r\n"
            self._awaited.append(lambda _answer: self._end())
        else:
            self._decide(self._refusal or outcome.as_reason(_expected(answer)))

    def _take_chunk(self, answer: Reply) -> None:
        if answer.code == 250:
            self._events.append(ContentWanted())
        else:
            self._decide(outcome.as_reason(_expected(answer)))

    def _take_end(self, answer: Reply) -> None:
        self._is_dirty = False
        self._decide(outcome.as_reason(answer if answer.code // 100 == 2 else _expected(answer)))

    def _decide(self, reason: Reply) -> None:
        """What is said of all recipients of whom nothing was said yet."""
        if self._transaction is not None:
            self._outcomes = [each or self._refusal or reason for each in self._outcomes]
            self._end()

    def _end(self) -> None:
        reason = self._refusal or outcome.NOT_SMTP
        self._transaction = None
        self._commands.clear()
        self.stage = Stage.READY
        self._events.append(Ended(tuple(each or reason for each in self._outcomes)))

    # --- saying ------------------------------------------------------------------------------------

    def _say(self, line: str, take: Callable[[Reply], None]) -> None:
        self._outgoing += line.encode() + b"\r\n"
        self._awaited.append(take)

    def _say_commands(self) -> None:
        """As many as may be on their way: one, without PIPELINING."""
        most = MOST_AWAITED if "PIPELINING" in self.offered else 1
        while self._commands and len(self._awaited) < most:
            if not self._awaited and self._is_in_vain():
                self._end()
                return
            self._say(*self._commands.popleft())

    def _is_in_vain(self) -> bool:
        """Whether all that was said is answered, and what is left to say cannot lead to anything."""
        is_last = len(self._commands) == 1 and self._writer is not None  # DATA
        return self._refusal is not None or (is_last and not self._accepted)

    def _close(self, reason: Reply | None) -> None:
        self.stage = Stage.CLOSED
        self._commands.clear()
        self._awaited.clear()
        self._events.append(Closed(reason))


def _expected(answer: Reply) -> Reply:
    """The reply, if it can stand where a yes or a no was asked for."""
    return answer if answer.code >= 400 else outcome.NOT_SMTP
