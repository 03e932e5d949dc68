"""Any octets, in any pieces, give replies or a close, never an exception; and the pieces make no difference."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.dialogue import World
from tests.protocol.properties import BOUNDED, SIZES, pieces
from tests.protocol.worlds import Pop3World, SmtpWorld

SMTP_REPLY_LINE = re.compile(rb"([2345][0-5][0-9])(?:[ -](?:([245])\.\d{1,3}\.\d{1,3} )?[\t -~]*)\r\n")  # RFC 5321 §4.2
POP3_STATUS = re.compile(rb"(?:\+OK|-ERR)(?: [ -~]*)?\r\n")

# Whole commands, parts of them and what stands between, so that an example gets deep into a dialogue.
SMTP_PARTS = st.one_of(
    st.sampled_from(
        [
            b"EHLO client.example\r\n",
            b"HELO client.example\r\n",
            b"MAIL FROM:<alice@example.org>\r\n",
            b"MAIL FROM:<> SIZE=12 BODY=8BITMIME\r\n",
            b"MAIL FROM:<",
            b"RCPT TO:<bob@example.org>\r\n",
            b"RCPT TO:<Postmaster>\r\n",
            b"RCPT TO:",
            b'"\\"@[',
            b"DATA\r\n",
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
        ]
    ),
    st.lists(SMTP_PARTS, max_size=24),
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
    if asked and asked[-1].startswith("content "):
        asked.pop()  # a message that has not ended: how much of it was told depends on the pieces
    return said, asked, world.is_closed


@BOUNDED
@given(SMTP_STREAMS, SIZES, st.lists(st.sampled_from(["yes", "yes", "yes", "LOCAL_ERROR"]), min_size=1, max_size=4))
def test_any_octets_give_smtp_replies_and_the_split_makes_no_difference(
    stream: bytes, sizes: list[int], answers: list[str]
) -> None:
    settings = [("max_message_octets", "60"), ("max_recipients", "2")]
    whole = heard(SmtpWorld(settings), [stream], answers)
    assert heard(SmtpWorld(settings), pieces(stream, sizes), answers) == whole
    said, _, is_closed = whole
    for line in said.splitlines(keepends=True):
        matched = SMTP_REPLY_LINE.fullmatch(line)
        assert matched is not None, line
        assert len(line) <= 512  # RFC 5321 §4.5.3.1.5
        assert matched[2] is None or matched[2] == matched[1][:1]  # RFC 2034 §4
    assert is_closed == (said.splitlines()[-1][:3] in (b"221", b"421"))


@BOUNDED
@given(POP3_STREAMS, SIZES, st.lists(st.sampled_from(["yes", "yes", "yes", "NOT_NOW"]), min_size=1, max_size=4))
def test_any_octets_give_pop3_responses_and_the_split_makes_no_difference(
    stream: bytes, sizes: list[int], answers: list[str]
) -> None:
    whole = heard(Pop3World(MAILDROP), [stream], answers)
    assert heard(Pop3World(MAILDROP, piece=sizes[0]), pieces(stream, sizes), answers) == whole
    assert_well_formed_responses(whole[0])


def assert_well_formed_responses(said: bytes) -> None:
    """RFC 1939 §3: status lines, and after some of them lines up to a lone dot."""
    lines = iter(said.splitlines(keepends=True))
    for line in lines:
        assert POP3_STATUS.fullmatch(line), line
        assert len(line) <= 512
        if re.match(rb"\+OK (capabilities|messages follow|unique ids|top of|\d+ octets)", line):
            for each in lines:
                assert each.endswith(b"\r\n")
                assert not each.startswith(b".") or each[:2] == b".." or each == b".\r\n"
                if each == b".\r\n":
                    break
            else:
                raise AssertionError("a multi-line response without its end")


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
