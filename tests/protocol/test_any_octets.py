"""Any octets, in any pieces, give replies or a close, never an exception; and the pieces make no difference."""

import itertools
import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.language import Language
from mailsrv.protocol import pop3_texts as texts
from mailsrv.protocol.dots import with_crlf
from tests.protocol.dialogue import World, unescaped
from tests.protocol.properties import BOUNDED, SIZES, pieces
from tests.protocol.reference import Refused, messages_of
from tests.protocol.worlds import Pop3World, SmtpWorld

SMTP_REPLY_LINE = re.compile(rb"([2345][0-5][0-9])(?:[ -](?:([245])\.\d{1,3}\.\d{1,3} )?[\t -~]*)\r\n")  # RFC 5321 §4.2
POP3_STATUS = re.compile(rb"(?:\+OK|-ERR)(?: [ -~\x80-\xff]*)?\r\n|\+ [A-Za-z0-9+/=]*\r\n")
TITLES = (
    texts.CAPABILITIES_FOLLOW,
    texts.MESSAGES_FOLLOW,
    texts.UNIQUE_IDS_FOLLOW,
    texts.MECHANISMS_FOLLOW,
    texts.LANGUAGES_FOLLOW,
)
MULTI_LINE = frozenset(f"+OK {each.said_in(language)}\r\n".encode() for each in TITLES for language in Language)
MESSAGE = re.compile(
    "|".join(
        re.escape(f"+OK {each.said_in(language, '#')}\r\n").replace(r"\#", r"\d+")
        for each in (texts.OCTETS, texts.TOP_FOLLOWS)
        for language in Language
    ).encode()
)
TLS_BEGINS = (
    b"ready to start TLS\r\n",
    *(f"{texts.TLS_BEGINS.said_in(language)}\r\n".encode() for language in Language),
)

# Whole commands, parts of them and what stands between, so that an example gets deep into a dialogue.
SMTP_PARTS = st.one_of(
    st.sampled_from(
        [
            b"EHLO client.example\r\n",
            b"HELO client.example\r\n",
            b"MAIL FROM:<alice@example.org>\r\n",
            b"MAIL FROM:<> SIZE=12 BODY=8BITMIME\r\n",
            b"MAIL FROM:<alice@example.org> RET=HDRS ENVID=x REQUIRETLS\r\n",
            b"MAIL FROM:<alice@example.org> AUTH=<> SMTPUTF8\r\n",
            b"MAIL FROM:<\xc3\xa4@example.org> SMTPUTF8\r\n",
            b"MAIL FROM:<",
            b" SMTPUTF8\r\n",
            b"LHLO client.example\r\n",
            b"RCPT TO:<bob@example.org>\r\n",
            b"RCPT TO:<Postmaster>\r\n",
            b"RCPT TO:<bob@example.org> NOTIFY=NEVER ORCPT=rfc822;b\r\n",
            b"RCPT TO:<\xe4\xbe\x8b@\xc3\xbc.example>\r\n",
            b"RCPT TO:",
            b'"\\"@[',
            b"DATA\r\n",
            b"BDAT 0\r\n",
            b"BDAT 0 LAST\r\n",
            b"BDAT 6\r\na: b\r\n",
            b"BDAT 5 LAST\r\n\r\n.\r\n",
            b"BDAT 7\r\nQUIT\r\n",  # one octet too few
            b"BDAT 4\r\nNOOP\r\n",  # two too many
            b"BDAT 30\r\n",
            b"BDAT x\r\n",
            b"BDAT \xff\r\n",
            b"\r\n.\r\n",
            b".\r\n",
            b"\n.\n",
            b"RSET\r\n",
            b"HELP\r\n",
            b"VRFY x\r\n",
            b"NOOP\r\n",
            b"QUIT\r\n",
            b"x" * 600,
            b"\r",
            b"\n",
            b"\r\n",
            b" ",
            b".",
            b"\x00",
            b"\xff",
        ]
    ),
    st.binary(max_size=12),
)
# What makes the session drop what comes behind it: the pieces make a difference.
DROPPING_PARTS = st.one_of(
    st.sampled_from(
        [
            b"STARTTLS\r\n",
            b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n",
            b"AUTH PLAIN\r\n",
            b"AUTH PLAIN =\r\n",
            b"AUTH LOGIN\r\n",
            b"AUTH SCRAM-SHA-256 ",
            b"AGFsaWNlAHNlY3JldA==\r\n",
            b"*\r\n",
            b"x" * 13_000,
        ]
    ),
    SMTP_PARTS,
)
POP3_PARTS = st.one_of(
    st.sampled_from(
        [
            b"USER alice\r\n",
            b"PASS secret\r\n",
            b"USER alice\r\nPASS secret\r\n",
            b"CAPA\r\n",
            b"STAT\r\n",
            b"LIST\r\n",
            b"LIST 2\r\n",
            b"UIDL\r\n",
            b"RETR 1\r\n",
            b"RETR 2\r\n",
            b"TOP 1 1\r\n",
            b"TOP 2 ",
            b"DELE 1\r\n",
            b"DELE ",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"QUIT\r\n",
            b"AUTH\r\n",
            b"AUTH PLAIN\r\n",
            b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n",
            b"AUTH SCRAM-SHA-256 ",
            b"AGFsaWNlAHNlY3JldA==\r\n",
            b"*\r\n",
            b"STLS\r\n",
            b"UTF8\r\n",
            b"LANG\r\n",
            b"LANG de\r\n",
            b"LANG fr-CA\r\n",
            b"LANG ",
            b"x" * 300,
            b"\r",
            b"\n",
            b"\r\n",
            b" ",
            b"1",
            b"\x00",
            b"\xc5\xbf",
            b"\xff",
        ]
    ),
    st.binary(max_size=12),
)
MAILDROP = [("message", r"one Subject: one\n\n.one\n"), ("message", r"two \r\n..\r\n")]


def smtp_stream(prefix: bytes, parts: list[bytes]) -> bytes:
    """The parts behind a beginning that gets the dialogue somewhere."""
    return prefix + b"".join(parts)


SMTP_STREAMS = st.builds(
    smtp_stream,
    st.sampled_from(
        [
            b"",
            b"HELO c\r\nMAIL FROM:<a@b>\r\n",
            b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\na: b\r\n",
            b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n",
        ]
    ),
    st.lists(SMTP_PARTS, max_size=24),
)
DROPPING_STREAMS = st.builds(
    smtp_stream,
    st.sampled_from([b"", b"EHLO c\r\n", b"EHLO c\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n", b"LHLO c\r\n"]),
    st.lists(DROPPING_PARTS, max_size=24),
)
POP3_STREAMS = st.builds(
    smtp_stream, st.sampled_from([b"", b"USER alice\r\nPASS secret\r\n"]), st.lists(POP3_PARTS, max_size=24)
)


def heard(world: World, octets: list[bytes], answers: list[str]) -> tuple[bytes, list[str], bool]:
    """What the client hears, what the world is asked, and whether the session is closed in the end."""
    asked: list[str] = []
    most = sum(len(each) for each in octets)

    def answer(what: str) -> str:
        assert len(asked) <= most, "the session asks for ever"
        if what.startswith("content "):
            if asked and asked[-1].startswith("content "):
                asked[-1] += what.removeprefix("content ")
            else:
                asked.append(what)
            return ""
        if what == "abandoned" and asked and asked[-1].startswith("content "):
            asked.pop()
        questions = sum(not each.startswith(("content", "abandoned")) for each in asked)
        asked.append(what)
        return answers[questions % len(answers)]

    world.do("greet")
    said = world.replies()
    for piece in octets:
        world.receive(piece)
        world.events(answer)
        said += world.replies()
        if asked and asked[-1] == "encrypt" and said.endswith(TLS_BEGINS):
            world.do("secured")
    if asked and asked[-1].startswith("content "):
        asked.pop()  # a message that has not ended: how much of it was told depends on the pieces
    return said, asked, world.is_closed


LIMITS = [("max_message_octets", "60"), ("max_recipients", "2"), ("max_line_octets", "30"), ("max_messages", "3")]
ANSWERS = st.lists(st.sampled_from(["yes", "yes", "yes", "LOCAL_ERROR"]), min_size=1, max_size=4)


def assert_well_formed_replies(said: bytes, *, is_closed: bool) -> None:
    """RFC 5321 §4.2: lines of a code each; the last one tells of the close."""
    for line in said.splitlines(keepends=True):
        if line.startswith(b"334 "):
            continue  # a challenge
        matched = SMTP_REPLY_LINE.fullmatch(line)
        assert matched is not None, line
        assert len(line) <= 512  # RFC 5321 §4.5.3.1.5
        assert matched[2] is None or matched[2] == matched[1][:1]  # RFC 2034 §4
    closes = said.splitlines()[-1].startswith((b"221", b"421", b"501 5.5.4 the syntax is BDAT"))
    assert is_closed == closes


@BOUNDED
@given(SMTP_STREAMS, SIZES, ANSWERS, st.sampled_from(["MAIL", "LMTP"]))
def test_any_octets_give_smtp_replies_and_the_split_makes_no_difference(
    stream: bytes, sizes: list[int], answers: list[str], service: str
) -> None:
    settings = [*LIMITS, ("service", service)]
    whole = heard(SmtpWorld(settings), [stream], answers)
    assert heard(SmtpWorld(settings), pieces(stream, sizes), answers) == whole
    assert_well_formed_replies(whole[0], is_closed=whole[2])


@BOUNDED
@given(
    DROPPING_STREAMS,
    SIZES,
    st.lists(
        st.sampled_from(["yes", "yes", "admit a@b", "challenge x", "challenge ", "BAD_LOGIN"]), min_size=1, max_size=4
    ),
    st.sampled_from(["MAIL", "SUBMISSION", "LMTP"]),
    st.sampled_from(["", "can-encrypt", "encrypted"]),
)
def test_any_octets_give_replies_where_starttls_and_auth_drop_some(
    stream: bytes, sizes: list[int], answers: list[str], service: str, security: str
) -> None:
    settings = [*LIMITS, ("service", service), ("security", security)]
    settings += [("mechanisms", "PLAIN LOGIN SCRAM-SHA-256"), ("secured-mechanisms", "PLAIN")]
    for octets in ([stream], pieces(stream, sizes)):
        world = SmtpWorld(settings)
        said, asked, is_closed = heard(world, octets, answers)
        assert_well_formed_replies(said, is_closed=is_closed)
        if service == "SUBMISSION":
            assert_no_mail_before_a_login(asked, said)
        else:
            assert not any(each.startswith(("auth", "response")) for each in asked)


@BOUNDED
@given(DROPPING_STREAMS, SIZES, st.lists(st.sampled_from(["challenge x", "BAD_LOGIN"]), min_size=1, max_size=4))
def test_one_whom_nobody_admits_sends_no_mail(stream: bytes, sizes: list[int], answers: list[str]) -> None:
    for security in ("", "can-encrypt", "encrypted"):
        settings = [*LIMITS, ("service", "SUBMISSION"), ("security", security), ("mechanisms", "PLAIN LOGIN")]
        _, asked, _ = heard(SmtpWorld(settings), pieces(stream, sizes), answers)
        assert all(each == "encrypt" or each.startswith(("auth ", "response")) for each in asked)


def assert_no_mail_before_a_login(asked: list[str], said: bytes) -> None:
    """RFC 6409 §4.3: nobody is asked to take mail of one who has not logged in."""
    first = next((place for place, each in enumerate(asked) if each.startswith("mail ")), None)
    if first is not None:
        assert any(each.startswith(("auth", "response")) for each in asked[:first])
        assert b"\r\n235 " in said


POP3_SETTINGS = [*MAILDROP, ("mechanisms", "SCRAM-SHA-256 PLAIN"), ("security", "can-encrypt")]
POP3_ANSWERS = st.sampled_from(["yes", "yes", "yes", "NOT_NOW", "BAD_LOGIN", "challenge x"])


@BOUNDED
@given(POP3_STREAMS, SIZES, st.lists(POP3_ANSWERS, min_size=1, max_size=4))
def test_any_octets_give_pop3_responses_and_the_split_makes_no_difference(
    stream: bytes, sizes: list[int], answers: list[str]
) -> None:
    whole = heard(Pop3World(POP3_SETTINGS), [stream], answers)
    in_pieces = heard(Pop3World(POP3_SETTINGS, piece=sizes[0]), pieces(stream, sizes), answers)
    for said, asked, _ in (whole, in_pieces):
        assert_well_formed_responses(said)
        assert_messages_are_those_of_the_maildrop(said, asked)
        assert_nothing_before_a_login(asked)
    if "encrypt" not in whole[1]:  # what comes with STLS is dropped, and the pieces say what does
        assert in_pieces == whole


def assert_well_formed_responses(said: bytes) -> None:
    """RFC 1939 §3: status lines, and after some of them lines up to a lone dot."""
    list(multi_line_responses(said))


def multi_line_responses(said: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each title with what follows it, its dots removed; everything else is a status line or a challenge."""
    lines = iter(said.splitlines(keepends=True))
    for line in lines:
        assert POP3_STATUS.fullmatch(line), line
        assert len(line) <= 512
        if line in MULTI_LINE or MESSAGE.fullmatch(line):
            yield line, b"".join(unstuffed(lines))


def unstuffed(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        assert line.endswith(b"\r\n")
        assert not line.startswith(b".") or line[:2] == b".." or line == b".\r\n"
        if line == b".\r\n":
            return
        yield line.removeprefix(b".")
    raise AssertionError("a multi-line response without its end")


def assert_messages_are_those_of_the_maildrop(said: bytes, asked: list[str]) -> None:
    """Every message that was sent is the one that was asked for, octet for octet."""
    messages = [with_crlf(octets) for _, octets in Pop3World(MAILDROP).messages]
    sent = [content for title, content in multi_line_responses(said) if MESSAGE.fullmatch(title)]
    wanted = [each.split() for each in asked if each.startswith(("retr ", "top "))]
    for content in sent:
        while True:  # what was refused was not sent
            command, number, *_ = wanted.pop(0)
            message = messages[int(number) - 1]
            if content == message or (command == "top" and message.startswith(content)):
                break


def assert_nothing_before_a_login(asked: list[str]) -> None:
    """RFC 1939 §4: nobody touches a maildrop who has not shown who it is."""
    first = next((place for place, each in enumerate(asked) if each.startswith(("retr", "top", "remove"))), None)
    assert first is None or any(each.startswith(("login", "auth", "response")) for each in asked[:first])


@BOUNDED
@given(st.binary(max_size=600))
def test_octets_alone_never_log_in_or_submit(stream: bytes) -> None:
    for world in (SmtpWorld(), Pop3World()):
        said, asked, _ = heard(world, [stream], ["yes"])
        assert said
        assert asked == []


@BOUNDED
@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a"]), max_size=12).map(b"".join), SIZES)
def test_what_is_smuggled_is_never_run(content: bytes, sizes: list[int]) -> None:
    """Whatever stands between DATA and the first CRLF.CRLF, the command behind it is content."""
    content = (b"\r\n" + content + b"x").replace(b"\r\n.\r\n", b"\r\n..\r\n")[2:]
    stream = b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + content + b"\r\nVRFY x\r\n.\r\nNOOP\r\n"
    said, asked, _ = heard(SmtpWorld(), pieces(stream, sizes), ["yes"])
    assert b"\r\n252" not in said
    assert said.endswith((b"queued\r\n250 2.0.0 OK\r\n", b"refused\r\n250 2.0.0 OK\r\n"))
    assert asked[-1] in ("end", "abandoned")


# --- the content is what the octets say ------------------------------------------------------------

LINES = st.sampled_from(
    [b"", b".", b"..", b"a: b", b"x", b".a", b"\xff", b" folded", b"QUIT", b"a" * 28, b"a" * 30, b"a" * 31]
)
FLAWS = st.sampled_from([b"", b"", b"", b"", b"\r", b"\n", b"\0", b"\r\n.\r", b"\n.\n", b"\r\n.\n"])


def content_of(lines: list[bytes], flaw: bytes, at: int, end: bytes) -> bytes:
    """Lines with something in between that may be a flaw, and an end that may be missing."""
    octets = b"\r\n".join(lines) + end
    return octets[:at] + flaw + octets[at:]


CONTENTS = st.builds(
    content_of,
    st.lists(LINES, max_size=6),
    FLAWS,
    st.integers(0, 60),
    st.sampled_from([b"\r\n", b"\r\n", b"", b"\r"]),
)


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """One message, by DATA or in chunks, with no regard to whether its content may be taken."""
    content = draw(CONTENTS)
    begin = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
    if draw(st.booleans()):
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        return begin + b"DATA\r\n" + stuffed + (b"" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n") + b".\r\n"
    chunks = pieces(content, draw(SIZES)) or [b""]
    sent = b"".join(b"BDAT %d\r\n%b" % (len(each), each) for each in chunks[:-1])
    return begin + sent + b"BDAT %d LAST\r\n%b" % (len(chunks[-1]), chunks[-1])


@BOUNDED
@given(st.lists(framed(), min_size=1, max_size=4), SIZES, st.sampled_from(["MAIL", "SUBMISSION", "LMTP"]))
def test_what_is_told_of_every_message_is_what_its_octets_say(
    stream: list[bytes], sizes: list[int], service: str
) -> None:
    settings = [("max_message_octets", "40"), ("max_line_octets", "30"), ("service", service)]
    world = SmtpWorld([*settings, ("security", "encrypted"), ("mechanisms", "PLAIN")])
    contents: list[bytes] = []
    taken: list[bytes] = []

    def answer(what: str) -> str:
        word, _, octets = what.partition(" ")
        if word == "data":
            contents.append(b"")
        elif word == "content":
            contents[-1] += unescaped(octets)
        elif word == "end":
            taken.append(contents[-1])
        return "yes"

    world.do("greet")
    for octets in (
        b"LHLO c\r\n" if service == "LMTP" else b"EHLO c\r\n",
        b"AUTH PLAIN =\r\n",
        *pieces(b"".join(stream), sizes),
    ):
        world.receive(octets)
        world.events(answer)
    said = world.replies()
    expected = messages_of(b"".join(stream), max_octets=40, max_line=30)
    assert taken == [each for each in expected if not isinstance(each, Refused)]
    assert said.count(b" queued\r\n") == len(taken)
    assert said.count(b"\r\n55") == len(expected) - len(taken)


@BOUNDED
@given(SMTP_STREAMS, SIZES)
def test_what_is_told_of_any_octets_is_what_they_say(stream: bytes, sizes: list[int]) -> None:
    """As above, of octets that are hardly ever a dialogue: what was taken came in between the right marks."""
    _, asked, _ = heard(SmtpWorld(LIMITS), pieces(stream, sizes), ["yes"])
    for told, end in itertools.pairwise(asked):
        if told.startswith("content ") and end == "end":
            content = unescaped(told.removeprefix("content "))
            assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
            assert content.endswith(b"\r\n")
            assert b"\0" not in content
            assert len(content) <= 60 + 2
