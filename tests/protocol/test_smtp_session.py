"""The SMTP session's state machine and limits, where a table says more than a dialogue."""

import base64
import itertools
from collections.abc import Mapping
from typing import Final

import pytest

from mailsrv.model import reply
from mailsrv.protocol.dialogue import MAX_REPLIES
from mailsrv.protocol.lines import LineReader
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_commands import MAX_AUTH, MAX_ENVELOPE, MAX_LINE, ROOM, Verb
from mailsrv.protocol.smtp_events import (
    ContentAbandoned,
    ContentReceived,
    Header,
    HeaderEnded,
    Limits,
    MessageEnded,
    Service,
)
from mailsrv.protocol.smtp_patience import MAX_ERRORS, MAX_UNWANTED
from mailsrv.protocol.smtp_services import AFTER, ANYWHERE, VERBS, State
from tests.protocol.worlds import SmtpWorld

LOGIN: Final = b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"
MAIL: Final = b"MAIL FROM:<alice@example.org>\r\n"
RCPT: Final = b"RCPT TO:<bob@example.org>\r\n"
# What the client says to get there; each line waits for its reply.
WAY_TO: Final[Mapping[State, tuple[bytes, ...]]] = {
    State.CONNECTED: (),
    State.GREETED: (b"hello", b"login"),
    State.HAS_SENDER: (b"hello", b"login", MAIL),
    State.HAS_RECIPIENT: (b"hello", b"login", MAIL, RCPT),
    State.HAS_CHUNKS: (b"hello", b"login", MAIL, RCPT, b"BDAT 3\r\na\r\n"),
}
HELLO: Final = {
    Service.MAIL: b"EHLO client.example\r\n",
    Service.SUBMISSION: b"EHLO client.example\r\n",
    Service.LMTP: b"LHLO client.example\r\n",
}
EXAMPLE: Final = {
    Verb.EHLO: b"EHLO client.example\r\n",
    Verb.HELO: b"HELO client.example\r\n",
    Verb.LHLO: b"LHLO client.example\r\n",
    Verb.STARTTLS: b"STARTTLS\r\n",
    Verb.AUTH: LOGIN,
    Verb.MAIL: b"MAIL FROM:<carol@example.org>\r\n",
    Verb.RCPT: b"RCPT TO:<dave@example.org>\r\n",
    Verb.DATA: b"DATA\r\n",
    Verb.BDAT: b"BDAT 3\r\nb\r\n",
    Verb.RSET: b"RSET\r\n",
    Verb.NOOP: b"NOOP\r\n",
    Verb.VRFY: b"VRFY bob\r\n",
    Verb.HELP: b"HELP\r\n",
    Verb.QUIT: b"QUIT\r\n",
}
# RFC 5321 §4.1.4, RFC 3207 §4, RFC 4954 §4, RFC 3030 §2: where a verb may stand, and where it leads.
LEADS: Final = {
    Verb.STARTTLS: {State.CONNECTED: State.SECURING, State.GREETED: State.SECURING},
    Verb.AUTH: {State.GREETED: State.AUTHENTICATING},
    Verb.MAIL: {State.GREETED: State.HAS_SENDER},
    Verb.RCPT: {State.HAS_SENDER: State.HAS_RECIPIENT, State.HAS_RECIPIENT: State.HAS_RECIPIENT},
    Verb.DATA: {State.HAS_RECIPIENT: State.IN_CONTENT},
    Verb.BDAT: {State.HAS_RECIPIENT: State.HAS_CHUNKS, State.HAS_CHUNKS: State.HAS_CHUNKS},
}
EVERYWHERE: Final = frozenset(Verb) - LEADS.keys()


def world_of(service: Service = Service.MAIL, **settings: str) -> SmtpWorld:
    """A session that has greeted, of a service that can do all it ever can."""
    given = {"service": service.name, "security": "can-encrypt", "mechanisms": "PLAIN", "max_message_octets": "1000000"}
    world = SmtpWorld(list((given | settings).items()))
    world.do("greet")
    world.replies()
    return world


def session_in(state: State, service: Service = Service.MAIL, *, logged_in: bool = True) -> tuple[SmtpWorld, Session]:
    world = world_of(service)
    for octets in WAY_TO[state]:
        if octets == b"login":
            if service is Service.SUBMISSION and logged_in:
                say(world, LOGIN)
        else:
            say(world, HELLO[service] if octets == b"hello" else octets)
    assert world.session.state is state
    return world, world.session


def say(world: SmtpWorld, octets: bytes, answer: str = "yes") -> bytes:
    """What is said to these octets; every question is answered the same."""
    world.receive(octets)
    world.events(lambda _: answer)
    return world.replies()


def told(world: SmtpWorld, octets: bytes, answer: str = "yes") -> list[str]:
    """The world lines that these octets lead to."""
    lines: list[str] = []

    def note(what: str) -> str:
        lines.append(what)
        return answer

    world.receive(octets)
    world.events(note)
    return lines


BY_SERVICE = pytest.mark.parametrize("service", Service, ids=lambda each: each.name)
BY_STATE = pytest.mark.parametrize("state", WAY_TO, ids=lambda each: each.name)


# --- the table of states ---------------------------------------------------------------------------


def test_the_table_of_states_is_that_of_the_rfcs() -> None:
    assert {(state, verb): after for verb, lead in LEADS.items() for state, after in lead.items()} == AFTER
    assert EVERYWHERE | {Verb.BDAT} == ANYWHERE  # BDAT is answered 503 after its octets, below
    assert VERBS[Service.MAIL] == frozenset(Verb) - {Verb.LHLO, Verb.AUTH}
    assert VERBS[Service.SUBMISSION] == frozenset(Verb) - {Verb.LHLO}
    assert VERBS[Service.LMTP] == frozenset(Verb) - {Verb.EHLO, Verb.HELO, Verb.STARTTLS, Verb.AUTH}


@BY_SERVICE
@BY_STATE
@pytest.mark.parametrize("verb", LEADS, ids=lambda each: each.name)
def test_every_wrong_order_is_503_and_changes_nothing(service: Service, state: State, verb: Verb) -> None:
    if verb not in VERBS[service]:
        return
    world, session = session_in(state, service, logged_in=verb is not Verb.AUTH or state is not State.GREETED)
    said = say(world, EXAMPLE[verb])
    if state in LEADS[verb]:
        assert said[:1] in b"23"
        assert session.state is (State.GREETED if verb is Verb.AUTH else LEADS[verb][state])
    else:
        assert said == bytes(reply.BAD_SEQUENCE)
        assert session.state is state
        assert say(world, b"NOOP\r\n") == bytes(reply.OK)


@BY_SERVICE
@BY_STATE
@pytest.mark.parametrize("verb", [verb for verb in Verb if verb in EVERYWHERE], ids=lambda each: each.name)
def test_the_other_commands_are_allowed_anywhere(service: Service, state: State, verb: Verb) -> None:
    if verb not in VERBS[service]:
        return
    world, session = session_in(state, service)
    assert say(world, EXAMPLE[verb])[:1] == b"2"
    after = {
        Verb.EHLO: State.GREETED,
        Verb.HELO: State.GREETED,
        Verb.LHLO: State.GREETED,
        Verb.RSET: State.CONNECTED if state is State.CONNECTED else State.GREETED,
        Verb.QUIT: State.CLOSED,
    }
    assert session.state is after.get(verb, state)


@BY_SERVICE
@BY_STATE
def test_a_command_of_another_service_is_500_or_502_and_changes_nothing(service: Service, state: State) -> None:
    for verb in frozenset(Verb) - VERBS[service]:
        world, session = session_in(state, service)
        expected = reply.NOT_IMPLEMENTED if verb in (Verb.AUTH, Verb.STARTTLS) else reply.UNKNOWN_COMMAND
        assert say(world, EXAMPLE[verb]) == bytes(expected)  # RFC 2033 §4.1: 500 to EHLO and HELO
        assert session.state is state


@pytest.mark.parametrize("verb", Verb, ids=lambda each: each.name)
def test_no_command_is_run_while_tls_begins_while_a_response_is_awaited_and_after_the_end(verb: Verb) -> None:
    world, session = session_in(State.GREETED)
    say(world, b"STARTTLS\r\n")
    assert say(world, EXAMPLE[verb]) == b""
    assert session.state is State.SECURING
    world, _ = session_in(State.GREETED)
    say(world, b"QUIT\r\n")
    assert say(world, EXAMPLE[verb]) == b""
    world, session = session_in(State.GREETED, Service.SUBMISSION, logged_in=False)
    say(world, b"AUTH PLAIN\r\n", "challenge ")
    assert say(world, EXAMPLE[verb], "challenge ").split(b" ")[0] in (b"334", b"501")  # some words are base64
    assert session.state in (State.AUTHENTICATING, State.GREETED)


# --- the daemon's side -----------------------------------------------------------------------------


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
    _, session = session_in(State.GREETED, Service.SUBMISSION)
    with pytest.raises(RuntimeError):
        session.accept()
    with pytest.raises(RuntimeError):
        session.refuse(reply.LOCAL_ERROR)
    with pytest.raises(RuntimeError):
        session.challenge(b"")
    with pytest.raises(RuntimeError):
        session.admit("alice@example.org")


def test_content_is_handed_on_as_it_comes() -> None:
    world = world_of(max_line_octets="100000")
    for octets in (HELLO[Service.MAIL], MAIL, RCPT, b"DATA\r\n"):
        say(world, octets)
    world.receive(b"\r\n" + b"x" * 99_998)
    assert world.session.next_event() == ContentReceived(b"\r\n" + b"x" * 99_998)
    assert world.session.next_event() is None
    assert world.session.buffered == 0


def test_of_an_unfinished_line_of_a_header_at_most_1000_octets_are_held_back() -> None:
    world = world_of(max_line_octets="100000")
    for octets in (HELLO[Service.MAIL], MAIL, RCPT, b"DATA\r\n"):
        say(world, octets)
    world.receive(b"Subject: " + b"x" * 991)
    assert world.session.next_event() is None
    world.receive(b"y")
    assert world.session.next_event() == ContentReceived(b"Subject: " + b"x" * 991 + b"y")


@BY_SERVICE
def test_what_the_daemon_may_not_break_off_is_content_and_its_answer(service: Service) -> None:
    for command, end in ((b"DATA\r\n", b".\r\n"), (b"BDAT 2\r\n\r\n", b"BDAT 0 LAST\r\n")):
        world, session = session_in(State.HAS_RECIPIENT, service)
        assert not session.is_in_transaction
        say(world, command)
        assert session.is_in_transaction
        session.receive(end)
        events = []
        while (event := session.next_event()) is not None:
            events.append(event)
        assert events[-1] == MessageEnded()
        assert session.is_in_transaction
        session.accept()
        assert not session.is_in_transaction


@BY_STATE
def test_only_content_is_in_transaction(state: State) -> None:
    _, session = session_in(state)
    assert session.is_in_transaction == (state is State.HAS_CHUNKS)


# --- what is told ----------------------------------------------------------------------------------

NAMES: Final = {
    # by EHLO, encrypted, authenticated, with SMTPUTF8: RFC 3848, RFC 6531 §4.3
    (True, False, False, False): "ESMTP",
    (True, True, False, False): "ESMTPS",
    (True, False, True, False): "ESMTPA",
    (True, True, True, False): "ESMTPSA",
    (True, False, False, True): "UTF8SMTP",
    (True, True, False, True): "UTF8SMTPS",
    (True, False, True, True): "UTF8SMTPA",
    (True, True, True, True): "UTF8SMTPSA",
}


@pytest.mark.parametrize(
    ("extended", "encrypted", "authenticated", "international"), list(itertools.product((False, True), repeat=4))
)
def test_a_received_line_gets_the_protocol_name_of_its_transaction(
    *, extended: bool, encrypted: bool, authenticated: bool, international: bool
) -> None:
    service = Service.SUBMISSION if authenticated else Service.MAIL
    world = world_of(service, security="encrypted" if encrypted else "can-encrypt")
    say(world, b"EHLO c\r\n" if extended else b"HELO c\r\n")
    if authenticated:
        say(world, LOGIN)
    say(world, b"MAIL FROM:<alice@example.org>" + (b" SMTPUTF8\r\n" if international else b"\r\n"))
    expected = NAMES.get((extended, encrypted, authenticated, international), "SMTP")
    assert world.session.protocol == expected


def test_a_received_line_says_lmtp_or_utf8lmtp() -> None:
    for parameter, name in ((b"", "LMTP"), (b" SMTPUTF8", "UTF8LMTP")):
        world, session = session_in(State.GREETED, Service.LMTP)
        say(world, b"MAIL FROM:<alice@example.org>" + parameter + b"\r\n")
        assert session.protocol == name


CHUNK: Final = b"BDAT 7\r\na: b\r\n\r"


@pytest.mark.parametrize(
    "octets",
    [
        CHUNK + b"RSET\r\n",
        CHUNK + b"RSET\r\nRSET\r\n",
        CHUNK + b"EHLO c\r\n",
        CHUNK + b"HELO c\r\nRSET\r\n",
        CHUNK + b"BDAT 1\r\nxRSET\r\n",  # the CR before it stands alone
        CHUNK + b"BDAT 1 LAST\r\nxRSET\r\n",
        CHUNK + b"BDAT 1\r\nxBDAT 1\r\nxBDAT 1 LAST\r\nx",
        b"BDAT 3\r\na\nbRSET\r\n",
        b"BDAT 3 LAST\r\na\nbRSET\r\n",
        b"BDAT 3 LAST\r\na\0bRSET\r\n",
        b"DATA\r\na\nb\r\n.\r\nRSET\r\n",
        b"DATA\r\na\nb\r\n\0\n\n\r\n.\r\nRSET\r\n",
    ],
)
def test_a_transaction_with_content_that_is_given_up_is_told_exactly_once(octets: bytes) -> None:
    for size in (1, len(octets)):
        world, _ = session_in(State.HAS_RECIPIENT)
        lines = [
            line
            for start in range(0, len(octets), size)
            for line in told(world, octets[start : start + size])
            if not line.startswith("content ")
        ]
        assert lines[1:] == ["abandoned"]


@pytest.mark.parametrize("answer", ["yes", "LOCAL_ERROR"])
def test_a_transaction_that_the_world_has_answered_is_not_given_up_as_well(answer: str) -> None:
    for octets in (b"DATA\r\na\r\n.\r\n", b"BDAT 3 LAST\r\na\r\n"):
        world, _ = session_in(State.HAS_RECIPIENT)
        assert "abandoned" not in told(world, octets + b"RSET\r\nEHLO c\r\n", answer)


def test_a_transaction_without_content_is_given_up_without_a_word() -> None:
    world, _ = session_in(State.HAS_RECIPIENT)
    assert told(world, b"RSET\r\nEHLO c\r\n") == []


@pytest.mark.parametrize("way", ["QUIT", "BDAT x", "shut_down", "time_out", "break_off"])
@pytest.mark.parametrize("octets", [CHUNK, b"BDAT 9\r\na: b\r\n", b"DATA\r\na: b\r\n\r\n"])
def test_nothing_is_told_after_the_end(way: str, octets: bytes) -> None:
    world, session = session_in(State.HAS_RECIPIENT)
    say(world, octets)
    if not hasattr(session, way):
        if octets != CHUNK:
            return  # it would be content
        assert told(world, way.encode() + b"\r\nRSET\r\n") == []
    else:
        world.do(way)
    assert world.replies().startswith((b"221", b"421", b"501"))
    assert told(world, b"\n\r\n.\r\nRSET\r\nBDAT 3 LAST\r\na\nb") == []
    world.do("shut_down")
    world.do("break_off")
    assert session.is_closed
    assert world.replies() == b""


def test_an_event_that_was_waiting_to_be_told_is_not_told_after_the_end() -> None:
    _, session = session_in(State.HAS_RECIPIENT)
    session.receive(b"DATA\r\n")
    session.next_event()
    session.accept()
    session.receive(b"a: b\r\n\r\nc\r\n.\r\n")
    assert session.next_event() is not None
    session.shut_down()
    assert session.next_event() is None


# --- limits ----------------------------------------------------------------------------------------


def test_no_reply_line_exceeds_512_octets_even_where_it_says_back_what_was_sent() -> None:
    room = ROOM[Verb.RCPT] - len("RCPT TO:<>\r\n")
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
    said = say(world, b"MAIL FROM:<a@example.org> " + b"=" * (ROOM[Verb.MAIL] - 30) + b"\r\n")
    assert len(said) == 512
    assert said.endswith(b"\r\n")


def test_a_line_that_nobody_ends_is_not_kept() -> None:
    world, session = session_in(State.GREETED)
    for _ in range(100):
        say(world, b"x" * 1000)
        assert session.buffered <= MAX_LINE + 1000
    assert say(world, b"\r\nNOOP\r\n") == bytes(reply.OK)


def test_a_recipient_too_many_is_no_error_of_the_client() -> None:
    world = world_of(max_recipients="1")
    for octets in (HELLO[Service.MAIL], MAIL, RCPT):
        say(world, octets)
    said = say(world, EXAMPLE[Verb.RCPT] * (MAX_ERRORS * 2))
    assert said == bytes(reply.TOO_MANY_RECIPIENTS) * (MAX_ERRORS * 2)


def test_refusals_of_the_world_are_no_errors_of_the_client() -> None:
    world, session = session_in(State.HAS_SENDER)
    said = say(world, EXAMPLE[Verb.RCPT] * (MAX_ERRORS * 2), "NO_SUCH_MAILBOX")
    assert said == bytes(reply.NO_SUCH_MAILBOX) * (MAX_ERRORS * 2)
    assert not session.is_closed


def test_only_recipients_refused_for_good_are_counted_as_guesses() -> None:
    world, session = session_in(State.HAS_SENDER)
    say(world, EXAMPLE[Verb.RCPT] * (MAX_UNWANTED * 2), "LOCAL_ERROR")
    assert not session.is_closed
    say(world, EXAMPLE[Verb.RCPT] * (MAX_UNWANTED - 1), "NO_SUCH_MAILBOX")
    assert not session.is_closed
    say(world, EXAMPLE[Verb.RCPT], "NO_SUCH_MAILBOX")
    assert session.is_closed


def test_replies_that_nobody_takes_are_bounded_and_none_is_lost() -> None:
    session = Session("mail.example.org", Limits(1000, 100, 100, 1000))
    session.receive(b"HELP\r\n" * 10_000)
    turns, heard = 0, 0
    while session.next_event() is None and (octets := session.replies()):
        assert len(octets) < MAX_REPLIES + 1000
        turns += 1
        heard += octets.count(b"214 2.0.0 QUIT\r\n")
    assert heard == 10_000
    assert turns > 10


class CountingReader(LineReader):
    """Counts the octets that it hands out as content."""

    taken = 0

    def take(self, most: int) -> bytes:
        octets = super().take(most)
        self.taken += len(octets)
        return octets


def test_each_octet_of_many_small_chunks_is_moved_once() -> None:
    _, session = session_in(State.GREETED)
    lines = CountingReader(MAX_LINE)
    session._lines = lines
    session.receive(b"BDAT 1\r\nx" * 1000)
    assert session.next_event() is None
    assert session.replies() == bytes(reply.BAD_SEQUENCE) * 1000
    assert lines.taken == 1000


@pytest.mark.parametrize("word", ["R\u017fET", "QU\u0131T", "EHLO\u00a0c", "\u212aOOP", "\ufb01"])
def test_a_word_that_only_looks_like_a_command_is_none(word: str) -> None:
    """Beyond ASCII there are letters whose capital is one of ASCII's."""
    world, session = session_in(State.HAS_RECIPIENT)
    assert say(world, word.encode() + b"\r\n") == bytes(reply.UNKNOWN_COMMAND)
    assert session.state is State.HAS_RECIPIENT


@pytest.mark.parametrize(
    "argument",
    [b"", b"x", b"-1", b"1 FIRST", b"1 LAST x", b"1,", b"1 \xff", b"\xd9\xa1", b"1" * 21, b"1" + b" x" * 5000],
)
def test_a_bdat_whose_octets_cannot_be_told_closes_the_session(argument: bytes) -> None:
    """They would be run as commands."""
    world, session = session_in(State.HAS_RECIPIENT)
    said = say(world, b"BDAT " + argument + b"\r\nRSET\r\n")
    assert said.startswith(b"501 ")
    assert said.count(b"\r\n") == 1
    assert session.is_closed


def test_a_bdat_with_many_blanks_is_read() -> None:
    world, _ = session_in(State.HAS_RECIPIENT)
    assert say(world, b"BDAT 2" + b" " * 1000 + b"LAST  \r\n\r\nNOOP\r\n") == bytes(reply.QUEUED) + bytes(reply.OK)


def test_nothing_that_came_before_the_handshake_survives_it() -> None:
    """RFC 3207 §4.2, also for what comes after the 220: whatever the daemon hands on."""
    world, session = session_in(State.GREETED)
    say(world, b"STARTTLS\r\nEHLO evil.example\r\n")
    say(world, b"EHLO evil.example\r\nMAIL FROM:<mallory@exa")
    world.do("secured")
    assert session.buffered == 0
    assert say(world, b"NOOP\r\n") == bytes(reply.OK)
    assert session.state is State.CONNECTED
    assert session.hello.name == ""


# --- BDAT by LMTP: RFC 2033 §4.3 -------------------------------------------------------------------


@pytest.mark.parametrize("recipients", [0, 1, 3])
def test_the_last_chunk_is_answered_once_for_each_recipient_and_the_others_once(recipients: int) -> None:
    refused = bytes(reply.BARE_LINE_END_IN_CONTENT)
    wrong = bytes(reply.BAD_SEQUENCE)
    for octets, before, each in (
        (b"BDAT 2 LAST\r\n\r\n", b"", reply.QUEUED),
        (b"BDAT 2 LAST\r\n\n\n", b"", reply.BARE_LINE_END_IN_CONTENT),
        (b"BDAT 2\r\n\r\nBDAT 0 LAST\r\n", bytes(reply.CHUNK_TAKEN), reply.QUEUED),
        (b"BDAT 2\r\n\n\nBDAT 2\r\n\r\nBDAT 2 LAST\r\n\r\n", refused + wrong, reply.BAD_SEQUENCE),
    ):
        world, session = session_in(State.HAS_SENDER, Service.LMTP)
        say(world, RCPT * recipients)
        said = say(world, octets)
        if recipients:
            assert said == before + bytes(each) * recipients
            assert session.state is State.GREETED
            assert say(world, b"BDAT 2 LAST\r\n\r\n") == wrong  # there is no transaction
        else:
            assert said == wrong * (octets.count(b"BDAT") - 1)  # for the last one, nothing
            assert session.state is State.HAS_SENDER


def test_a_last_chunk_that_the_world_refuses_is_answered_once_for_each_recipient() -> None:
    for octets, count in ((b"BDAT 2 LAST\r\n\r\n", 2), (b"BDAT 2\r\n\r\n", 1), (b"BDAT 2\r\n\r\nBDAT 0 LAST\r\n", 3)):
        world, _ = session_in(State.HAS_RECIPIENT, Service.LMTP)
        say(world, RCPT)
        said = say(world, octets, "LOCAL_ERROR")
        assert said.startswith(bytes(reply.LOCAL_ERROR))
        assert said.count(b"\r\n") == count


@pytest.mark.parametrize("command", [b"RSET\r\n", HELLO[Service.LMTP], MAIL])
def test_a_failed_transaction_is_forgotten_by_what_begins_another(command: bytes) -> None:
    world, _ = session_in(State.HAS_RECIPIENT, Service.LMTP)
    say(world, RCPT + b"BDAT 2\r\n\n\n" + command)
    expected = b"" if command == MAIL else bytes(reply.BAD_SEQUENCE)
    assert say(world, b"BDAT 2 LAST\r\n\r\n") == expected


# --- AUTH, where what is glued makes a difference --------------------------------------------------


@pytest.mark.parametrize("answer", ["admit alice@example.org", "BAD_LOGIN", "LOGIN_NOT_AVAILABLE"])
def test_what_is_glued_behind_auth_is_dropped(answer: str) -> None:
    world, _ = session_in(State.GREETED, Service.SUBMISSION, logged_in=False)
    said = say(world, LOGIN + MAIL + RCPT + b"NOOP\r\n", answer)
    assert said.count(b"\r\n") == 1
    assert say(world, b"NOOP\r\n") == bytes(reply.OK)


@pytest.mark.parametrize("response", [b"*", b"!", b"x" * (MAX_LINE + 1), b"AA==\rAA=="])
def test_what_is_glued_behind_a_response_that_ends_the_exchange_is_dropped(response: bytes) -> None:
    world, _ = session_in(State.GREETED, Service.SUBMISSION, logged_in=False)
    assert say(world, b"AUTH PLAIN\r\n", "challenge ") == b"334 \r\n"
    said = say(world, response + b"\r\n" + MAIL + b"NOOP\r\n")
    assert said.startswith(b"50")
    assert said.count(b"\r\n") == 1
    assert say(world, b"NOOP\r\n") == bytes(reply.OK)


def test_a_response_of_12288_octets_is_read() -> None:
    world, _ = session_in(State.GREETED, Service.SUBMISSION, logged_in=False)
    say(world, b"AUTH PLAIN\r\n", "challenge ")
    response = base64.b64encode(b"x" * (MAX_AUTH // 4 * 3))
    assert len(response) == MAX_AUTH  # RFC 4954 §4
    assert told(world, response + b"\r\n") == [f"response {'x' * (MAX_AUTH // 4 * 3)}"]


def test_an_identity_survives_a_new_hello_and_a_reset_but_not_starttls() -> None:
    world, session = session_in(State.GREETED, Service.SUBMISSION)
    say(world, b"EHLO other.example\r\nRSET\r\n")
    assert session.identity == "alice@example.org"
    say(world, b"STARTTLS\r\n")
    assert session.identity == ""
    assert session.hello.name == ""


# --- the header, where the pieces must make no difference ------------------------------------------


def header_of(content: bytes, size: int) -> tuple[Header | None, bytes, bytes]:
    """The header told of this content when it comes in pieces of this size, the octets before and after it."""
    world = world_of(Service.SUBMISSION, max_line_octets="100000")
    for octets in (HELLO[Service.SUBMISSION], LOGIN, MAIL, RCPT, f"BDAT {len(content)} LAST\r\n".encode()):
        say(world, octets)
    header, before, after = None, b"", b""
    for start in range(0, len(content), size):
        world.receive(content[start : start + size])
        while not world.session.is_waiting and (event := world.session.next_event()) is not None:
            match event:
                case HeaderEnded(told_header):
                    assert header is None
                    header = told_header
                case ContentReceived(octets) if header is None:
                    before += octets
                case ContentReceived(octets):
                    after += octets
                case other:
                    assert other == MessageEnded()
    return header, before, after


SEEN: Final = frozenset({"date"})


@pytest.mark.parametrize(
    ("before", "after", "header"),
    [
        (b"A: 1\r\nDate: 2\r\n", b"\r\nbody\r\n", Header(SEEN, is_separated=True)),
        (b"a: 1\r\ndate : 2\r\n", b"\r\n", Header(SEEN, is_separated=True)),
        (b"a: 1\r\nDATE:\r\n", b"", Header(SEEN, is_separated=False)),
        (b"a: 1\r\n folded: 3\r\n\tdate: 4\r\nDate:2\r\n", b"\r\n", Header(SEEN, is_separated=True)),
        (b"a: 1\r\ndate: 2\r\n", b"no field\r\nb: 3\r\n", Header(SEEN, is_separated=False)),
        (b"", b"\r\na: 1\r\n", Header(frozenset(), is_separated=True)),
        (b"", b"body\r\n", Header(frozenset(), is_separated=False)),
        (b"a: " + b"x" * 5000 + b"\r\nDate: 1\r\n", b"\r\nb: 2\r\n", Header(SEEN, is_separated=True)),
        (b"a: 1\r\n " + b"x" * 5000 + b"b: 1\r\nDate: 1\r\n", b"\r\n", Header(SEEN, is_separated=True)),
        (b"a: " + b"x " * 2000 + b"\r\ndate: 1\r\n", b"\r\n", Header(SEEN, is_separated=True)),
        (b"a: 1\r\ndate: 2\r\n", b"x" * 5000 + b"\r\n\r\n", Header(SEEN, is_separated=False)),
        (b"a: 1\r\ndate: 2\r\n", b"x" * 1100 + b": 1\r\n\r\n", Header(SEEN, is_separated=False)),
        (b"a: 1\r\ndate: 2\r\n", b"x" * 901 + b": 1\r\n\r\n", Header(SEEN, is_separated=False)),
        (b"a: 1\r\ndate: 2\r\n", b"received" + b" " * 5000 + b": 1\r\n\r\n", Header(SEEN, is_separated=False)),
        (b"date: 2\r\na" + b" " * 90 + b": 1\r\n", b"\r\n", Header(SEEN, is_separated=True)),
    ],
)
def test_a_header_ends_at_the_first_line_that_is_none_of_its_own(before: bytes, after: bytes, header: Header) -> None:
    for size in (1, 7, 1000, 1001, 100_000):
        assert header_of(before + after, size) == (header, before, after)


def test_a_header_of_many_names_is_told_by_those_that_are_asked_for() -> None:
    fields = b"".join(b"x-%d: 1\r\n" % number for number in range(10_000))
    header, _, _ = header_of(b"Received: 1\r\n" + fields + b"MESSAGE-ID : 2\r\n\r\n", 1000)
    assert header == Header(frozenset({"received", "message-id"}), is_separated=True)


def test_the_header_is_told_on_submission_only() -> None:
    for service, count in ((Service.MAIL, 0), (Service.SUBMISSION, 1), (Service.LMTP, 0)):
        world, _ = session_in(State.HAS_RECIPIENT, service)
        lines = told(world, b"DATA\r\nDate: b\r\n\r\n.\r\n")
        assert sum(line.startswith("header ") for line in lines) == count


def test_abandoned_content_is_told_before_its_refusal_is_said() -> None:
    _, session = session_in(State.HAS_RECIPIENT)
    session.receive(b"DATA\r\n")
    session.next_event()
    session.accept()
    session.replies()
    session.receive(b"a\0b\r\n.\r\n")
    assert session.next_event() == ContentAbandoned()
    assert session.next_event() is None
    assert session.replies() == bytes(reply.NUL_IN_CONTENT)


def test_an_envelope_takes_no_more_memory_however_long_its_parameters_are() -> None:
    world = world_of(max_recipients="10000")
    say(world, b"EHLO c\r\nMAIL FROM:<alice@example.org>\r\n")
    line = b"RCPT TO:<bob@example.org> ORCPT=rfc822;" + b"x" * 480 + b"\r\n"
    said = b"".join(say(world, line) for _ in range(2500))
    assert said.count(bytes(reply.RECIPIENT_OK)) == MAX_ENVELOPE // (len(line) - len(b"RCPT TO:\r\n"))
    assert said.endswith(bytes(reply.TOO_MANY_RECIPIENTS))
    assert say(world, b"DATA\r\n").startswith(b"354 ")


def test_an_envelope_beyond_ascii_is_measured_as_it_will_be_written() -> None:
    world = world_of(max_recipients="10000")
    say(world, b"EHLO c\r\nMAIL FROM:<alice@example.org> SMTPUTF8\r\n")
    path = f"<{'ü' * 30}@example.org>"
    line = f"RCPT TO:{path} ORCPT=utf-8;".encode() + "\N{GRINNING FACE}".encode() * 49 + b"\r\n"
    said = b"".join(say(world, line) for _ in range(2500))
    written = len(f"{path} ORCPT=utf-8;".encode() + rb"\x{1F600}" * 49)
    assert written > 1.5 * len(line)
    assert said.count(bytes(reply.RECIPIENT_OK)) == MAX_ENVELOPE // written
