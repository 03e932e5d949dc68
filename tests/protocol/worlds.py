"""The worlds around the two kinds of session, as dialogues and property tests play them: all in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from mailsrv.model import reply
from mailsrv.model.address import render_path
from mailsrv.model.envelope import Envelope
from mailsrv.model.language import language_of
from mailsrv.model.parameters import render_parameters
from mailsrv.model.reply import Reply
from mailsrv.protocol import pop3, pop3_events, smtp, smtp_events
from mailsrv.protocol.dots import with_crlf
from tests.protocol.dialogue import escaped, unescaped

HOSTNAME: Final = "mail.example.org"
REPLIES: Final = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}

DEFAULT_LIMITS: Final = smtp_events.Limits(
    max_message_octets=1000, max_recipients=100, max_messages=100, max_line_octets=1000
)
AUTHENTICATION: Final = (smtp_events.AuthenticationBegun, smtp_events.AuthenticationContinued)
POP3_AUTHENTICATION: Final = (pop3_events.AuthenticationBegun, pop3_events.AuthenticationContinued)

Answer = Callable[[str], str]


def security_of(words: str, mechanisms: str) -> smtp_events.Security:
    """What `! security` and `! mechanisms` say."""
    return smtp_events.Security(
        is_encrypted="encrypted" in words, can_encrypt="can-encrypt" in words, mechanisms=tuple(mechanisms.split())
    )


class SmtpWorld:
    """An SMTP session whose questions are answered as told."""

    def __init__(self, settings: Sequence[tuple[str, str]] = ()) -> None:
        given = dict(settings)
        self._security = security_of(given.pop("security", ""), given.pop("mechanisms", ""))
        self._secured = security_of("encrypted can-encrypt", given.pop("secured-mechanisms", ""))
        service = smtp_events.Service[given.pop("service", "MAIL")]
        limits = replace(DEFAULT_LIMITS, **{name: int(value) for name, value in given.items()})
        self.session = smtp.Session(HOSTNAME, limits, service)

    @property
    def is_closed(self) -> bool:
        return self.session.is_closed

    def do(self, what: str) -> None:
        method, _, refusal = what.partition(" ")
        if method == "greet":
            self.session.greet(self._security, REPLIES[refusal] if refusal else None)
        elif method == "secured":
            self.session.secured(self._secured)
        else:
            getattr(self.session, method)()

    def receive(self, octets: bytes) -> None:
        self.session.receive(octets)

    def replies(self) -> bytes:
        return self.session.replies()

    def events(self, answer: Answer) -> None:
        while (event := self.session.next_event()) is not None:
            said = answer(_smtp_words(event))
            if self.session.is_waiting:
                self._answer(event, said)

    def _answer(self, event: smtp_events.Event, said: str) -> None:
        word, _, argument = said.partition(" ")
        if said in REPLIES:
            self.session.refuse(REPLIES[said])
        elif isinstance(event, AUTHENTICATION):
            if word == "challenge":
                self.session.challenge(unescaped(argument))
            else:
                self.session.admit(argument or "alice@example.org")
        elif word in ("yes", "challenge", "admit"):
            self.session.accept()
        else:
            self.session.accept(said)


def _smtp_words(event: smtp_events.Event) -> str:
    match event:
        case smtp_events.EncryptionOffered():
            words = "encrypt"
        case smtp_events.AuthenticationBegun(mechanism, response):
            words = f"auth {mechanism}" + (f" {escaped(response) or '='}" if response is not None else "")
        case smtp_events.AuthenticationContinued(response):
            words = f"response {escaped(response)}".rstrip()
        case smtp_events.SenderOffered(sender):
            words = f"mail {render_path(sender.reverse_path)}{render_parameters(sender.parameters)}"
        case smtp_events.RecipientOffered(recipient, sender):
            parameters = render_parameters(recipient.parameters)
            words = f"rcpt {render_path(recipient.forward_path)}{parameters} from {render_path(sender.reverse_path)}"
        case smtp_events.ContentOffered(envelope):
            words = f"data {_envelope_words(envelope)}"
        case smtp_events.ContentReceived(octets):
            words = f"content {escaped(octets)}"
        case smtp_events.HeaderEnded(header):
            words = " ".join(["header", *sorted(header.names), *([] if header.is_separated else ["unseparated"])])
        case smtp_events.ContentAbandoned():
            words = "abandoned"
        case smtp_events.MessageEnded():
            words = "end"
    return words


def _envelope_words(envelope: Envelope) -> str:
    recipients = " ".join(render_path(each.forward_path) for each in envelope.recipients)
    return f"{render_path(envelope.sender.reverse_path)} to {recipients}"


class MemoryListing:
    """A maildrop in memory."""

    def __init__(self, messages: Sequence[tuple[str, bytes]]) -> None:
        self._messages = messages
        self.memo: dict[str, list[bytes]] = {}

    @property
    def octets(self) -> Sequence[int]:
        return [octets_on_the_wire(octets) for _, octets in self._messages]

    @property
    def total(self) -> int:
        return sum(self.octets)

    def uidl(self, index: int) -> str:
        return self._messages[index][0]


def pop3_security(words: str, mechanisms: str, *, takes_passwords: bool = True) -> pop3_events.Security:
    """What `! security` and `! mechanisms` say."""
    return pop3_events.Security(
        is_encrypted="encrypted" in words,
        can_encrypt="can-encrypt" in words,
        takes_passwords=takes_passwords,
        mechanisms=tuple(mechanisms.split()),
    )


class Pop3World:
    """A POP3 session with a maildrop; messages are handed over in pieces of `piece` octets, smaller ones whole."""

    def __init__(self, settings: Sequence[tuple[str, str]] = (), piece: int = 1 << 16) -> None:
        given = dict(settings)
        takes_passwords = "without-passwords" not in given
        self._security = pop3_security(
            given.get("security", ""), given.get("mechanisms", ""), takes_passwords=takes_passwords
        )
        self._secured = pop3_security("encrypted can-encrypt", given.get("secured-mechanisms", ""))
        named = [value.partition(" ") for name, value in settings if name == "message"]
        self.messages = [(uidl, unescaped(octets)) for uidl, _, octets in named]
        self._piece = piece
        language = language_of(given.get("language", "en"))
        assert language is not None
        policy = pop3_events.Policy(int(given.get("expire_days", 0)), int(given.get("login_delay", 0)), language)
        self.session = pop3.Session(HOSTNAME, policy)

    @property
    def is_closed(self) -> bool:
        return self.session.is_closed

    def do(self, what: str) -> None:
        method, _, refusal = what.partition(" ")
        if method == "greet":
            self.session.greet(self._security, pop3_events.Refusal[refusal] if refusal else None)
        elif method == "secured":
            self.session.secured(self._secured)
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
            word, _, argument = said.partition(" ")
            if word == "challenge" and isinstance(event, POP3_AUTHENTICATION):
                self.session.challenge(unescaped(argument))
                continue
            match event:
                case pop3_events.MessageRequested(index):
                    self._hand_over(self.messages[index][1])
                case pop3_events.UpdateRequested() | pop3_events.EncryptionOffered():
                    self.session.accept()
                case _:
                    self.session.admit(MemoryListing(self.messages))

    def _hand_over(self, octets: bytes) -> None:
        if len(octets) <= self._piece:
            assert self.session.say_message(octets)
            return
        self.session.begin_message(octets_on_the_wire(octets))
        for start in range(0, len(octets), self._piece):
            if not self.session.write(octets[start : start + self._piece]):
                break
        self.session.end_message()


def octets_on_the_wire(octets: bytes) -> int:
    """The size of a file as RETR sends it, without the doubled dots and the lone one (RFC 1939 §11)."""
    return len(with_crlf(octets)) + (2 if octets and not octets.endswith(b"\n") else 0)


def _pop3_words(event: pop3_events.Event) -> str:
    match event:
        case pop3_events.EncryptionOffered():
            words = "encrypt"
        case pop3_events.LoginOffered(user, password):
            words = f"login {escaped(user.encode())} {escaped(password.encode())}"
        case pop3_events.AuthenticationBegun(mechanism, response):
            words = f"auth {mechanism}" + (f" {escaped(response) or '='}" if response is not None else "")
        case pop3_events.AuthenticationContinued(response):
            words = f"response {escaped(response)}".rstrip()
        case pop3_events.MessageRequested(index, lines, takes_utf8):
            words = f"retr {index + 1}" if lines is None else f"top {index + 1} {lines}"
            words += " utf8" if takes_utf8 else ""
        case pop3_events.UpdateRequested(deleted):
            words = " ".join(["remove", *(str(index + 1) for index in sorted(deleted))])
    return words
