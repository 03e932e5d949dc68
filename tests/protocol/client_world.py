"""The world around a client session, as dialogues and property tests play it: all in memory."""

from collections.abc import Sequence

from mailsrv.model import outcome
from mailsrv.model.address import parse_forward_path, parse_reverse_path
from mailsrv.model.envelope import Recipient, Sender
from mailsrv.model.parameters import parse_parameters
from mailsrv.protocol import sasl
from mailsrv.protocol.smtp_client import (
    Client,
    Closed,
    ContentWanted,
    Encrypt,
    EncryptionAgreed,
    Ended,
    Event,
    Login,
    Ready,
)
from mailsrv.protocol.smtp_transaction import Content, Transaction
from tests.protocol.dialogue import unescaped
from tests.protocol.worlds import Answer


def content_of(octets: bytes) -> Content:
    """What counts of a message."""
    header = octets.partition(b"\r\n\r\n")[0]
    return Content(len(octets), octets.isascii(), header.isascii())


def login_of(text: str) -> Login | None:
    """`MECHANISM USER PASSWORD`, whatever the server offers."""
    if not text:
        return None
    mechanism, user, password = text.split(" ")

    def login(offered: frozenset[str], _is_encrypted: bool) -> sasl.Exchange | None:
        if mechanism not in offered:
            return None
        return sasl.PlainLogin(user, password) if mechanism == "PLAIN" else sasl.LoginLogin(user, password)

    return login


class ClientWorld:
    """A client session, and the message that it is given; `begin` begins its transaction, `last` hands its content."""

    def __init__(self, settings: Sequence[tuple[str, str]]) -> None:
        given = dict(settings)
        self.message = unescaped(given.get("content", r"Subject: hello\r\n\r\nHello.\r\n"))
        path, rest = parse_reverse_path(given.get("sender", "<alice@example.org>"))
        recipients = [parse_forward_path(value) for name, value in settings if name == "recipient"]
        recipients = recipients or [parse_forward_path("<bob@example.net>")]
        self.transaction = Transaction(
            Sender(path, parse_parameters(rest)),
            tuple(Recipient(mailbox, parse_parameters(rest)) for mailbox, rest in recipients),
            content_of(self.message),
        )
        self.client = Client(
            "mail.example.org", Encrypt[given.get("encrypt", "IF_OFFERED")], login_of(given.get("login", ""))
        )
        if "encrypted" in given:
            self.client.encrypted(is_trusted=True)

        self.is_closed = False

    def do(self, what: str) -> None:
        if what == "lost":
            self.client.lost(outcome.CONNECTION_LOST)
        elif what != "greet":
            getattr(self.client, what)()

    def receive(self, octets: bytes) -> None:
        self.client.receive(octets)

    def replies(self) -> bytes:
        return self.client.outgoing()

    def events(self, answer: Answer) -> None:
        while (event := self.client.next_event()) is not None:
            self._follow(answer(words_of(event)))
            self.is_closed |= isinstance(event, Closed)

    def _follow(self, said: str) -> None:
        match said:
            case "begin":
                self.client.begin(self.transaction)
            case "last":
                self.client.content(self.message, is_last=True)
            case "secured":
                self.client.secured(is_trusted=True)
            case "secured without trust":
                self.client.secured(is_trusted=False)
            case "leave":
                self.client.leave()
            case _ if said.startswith("piece "):
                self.client.content(unescaped(said.removeprefix("piece ")), is_last=False)


def words_of(event: Event) -> str:
    """The event, as world lines show it."""
    match event:
        case EncryptionAgreed():
            return "encrypt"
        case Ready():
            return "ready"
        case ContentWanted():
            return "more"
        case Ended(outcomes):
            return f"ended {' | '.join(map(str, outcomes))}"
        case Closed(reason):
            return f"closed {reason or ''}".rstrip()
