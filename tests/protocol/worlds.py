"""The worlds around the two kinds of session, as dialogues and property tests play them: all in memory."""

from collections.abc import Callable, Sequence
from typing import Final

from mailsrv.model import reply
from mailsrv.model.address import render_path
from mailsrv.model.envelope import Envelope
from mailsrv.model.parameters import render_parameters
from mailsrv.model.reply import Reply
from mailsrv.protocol import pop3, pop3_events, smtp, smtp_events
from mailsrv.protocol.dots import with_crlf
from tests.protocol.dialogue import escaped, unescaped

HOSTNAME: Final = "mail.example.org"
REPLIES: Final = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}

Answer = Callable[[str], str]


class SmtpWorld:
    """An SMTP session whose questions are answered as told."""

    def __init__(self, settings: Sequence[tuple[str, str]] = ()) -> None:
        given = {name: int(value) for name, value in settings}
        limits = smtp_events.Limits(given.pop("max_message_octets", 1000), given.pop("max_recipients", 100))
        assert not given
        self.session = smtp.Session(HOSTNAME, limits)

    @property
    def is_closed(self) -> bool:
        return self.session.is_closed

    def do(self, what: str) -> None:
        method, _, refusal = what.partition(" ")
        if refusal:
            self.session.greet(REPLIES[refusal])
        else:
            getattr(self.session, method)()

    def receive(self, octets: bytes) -> None:
        self.session.receive(octets)

    def replies(self) -> bytes:
        return self.session.replies()

    def events(self, answer: Answer) -> None:
        while (event := self.session.next_event()) is not None:
            said = answer(_smtp_words(event))
            if not self.session.is_waiting:
                continue
            if said in REPLIES:
                self.session.refuse(REPLIES[said])
            elif said == "yes":
                self.session.accept()
            else:
                self.session.accept(said)


def _smtp_words(event: smtp_events.Event) -> str:
    match event:
        case smtp_events.SenderOffered(sender):
            return f"mail {render_path(sender.reverse_path)}{render_parameters(sender.parameters)}"
        case smtp_events.RecipientOffered(recipient, reverse_path):
            return f"rcpt {render_path(recipient.forward_path)} from {render_path(reverse_path)}"
        case smtp_events.ContentOffered(envelope):
            return f"data {_envelope_words(envelope)}"
        case smtp_events.ContentReceived(octets):
            return f"content {escaped(octets)}"
        case smtp_events.ContentAbandoned():
            return "abandoned"
        case smtp_events.MessageEnded():
            return "end"


def _envelope_words(envelope: Envelope) -> str:
    recipients = " ".join(render_path(each.forward_path) for each in envelope.recipients)
    return f"{render_path(envelope.sender.reverse_path)} to {recipients}"


class Pop3World:
    """A POP3 session with a maildrop; messages are handed over in pieces of `piece` octets."""

    def __init__(self, settings: Sequence[tuple[str, str]] = (), piece: int = 1 << 16) -> None:
        given = [value for name, value in settings if name == "message"]
        self._takes_passwords = ("without-passwords", "") not in settings
        named = [value.partition(" ") for value in given]
        self.messages = [(uidl, unescaped(octets)) for uidl, _, octets in named]
        self._piece = piece
        self.session = pop3.Session(HOSTNAME)

    @property
    def is_closed(self) -> bool:
        return self.session.is_closed

    def do(self, what: str) -> None:
        method, _, refusal = what.partition(" ")
        if method == "greet":
            self.session.greet(
                pop3_events.Refusal[refusal] if refusal else None,
                takes_passwords=self._takes_passwords,
            )
        else:
            getattr(self.session, method)()

    def receive(self, octets: bytes) -> None:
        self.session.receive(octets)

    def replies(self) -> bytes:
        return self.session.replies()

    def events(self, answer: Answer) -> None:
        while (event := self.session.next_event()) is not None:
            said = answer(_pop3_words(event))
            if said in pop3_events.Refusal.__members__:
                self.session.refuse(pop3_events.Refusal[said])
                continue
            match event:
                case pop3_events.LoginOffered():
                    listed = [pop3_events.Listed(octets_on_the_wire(octets), uidl) for uidl, octets in self.messages]
                    self.session.admit(listed)
                case pop3_events.MessageRequested(index):
                    self._hand_over(self.messages[index][1])
                case pop3_events.UpdateRequested():
                    self.session.finish()

    def _hand_over(self, octets: bytes) -> None:
        self.session.begin_message()
        for start in range(0, len(octets), self._piece):
            if not self.session.write(octets[start : start + self._piece]):
                break
        self.session.end_message()


def octets_on_the_wire(octets: bytes) -> int:
    """The size of a file as RETR sends it, without the doubled dots and the lone one (RFC 1939 §11)."""
    return len(with_crlf(octets)) + (2 if octets and not octets.endswith(b"\n") else 0)


def _pop3_words(event: pop3_events.Event) -> str:
    match event:
        case pop3_events.LoginOffered(user, password):
            return f"login {escaped(user.encode())} {escaped(password.encode())}"
        case pop3_events.MessageRequested(index, None):
            return f"retr {index + 1}"
        case pop3_events.MessageRequested(index, lines):
            return f"top {index + 1} {lines}"
        case pop3_events.UpdateRequested(deleted):
            return " ".join(["remove", *(str(index + 1) for index in sorted(deleted))])
