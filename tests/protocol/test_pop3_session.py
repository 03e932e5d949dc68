"""The POP3 session's state machine, and what is handed over in pieces."""

import itertools
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.language import Language, language_of
from mailsrv.protocol import pop3_texts
from mailsrv.protocol.pop3 import Session
from mailsrv.protocol.pop3_commands import ALLOWED, State, Verb
from mailsrv.protocol.pop3_events import Refusal, UpdateRequested
from mailsrv.protocol.pop3_multiline import all_messages
from tests.protocol.properties import BOUNDED, SIZES
from tests.protocol.worlds import MemoryListing, Pop3World, octets_on_the_wire

EXAMPLE = {
    verb: {
        Verb.USER: b"USER alice\r\n",
        Verb.PASS: b"PASS secret\r\n",
        Verb.RETR: b"RETR 1\r\n",
        Verb.TOP: b"TOP 1 0\r\n",
        Verb.DELE: b"DELE 1\r\n",
    }.get(verb, f"{verb.name}\r\n".encode())
    for verb in Verb
}
LOGIN = b"USER alice\r\nPASS secret\r\n"
BOTH = {Verb.CAPA, Verb.QUIT, Verb.LANG}  # RFC 1939 §4, RFC 2449 §5, RFC 6856 §3
AUTHORIZATION = {Verb.USER, Verb.PASS, Verb.AUTH, Verb.STLS, Verb.UTF8, *BOTH}


def world_in(state: State, *messages: bytes, piece: int = 1 << 16) -> Pop3World:
    world = Pop3World([("security", "can-encrypt"), ("mechanisms", "PLAIN")], piece)
    world.messages = [(f"uidl{number}", octets) for number, octets in enumerate(messages or (b"one\n",))]
    world.do("greet")
    say(world, LOGIN if state is State.TRANSACTION else b"")
    assert world.session.state is state
    return world


def say(world: Pop3World, octets: bytes) -> bytes:
    world.receive(octets)
    world.events(lambda _: "yes")
    return world.replies()


@pytest.mark.parametrize(
    ("state", "verb"),
    list(itertools.product([State.AUTHORIZATION, State.TRANSACTION], Verb)),
    ids=lambda each: each.name,
)
def test_a_command_in_the_wrong_state_is_refused_and_changes_nothing(state: State, verb: Verb) -> None:
    world = world_in(state)
    is_allowed = verb in BOTH or (verb in AUTHORIZATION) == (state is State.AUTHORIZATION)
    assert is_allowed == (verb in ALLOWED[state])
    said = say(world, EXAMPLE[verb])
    if not is_allowed:
        assert said == f"-ERR {verb.name} is not for the {state.name} state\r\n".encode()
        assert world.session.state is state
    elif verb is not Verb.PASS:  # wants USER before it
        assert said.startswith(b"+OK")


@pytest.mark.parametrize("refusal", Refusal, ids=lambda each: each.name)
def test_every_refusal_is_one_line_with_a_known_response_code_or_none(refusal: Refusal) -> None:
    for language in Language:
        said = refusal.said_in(language)
        assert said.isprintable()
        assert len(said) < 300
        code, bracket, _ = said.partition("] ")
        if bracket:  # RFC 2449 §8, RFC 3206 §4, RFC 6856 §5
            assert code in ("[AUTH", "[IN-USE", "[LOGIN-DELAY", "[SYS/TEMP", "[SYS/PERM", "[UTF8")
        else:
            assert "[" not in said
    assert refusal.said_in(Language.DEFAULT).isascii()


TEXTS = {name: value for name, value in vars(pop3_texts).items() if isinstance(value, pop3_texts.Text)}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_text_says_the_same_things_in_all_languages(name: str) -> None:
    text = TEXTS[name]
    said = [text.en, text.de, text.fr]
    assert len({each.count("{}") for each in said}) == 1
    assert text.en.isascii()
    if name not in ("GREETING", "NOTHING"):
        assert text.de not in (text.en, text.fr)
    assert not [each for each in said if each.startswith("[")]  # it would be read as a response code


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("en", "en"), ("DE", "de"), ("de-AT", "de"), ("fr-ca-x-old", "fr"), ("i-default", "i-default"), ("d", None)],
)
def test_a_language_is_found_by_the_longest_beginning_of_its_range(wanted: str, found: str | None) -> None:
    language = language_of(wanted)
    assert (language and language.tag) == found


def test_auth_is_said_of_wrong_credentials_only() -> None:
    assert [each for each in Refusal if each.code == "AUTH"] == [Refusal.BAD_LOGIN]  # RFC 3206 §4


def test_time_out_in_update_or_before_removes_nothing() -> None:
    world = world_in(State.TRANSACTION)
    say(world, b"DELE 1\r\n")
    world.receive(b"QUIT\r\n")
    assert world.session.next_event() == UpdateRequested(frozenset({0}))
    world.session.time_out()
    assert world.session.next_event() is None
    assert world.replies() == b""  # RFC 1939 §3: without sending any response
    with pytest.raises(RuntimeError):
        world.session.accept()


def test_nothing_is_said_inside_a_message_that_is_broken_off() -> None:
    world = world_in(State.TRANSACTION, b"Subject: one\n\none\n")
    world.receive(b"RETR 1\r\n")
    assert world.session.next_event() is not None
    world.session.begin_message(21)
    world.session.write(b"Subject: one\n")
    world.session.break_off()
    assert world.session.is_closed
    assert world.replies() == b"+OK 21 octets\r\nSubject: one\r\n"


def test_a_session_looks_at_no_command_while_a_message_is_on_its_way() -> None:
    world = world_in(State.TRANSACTION, b"Subject: one\n")
    world.receive(b"RETR 1\r\nNOOP\r\n")
    assert world.session.next_event() is not None
    world.session.begin_message(14)
    assert world.session.write(b"Subject: one\n")
    assert world.session.is_in_transaction
    assert world.session.next_event() is None
    world.session.end_message()
    assert world.session.next_event() is None
    assert world.replies() == b"+OK 14 octets\r\nSubject: one\r\n.\r\n+OK\r\n"


@pytest.mark.parametrize("sent", [b"Subject: one\n", b"Subject: one\n\none\ntwo\n"])
def test_a_message_of_other_octets_than_were_told_has_no_end(sent: bytes) -> None:
    world = world_in(State.TRANSACTION, b"Subject: one\n\none\n")
    world.receive(b"RETR 1\r\nNOOP\r\n")
    assert world.session.next_event() is not None
    world.session.begin_message(21)
    world.session.write(sent)
    assert not world.session.end_message()
    assert world.session.is_closed
    assert world.session.next_event() is None
    assert world.replies() == b"+OK 21 octets\r\n" + sent.replace(b"\n", b"\r\n")


def test_a_whole_message_of_other_octets_than_are_listed_is_not_said_and_another_answer_is_awaited() -> None:
    world = world_in(State.TRANSACTION, b"Subject: one\n\none\n")
    for command in (b"RETR 1\r\n", b"TOP 1 0\r\n"):
        world.receive(command)
        assert world.session.next_event() is not None
        assert not world.session.say_message(b"Subject: two\n\nmore\n")
        assert world.session.is_waiting
        assert world.replies() == b""
        world.session.refuse(Refusal.MESSAGE_GONE)
        assert world.replies().startswith(b"-ERR [SYS/TEMP]")


def test_stat_counts_what_is_not_deleted() -> None:
    world = world_in(State.TRANSACTION, b"one\n", b"three\n", b"x\n")
    assert say(world, b"STAT\r\nDELE 2\r\nSTAT\r\nDELE 2\r\nDELE 1\r\nSTAT\r\nRSET\r\nSTAT\r\n") == (
        b"+OK 3 15\r\n+OK deleted at QUIT\r\n+OK 2 8\r\n-ERR message 2 is deleted\r\n+OK deleted at QUIT\r\n"
        b"+OK 1 3\r\n+OK 3 messages\r\n+OK 3 15\r\n"
    )


@pytest.mark.parametrize("first", [0, 1, 499, 500, 501, 1000, 1200])
@pytest.mark.parametrize("more", [0, 1, 499, 500, 501])
def test_a_long_listing_is_right_also_where_messages_have_come_since_it_was_made(first: int, more: int) -> None:
    listing = MemoryListing([(f"uidl{number}", b"") for number in range(first)])
    for verb in (Verb.LIST, Verb.UIDL):
        list(all_messages(listing, verb))
    grown = MemoryListing([(f"uidl{number}", b"") for number in range(first + more)])
    grown.memo = listing.memo
    for _ in range(2):
        for verb, value in ((Verb.LIST, "0"), (Verb.UIDL, "uidl{}")):
            expected = "".join(f"{n + 1} {value.format(n)}\r\n" for n in range(first + more))
            assert b"".join(all_messages(grown, verb)).decode() == expected


class Octets(list[int]):
    """Sizes that know how often they were gone through."""

    times = 0

    def __iter__(self) -> Iterator[int]:
        self.times += 1
        return super().__iter__()


def test_stat_does_not_go_through_all_messages() -> None:
    world = Pop3World()
    world.do("greet")
    world.receive(LOGIN + b"DELE 1\r\n" + b"STAT\r\n" * 100)
    assert world.session.next_event() is not None
    octets = Octets([3] * 1000)
    listing = Mock(octets=octets, total=3000)
    world.session.admit(listing)
    assert world.session.next_event() is None
    assert world.replies().endswith(b"+OK 999 2997\r\n" * 100)
    assert octets.times == 0


def test_an_answer_that_nobody_asked_for_is_a_fault_of_the_daemon() -> None:
    session: Session = world_in(State.TRANSACTION).session
    with pytest.raises(RuntimeError):
        session.admit(MemoryListing([]))
    with pytest.raises(RuntimeError):
        session.refuse(Refusal.NOT_NOW)


MESSAGES = st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b".", b"a: b", b"text", b"\n\n"]), max_size=16).map(
    b"".join
)


@BOUNDED
@given(MESSAGES, st.integers(0, 6), SIZES)
def test_top_gives_the_header_and_so_many_lines_whatever_the_pieces(
    message: bytes, number: int, sizes: list[int]
) -> None:
    message = message.replace(b"\r", b"") + b"\n"
    header, empty, body = (b"\n" + message).partition(b"\n\n")
    expected = (header + empty + b"".join(body.splitlines(keepends=True)[:number]))[1:]
    world = world_in(State.TRANSACTION, message, piece=sizes[0])
    assert unstuffed(say(world, f"TOP 1 {number}\r\n".encode())) == expected.replace(b"\n", b"\r\n")


@BOUNDED
@given(MESSAGES, SIZES)
def test_retr_gives_as_many_octets_as_list_says(message: bytes, sizes: list[int]) -> None:
    world = world_in(State.TRANSACTION, message, piece=sizes[0])
    octets = octets_on_the_wire(message)
    assert say(world, b"LIST 1\r\n") == f"+OK 1 {octets}\r\n".encode()
    assert len(unstuffed(say(world, b"RETR 1\r\n"))) == octets  # RFC 1939 §11


def unstuffed(response: bytes) -> bytes:
    """The content of a multi-line response (RFC 1939 §3)."""
    status, _, content = response.partition(b"\r\n")
    assert status.startswith(b"+OK")
    content = b"\r\n" + content
    assert content.endswith(b"\r\n.\r\n")
    return content[:-3].replace(b"\r\n.", b"\r\n")[2:]
