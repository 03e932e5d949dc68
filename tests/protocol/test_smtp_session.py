"""The SMTP session's state machine and limits, where a table says more than a dialogue."""

import itertools

import pytest

from mailsrv.model import reply
from mailsrv.protocol.dialogue import MAX_REPLIES
from mailsrv.protocol.smtp import AFTER, MAX_ERRORS, Session, State
from mailsrv.protocol.smtp_commands import MAX_LINE, Verb
from mailsrv.protocol.smtp_events import ContentReceived, Limits
from tests.protocol.worlds import SmtpWorld

WAY_TO = {
    State.CONNECTED: b"",
    State.GREETED: b"HELO client.example\r\n",
    State.HAS_SENDER: b"HELO client.example\r\nMAIL FROM:<alice@example.org>\r\n",
    State.HAS_RECIPIENT: b"HELO client.example\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\n",
}
EXAMPLE = {
    Verb.EHLO: b"EHLO client.example\r\n",
    Verb.HELO: b"HELO client.example\r\n",
    Verb.MAIL: b"MAIL FROM:<carol@example.org>\r\n",
    Verb.RCPT: b"RCPT TO:<dave@example.org>\r\n",
    Verb.DATA: b"DATA\r\n",
    Verb.RSET: b"RSET\r\n",
    Verb.NOOP: b"NOOP\r\n",
    Verb.VRFY: b"VRFY bob\r\n",
    Verb.HELP: b"HELP\r\n",
    Verb.QUIT: b"QUIT\r\n",
}
ORDERED = (Verb.MAIL, Verb.RCPT, Verb.DATA)  # RFC 5321 §4.1.4: the others are allowed anywhere
RIGHT = {
    (State.GREETED, Verb.MAIL),
    (State.HAS_SENDER, Verb.RCPT),
    (State.HAS_RECIPIENT, Verb.RCPT),
    (State.HAS_RECIPIENT, Verb.DATA),
}


def session_in(state: State) -> tuple[SmtpWorld, Session]:
    world = SmtpWorld([("max_message_octets", "1000000")])
    world.do("greet")
    say(world, WAY_TO[state])
    assert world.session.state is state
    return world, world.session


def say(world: SmtpWorld, octets: bytes) -> bytes:
    world.receive(octets)
    world.events(lambda _: "yes")
    return world.replies()


@pytest.mark.parametrize(("state", "verb"), list(itertools.product(WAY_TO, ORDERED)), ids=lambda each: each.name)
def test_every_wrong_order_is_503_and_changes_nothing(state: State, verb: Verb) -> None:
    world, session = session_in(state)
    said = say(world, EXAMPLE[verb])
    if (state, verb) in RIGHT:
        assert said[:1] in b"23"
        assert session.state is AFTER[state, verb]
    else:
        assert said == bytes(reply.BAD_SEQUENCE)
        assert session.state is state


@pytest.mark.parametrize(
    ("state", "verb"),
    [(state, verb) for state in WAY_TO for verb in Verb if verb not in ORDERED],
    ids=lambda each: each.name,
)
def test_the_other_commands_are_allowed_anywhere(state: State, verb: Verb) -> None:
    world, session = session_in(state)
    assert say(world, EXAMPLE[verb])[:1] == b"2"
    after = {
        Verb.EHLO: State.GREETED,
        Verb.HELO: State.GREETED,
        Verb.RSET: State.CONNECTED if state is State.CONNECTED else State.GREETED,
        Verb.QUIT: State.CLOSED,
    }
    assert session.state is after.get(verb, state)


def test_an_event_that_asks_stops_the_session_until_it_is_answered() -> None:
    _, session = session_in(State.GREETED)
    session.receive(b"MAIL FROM:<alice@example.org>\r\nNOOP\r\n")
    assert session.next_event() is not None
    assert session.is_waiting
    assert session.next_event() is None
    assert session.replies() == b""
    session.accept()
    assert session.next_event() is None
    assert session.replies() == bytes(reply.SENDER_OK) + bytes(reply.OK)


def test_an_answer_that_nobody_asked_for_is_a_fault_of_the_daemon() -> None:
    _, session = session_in(State.GREETED)
    with pytest.raises(RuntimeError):
        session.accept()
    with pytest.raises(RuntimeError):
        session.refuse(reply.LOCAL_ERROR)


def test_content_is_handed_on_as_it_comes() -> None:
    world, session = session_in(State.HAS_RECIPIENT)
    say(world, b"DATA\r\n")
    session.receive(b"x" * 100_000)
    assert session.next_event() == ContentReceived(b"x" * 100_000)
    assert session.next_event() is None
    assert session.buffered == 0


def test_what_the_daemon_may_not_break_off_is_content_and_its_answer() -> None:
    world, session = session_in(State.HAS_RECIPIENT)
    assert not session.is_in_transaction
    say(world, b"DATA\r\n")
    assert session.is_in_transaction
    session.receive(b".\r\n")
    assert session.next_event() is not None
    assert session.is_in_transaction
    session.accept()
    assert not session.is_in_transaction


def test_no_reply_line_exceeds_512_octets_even_where_it_says_back_what_was_sent() -> None:
    room = MAX_LINE - len("RCPT TO:<>\r\n")
    hostile = [b"x" * room, b'"' + b"\\\\" * 30 + b'"' + b"x" * (room - 62), b"a@[" + b"\x01" * (room - 4) + b"]"]
    for path in hostile:
        world, _ = session_in(State.HAS_SENDER)
        for command in (b"RCPT TO:<" + path + b">\r\n", b"RCPT TO:<bob@example.org> " + path[: room - 30] + b"\r\n"):
            lines = say(world, command).split(b"\r\n")[:-1]
            assert lines
            for line in lines:
                assert line[:1] == b"5"
                assert len(line) + 2 <= 512  # RFC 5321 §4.5.3.1.5
    world, _ = session_in(State.GREETED)
    said = say(world, b"MAIL FROM:<a@example.org> " + b"=" * (MAX_LINE - 30) + b"\r\n")
    assert len(said) == 512
    assert said.endswith(b"\r\n")


def test_a_recipient_too_many_is_no_error_of_the_client() -> None:
    world = SmtpWorld([("max_recipients", "1")])
    world.do("greet")
    say(world, WAY_TO[State.HAS_RECIPIENT])
    said = say(world, EXAMPLE[Verb.RCPT] * (MAX_ERRORS * 2))
    assert said == bytes(reply.TOO_MANY_RECIPIENTS) * (MAX_ERRORS * 2)


def test_refusals_of_the_world_are_no_errors_of_the_client() -> None:
    world, session = session_in(State.HAS_SENDER)
    world.receive(EXAMPLE[Verb.RCPT] * (MAX_ERRORS * 2))
    world.events(lambda _: "NO_SUCH_MAILBOX")
    assert world.replies() == bytes(reply.NO_SUCH_MAILBOX) * (MAX_ERRORS * 2)
    assert not session.is_closed


def test_replies_that_nobody_takes_are_bounded_and_none_is_lost() -> None:
    session = Session("mail.example.org", Limits(1000, 100))
    session.receive(b"HELP\r\n" * 10_000)
    turns, heard = 0, 0
    while session.next_event() is None and (octets := session.replies()):
        assert len(octets) < MAX_REPLIES + 1000
        turns += 1
        heard += octets.count(b"214 2.0.0 QUIT\r\n")
    assert heard == 10_000
    assert turns > 10
