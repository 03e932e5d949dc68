"""The client session against our own server session, both in memory: any message, cut anyhow, lost anywhere."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model import outcome, reply
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Recipient, Sender
from mailsrv.model.reply import Reply
from mailsrv.protocol import smtp_events
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_client import (
    Client,
    Closed,
    ContentWanted,
    Encrypt,
    EncryptionAgreed,
    Ended,
    Ready,
    Stage,
)
from mailsrv.protocol.smtp_events import Limits, Security
from mailsrv.protocol.smtp_transaction import Transaction
from tests.protocol.client_world import content_of
from tests.protocol.properties import BOUNDED

LIMITS = Limits(max_message_octets=1_000_000, max_recipients=1000, max_messages=1000, max_line_octets=1_000_000)
SENDER = Sender(Mailbox("alice", "example.org"))
MESSAGE = b"Subject: hello\r\n\r\n.\r\n..\r\nBye.\r\n"


@dataclass
class Peer:
    """Our own server, which refuses the recipients that it is told to; it keeps what it has taken."""

    refused: frozenset[str] = frozenset()
    hidden: tuple[bytes, ...] = ()  # extensions that it is not to show
    taken: list[tuple[list[str], bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session("mx.example.net", LIMITS)
        self.session.greet(Security(can_encrypt=True))
        self._to: list[str] = []
        self._content = b""

    def hear(self, octets: bytes) -> bytes:
        """Octets of the client; the answers."""
        self.session.receive(octets)
        while (event := self.session.next_event()) is not None:
            self._answer(event)
        said = self.session.replies()
        for keyword in self.hidden:
            said = said.replace(b"250-" + keyword + b"\r\n", b"")
        return said

    def _answer(self, event: smtp_events.Event) -> None:
        match event:
            case smtp_events.RecipientOffered(recipient) if recipient.forward_path.local_part in self.refused:
                self.session.refuse(reply.NO_SUCH_MAILBOX)
            case smtp_events.ContentOffered(envelope):
                self._to = [each.forward_path.local_part for each in envelope.recipients]
                self._content = b""
                self.session.accept()
            case smtp_events.ContentReceived(octets):
                self._content += octets
            case smtp_events.MessageEnded():
                self.taken.append((self._to, self._content))
                self.session.accept()
            case _ if self.session.is_waiting:
                self.session.accept()


@dataclass
class Line:
    """The wire between a client with messages and a peer; it may break after so many octets from the peer."""

    client: Client
    peer: Peer
    transactions: list[Transaction]
    message: bytes
    piece: int = 1 << 16
    breaks_after: int = 1 << 60
    outcomes: list[tuple[Reply, ...]] = field(default_factory=list)
    closed: list[Reply | None] = field(default_factory=list)
    begun: int = 0
    sent: int = 0

    def run(self) -> None:
        """Until the client has closed."""
        heard = 0
        said = self.peer.hear(b"")
        for _ in range(100_000):
            pieces = [said[at : at + self.piece] for at in range(0, len(said), self.piece)]
            said = b""
            for each in pieces or [b""]:
                if heard + len(each) > self.breaks_after:
                    self.client.receive(each[: self.breaks_after - heard])
                    self._follow()
                    self.client.lost(outcome.CONNECTION_LOST)
                    self._follow()
                    return
                heard += len(each)
                self.client.receive(each)
                said += self._follow()
            if self.closed:
                return
        raise AssertionError("it never ends")

    def _follow(self) -> bytes:
        while (event := self.client.next_event()) is not None:
            match event:
                case Ready():
                    self._next()
                case Ended(outcomes):
                    self.outcomes.append(outcomes)
                    if self.client.stage is Stage.READY:
                        self._next()
                case ContentWanted():
                    octets = self.message[self.sent : self.sent + self.piece]
                    self.sent += len(octets)
                    self.client.content(octets, is_last=self.sent >= len(self.message))
                case EncryptionAgreed():
                    self.peer.session.secured(Security(is_encrypted=True))
                    self.client.secured(is_trusted=True)
                case Closed(reason):
                    self.closed.append(reason)
        return self.peer.hear(octets) if (octets := self.client.outgoing()) else b""

    def _next(self) -> None:
        self.sent = 0
        if self.begun < len(self.transactions):
            self.begun += 1
            self.client.begin(self.transactions[self.begun - 1])
        else:
            self.client.leave()


def client_of(encrypt: Encrypt = Encrypt.IF_OFFERED) -> Client:
    return Client("mail.example.org", encrypt)


def to(*names: str, message: bytes = MESSAGE) -> Transaction:
    recipients = tuple(Recipient(Mailbox(name, "example.net")) for name in names)
    return Transaction(SENDER, recipients, content_of(message))


NAMES = st.lists(st.text("abcdefghij", min_size=1, max_size=8), min_size=1, max_size=120, unique=True)
MESSAGES = st.lists(st.binary(max_size=60).map(lambda octets: bytes(each & 127 or 46 for each in octets)), max_size=20)
HIDDEN = st.sets(st.sampled_from([b"PIPELINING", b"CHUNKING", b"8BITMIME", b"STARTTLS"])).map(tuple)


@BOUNDED
@given(NAMES, st.data(), MESSAGES, HIDDEN, st.integers(1, 400))
def test_the_accepted_recipients_get_the_message_octet_for_octet(
    names: list[str], data: st.DataObject, lines: list[bytes], hidden: tuple[bytes, ...], piece: int
) -> None:
    refused = data.draw(st.sets(st.sampled_from(names)))
    message = b"".join(line.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n" for line in [b"Subject: a", b"", *lines])
    peer = Peer(frozenset(refused), hidden)
    line = Line(client_of(), peer, [to(*names, message=message)], message, piece)
    line.run()
    assert [outcomes.code for outcomes in line.outcomes[0]] == [550 if name in refused else 250 for name in names]
    accepted = [name for name in names if name not in refused]
    assert peer.taken == ([(accepted, message)] if accepted else [])
    assert line.closed == [None]


def replies_before_the_end(hidden: tuple[bytes, ...]) -> int:
    """Octets that a peer says in a whole session."""
    counted = 0
    peer = Peer(hidden=hidden)
    hear = peer.hear

    def counting(octets: bytes) -> bytes:
        nonlocal counted
        said = hear(octets)
        counted += len(said)
        return said

    peer.hear = counting  # type: ignore[method-assign]
    Line(client_of(), peer, [to("bob", "carol")], MESSAGE).run()
    return counted


@pytest.mark.parametrize("hidden", [(), (b"PIPELINING",), (b"CHUNKING",), (b"CHUNKING", b"PIPELINING")])
def test_a_connection_lost_at_any_octet_leaves_every_recipient_taken_waiting_or_in_doubt(
    hidden: tuple[bytes, ...],
) -> None:
    seen: set[tuple[Reply, ...]] = set()
    for breaks_after in range(replies_before_the_end(hidden)):
        peer = Peer(hidden=hidden)
        line = Line(client_of(), peer, [to("bob", "carol")], MESSAGE, breaks_after=breaks_after)
        line.run()
        assert len(line.closed) == 1
        assert len(line.outcomes) <= 1
        if not line.outcomes:  # it was lost before the transaction began
            assert line.begun == 0
            assert peer.taken == []
            continue
        (outcomes,) = line.outcomes
        seen.add(outcomes)
        for each in outcomes:
            is_said_to_be_taken = each.code == 250
            assert is_said_to_be_taken or not each.is_permanent
            # The promise: taken and not known to be so is possible behind the final dot, and nowhere else.
            if not is_said_to_be_taken and peer.taken:
                assert each == outcome.IN_DOUBT
            if is_said_to_be_taken:
                assert peer.taken
    assert (outcome.IN_DOUBT,) * 2 in seen
    assert (outcome.CONNECTION_LOST,) * 2 in seen


def test_several_messages_go_over_one_connection_also_behind_one_that_came_to_nothing() -> None:
    peer = Peer(frozenset({"ghost"}))
    line = Line(client_of(), peer, [to("bob"), to("ghost"), to("carol", "ghost"), to("bob")], MESSAGE)
    line.run()
    assert [[each.code for each in outcomes] for outcomes in line.outcomes] == [[250], [550], [250, 550], [250]]
    assert peer.taken == [(["bob"], MESSAGE), (["carol"], MESSAGE), (["bob"], MESSAGE)]
    assert line.closed == [None]


def test_what_is_said_in_the_clear_behind_the_answer_to_starttls_ends_the_session() -> None:
    client = client_of()
    client.receive(b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go on\r\n250 mx\r\n")
    assert client.next_event() == Closed(outcome.NOT_SMTP)


@BOUNDED
@given(st.binary(max_size=300))
def test_any_octets_give_events_and_never_an_exception(octets: bytes) -> None:
    client = client_of()
    client.receive(b"220 mx\r\n250 mx\r\n")
    assert client.next_event() == Ready()
    client.begin(to("bob", "carol"))
    client.receive(octets)
    ended = 0
    for _ in range(1000):
        match client.next_event():
            case None:
                break
            case Ended(outcomes):
                ended += 1
                assert len(outcomes) == 2
            case ContentWanted():
                client.content(b"a\r\n", is_last=True)
            case _:
                pass
    client.lost(outcome.CONNECTION_LOST)
    while (event := client.next_event()) is not None:
        ended += isinstance(event, Ended)
    assert ended == 1


def test_a_client_waits_as_long_as_the_standard_says() -> None:
    client = client_of()
    client.receive(b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n")
    assert client.next_event() == Ready()
    waited = [client.patience]
    client.begin(to("bob"))
    waited.append(client.patience)
    client.receive(b"250 ok\r\n250 ok\r\n354 go on\r\n")
    assert client.next_event() == ContentWanted()
    waited.append(client.patience)
    client.content(MESSAGE, is_last=True)
    waited.append(client.patience)
    # RFC 5321 §4.5.3.2: five minutes for the envelope, three for a piece of content, ten for the end.
    assert waited == [300, 300, 180, 600]
