"""A client who says what an input says, and a world that answers as the input tells, around one SMTP session."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mailsrv.model import reply
from mailsrv.model.envelope import Envelope
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_events import (
    QUESTIONS,
    AuthenticationBegun,
    AuthenticationContinued,
    ContentAbandoned,
    ContentOffered,
    ContentReceived,
    EncryptionOffered,
    Event,
    Header,
    HeaderEnded,
    Limits,
    MessageEnded,
    RecipientOffered,
    Security,
    SenderOffered,
    Service,
)
from mailsrv.protocol.smtp_services import State
from tests.protocol.properties import pieces

HEAD: Final = 5  # octets of an input that are not the client's
SERVICES: Final = tuple(Service)
MESSAGE_OCTETS: Final = (1000, 20, 60, 5000)
RECIPIENTS: Final = (100, 2, 1, 5)
MESSAGES: Final = (100, 1, 2, 3)
LINE_OCTETS: Final = (1000, 40, 78, 4000)
MECHANISMS: Final = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
ENCRYPTED, CAN_ENCRYPT, HAS_MECHANISMS = 4, 8, 16  # beside the number of the service


@dataclass(frozen=True, slots=True)
class Plan:
    """An input, read: which session, who answers how, and what the client says in pieces of which sizes."""

    service: Service
    security: Security
    limits: Limits
    sizes: tuple[int, ...]  # none: all at once
    refusals: int  # a bit for each question, used in turn
    logins: int  # two bits for each question of AUTH, used in turn
    octets: bytes


def plan_of(octets: bytes) -> Plan:
    """The plan that an input stands for."""
    kind, limits, cut, refusals, logins = octets[:HEAD].ljust(HEAD, b"\0")
    return Plan(
        SERVICES[(kind & 3) % len(SERVICES)],
        Security(bool(kind & ENCRYPTED), bool(kind & CAN_ENCRYPT), MECHANISMS if kind & HAS_MECHANISMS else ()),
        Limits(
            max_message_octets=MESSAGE_OCTETS[limits & 3],
            max_recipients=RECIPIENTS[limits >> 2 & 3],
            max_messages=MESSAGES[limits >> 4 & 3],
            max_line_octets=LINE_OCTETS[limits >> 6],
        ),
        (cut >> 4 or 1, cut & 15 or 1) if cut else (),
        refusals,
        logins,
        octets[HEAD:],
    )


@dataclass(slots=True)
class Taken:
    """A message that was told whole, and whether it was accepted in the end."""

    envelope: Envelope
    content: bytes = b""
    header: tuple[bytes, Header] | None = None  # the octets told before HeaderEnded, and what it says
    is_accepted: bool = False


@dataclass(slots=True)
class Heard:
    """What the client hears and the world is told."""

    said: bytes = b""
    told: list[Event] = field(default_factory=list)  # questions, and what was abandoned
    messages: list[Taken] = field(default_factory=list)
    discards: bool = False  # there was AUTH or STARTTLS, behind which nothing may be sent along
    is_closed: bool = False


class Dialogue:
    """One session from its greeting to the end of what the client says."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._security = plan.security
        self._session = Session("mail.example.org", plan.limits, plan.service)
        self._message: Taken | None = None
        self._is_admitted = False
        self._logins = 0
        self._events_left = 4 * len(plan.octets) + 64
        self.heard = Heard()

    def play(self, octets: Iterable[bytes]) -> Heard:
        """Everything the client says, in these pieces."""
        self._session.greet(self._security)
        self._settle()
        for piece in octets:
            self._session.receive(piece)
            self._settle()
        self.heard.is_closed = self._session.is_closed
        if self._session.is_closed:
            self._session.receive(b"NOOP\r\nEHLO client.example\r\n")
            assert self._session.next_event() is None, "an event after the close"
            assert not self._session.replies(), "a reply after the close"
        return self.heard

    def _settle(self) -> None:
        while True:
            while (event := self._session.next_event()) is not None:
                assert self._session.is_waiting == isinstance(event, QUESTIONS)
                self._hear(event)
            said = self._session.replies()
            self.heard.said += said
            if self._session.state is State.SECURING:
                self._security = Security(True, self._security.can_encrypt, self._security.mechanisms)
                self._session.secured(self._security)
            elif not said:
                return

    def _hear(self, event: Event) -> None:
        self._events_left -= 1
        assert self._events_left, "the session tells for ever"
        match event:
            case ContentReceived(octets):
                self._in_hand().content += octets
            case HeaderEnded(header):
                assert self._in_hand().header is None, "the header ends twice"
                self._in_hand().header = (self._in_hand().content, header)
            case ContentAbandoned():
                self._message = None
                self.heard.told.append(event)
            case _:
                self._check(event)
                self._answer(event)
                self.heard.told.append(event)

    def _in_hand(self) -> Taken:
        assert self._message is not None, "content outside of a message"
        return self._message

    def _check(self, event: Event) -> None:
        """Nothing is asked that the service, as it is secured, does not have."""
        match event:
            case EncryptionOffered():
                assert self._security.can_encrypt and not self._security.is_encrypted, "STARTTLS is not possible"
            case AuthenticationBegun(mechanism):
                assert self._plan.service is Service.SUBMISSION and not self._is_admitted, "AUTH is not possible"
                assert mechanism in self._security.mechanisms, f"{mechanism} is not offered"
            case SenderOffered() | RecipientOffered() | ContentOffered() | MessageEnded():
                assert self._plan.service is not Service.SUBMISSION or self._is_admitted, "mail without a login"

    def _answer(self, event: Event) -> None:
        session, is_refused = self._session, self._plan.refusals >> len(self.heard.told) % 8 & 1
        match event:
            case AuthenticationBegun(_, response) | AuthenticationContinued(response):
                self.heard.discards = True
                self._log_in(response or b"")
            case EncryptionOffered():
                self.heard.discards = True
                if is_refused:
                    session.refuse(reply.TLS_NOT_AVAILABLE)
                else:
                    self._is_admitted = False
                    session.accept()
                    assert not session.buffered, "what came with STARTTLS is kept"
            case RecipientOffered() if is_refused:
                session.refuse(reply.NO_SUCH_MAILBOX)
            case ContentOffered(envelope) if not is_refused:
                assert session.protocol
                self._message = Taken(envelope)
                session.accept()
            case MessageEnded():
                self._end_message(is_accepted=not is_refused)
            case _ if is_refused:
                session.refuse(reply.LOCAL_ERROR)
            case _:
                session.accept()

    def _end_message(self, *, is_accepted: bool) -> None:
        message, self._message = self._in_hand(), None
        message.is_accepted = is_accepted
        self.heard.messages.append(message)
        if is_accepted:
            self._session.accept("queued as 1")
        else:
            self._session.refuse(reply.LOCAL_ERROR)

    def _log_in(self, response: bytes) -> None:
        choice = self._plan.logins >> self._logins % 4 * 2 & 3
        self._logins += 1
        if choice == 0:
            self._is_admitted = True
            self._session.admit("alice@example.org")
            assert not self._session.buffered, "what came with AUTH is kept"
        elif choice == 1:
            self._session.refuse(reply.BAD_LOGIN)
        else:
            challenge = b"" if choice == 2 else b"r=" + response
            self._session.challenge(challenge)
            self.heard.said += self._session.replies()
            assert self.heard.said.endswith(b"334 " + base64.b64encode(challenge) + b"\r\n"), "another challenge"


def whole_or_cut(plan: Plan) -> list[bytes]:
    """The client's octets in pieces of the sizes that the plan tells."""
    return pieces(plan.octets, list(plan.sizes)) if plan.sizes else [plan.octets]


def patient(plan: Plan) -> list[bytes]:
    """The client's octets line by line: one who hears the reply to each before the next."""
    *lines, last = plan.octets.split(b"\n")
    return [*(line + b"\n" for line in lines), last]
