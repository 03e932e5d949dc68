"""From a dropped file to an entry: the envelope, what is added, what is removed, and what is left as it is."""

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.address import render_path
from mailsrv.model.envelope import Recipient
from mailsrv.model.identity import new_entry_id
from mailsrv.settings import Delivery
from mailsrv.store.entry import Block, FormatError, read_block
from mailsrv.store.spool import Spool
from mailsrv.work.intake import Intake
from tests.work.instance import config_of

BLOCK = b"X-Sender: <alice@example.org>\nX-Receiver: <bob@example.org>\n"


@dataclass(frozen=True, slots=True)
class Taken:
    """An entry that was made of a dropped file."""

    block: Block
    content: bytes

    @property
    def sender(self) -> str:
        return render_path(self.block.envelope.sender.reverse_path)

    @property
    def recipients(self) -> list[str]:
        return [str(each.forward_path) for each in self.block.envelope.recipients]

    @property
    def rest(self) -> bytes:
        """The content without the Received, Date and Message-ID that were put before it."""
        return re.sub(
            rb"\AReceived: [^\r]*\r\n(?:\t[^\r]*\r\n)+(?:Date: .*\r\n)?(?:Message-ID: .*\r\n)?", b"", self.content
        )


Take = Callable[..., Taken]


@pytest.fixture
def take(tmp_path: Path) -> Take:
    def take_in(octets: bytes, dotstuff: str = "auto") -> Taken:
        config = config_of(tmp_path)
        path = take_in_file(replace(config, delivery=Delivery(dotstuff=dotstuff)), octets)
        with path.open("rb") as file:
            block = read_block(file)
            assert block is not None
            file.seek(block.length)
            return Taken(block, file.read())

    return take_in


def take_in_file(config: Config, octets: bytes) -> Path:
    spool = Spool(config.spool)
    spool.create_folders()
    (spool.root / "dropped.eml").write_bytes(octets)
    claim = spool.claim(spool.root / "dropped.eml", new_entry_id(datetime.now(UTC)))
    draft = spool.draft(claim.entry_id)
    Intake(config).draft(claim, draft)
    draft.flush()
    draft.close()
    return draft.path


def refusal_of(take: Take, octets: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        take(octets)
    return caught.value


# --- the envelope, from the header -----------------------------------------------------------------


def test_recipients_are_to_cc_and_bcc_each_once_and_bcc_is_removed(take: Take) -> None:
    taken = take(
        b"From: alice@example.org\nTo: Bob <bob@example.org>, carol@example.org\n"
        b"Bcc: dave@example.org,\n eve@example.org\nCC: BOB@example.org\nbcc : x@example.org\nSubject: x\n\nHello\n"
    )
    expected = ["bob@example.org", "carol@example.org", "dave@example.org", "eve@example.org", "x@example.org"]
    assert sorted(taken.recipients) == sorted(expected)
    assert taken.rest == (
        b"From: alice@example.org\r\nTo: Bob <bob@example.org>, carol@example.org\r\n"
        b"CC: BOB@example.org\r\nSubject: x\r\n\r\nHello\r\n"
    )


def test_blind_recipients_alone_are_enough_and_are_disclosed_nowhere(take: Take) -> None:
    taken = take(b"From: alice@example.org\nBcc: bob@example.org, carol@example.org\n\nHello\n")
    assert taken.recipients == ["bob@example.org", "carol@example.org"]
    assert b"bob" not in taken.content
    assert b"carol" not in taken.content


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        (b"From: alice@example.org\n", "<alice@example.org>"),
        (b"From: a@x.org, b@x.org\nSender: alice@example.org\n", "<alice@example.org>"),
        (b"From: bob@example.org\nSender: Alice <alice@example.org>\n", "<alice@example.org>"),
        (b"From: =?utf-8?q?Al=2C?= (who) <alice@example.org>\n", "<alice@example.org>"),
        (b'From: "a, b" <"a b"@example.org>\n', '<"a b"@example.org>'),
    ],
)
def test_the_sender_is_sender_or_else_the_only_from(take: Take, header: bytes, sender: str) -> None:
    assert take(header + b"To: bob@example.org\n\n").sender == sender


@pytest.mark.parametrize(
    ("octets", "line", "reason"),
    [
        (b"From: a@x.org, b@x.org\nTo: bob@example.org\n\n", 1, "Sender"),
        (b"Subject: x\nTo: bob@example.org\n\n", 1, "sender"),
        (b"Subject: x\nFrom: alice@example.org\n\nTo: bob@example.org\n", 1, "recipient"),
        (b"From: alice@example.org\nTo: undisclosed-recipients:;\n\n", 1, "recipient"),
        (b"From: alice@example.org\nTo: bob\n\n", 2, "To"),
        (b"From: alice@example.org\nSubject: x\n folded\nTo: bob@\n\n", 4, "To"),
        (b"From: alice@example.org\r\nX: y\r\nCc: b\xf6b@example.org\r\n\r\n", 3, "Cc"),
        (b"no header\n", 1, "header"),
        (b" folded\nFrom: alice@example.org\n\n", 1, "header"),
        (b"\nFrom: alice@example.org\n", 1, "recipient"),
    ],
)
def test_what_gives_no_envelope_is_refused_with_its_line(take: Take, octets: bytes, line: int, reason: str) -> None:
    error = refusal_of(take, octets)
    assert error.line == line
    assert reason in error.reason
    assert error.octet == len(b"".join(octets.splitlines(keepends=True)[: line - 1]))


def test_an_empty_file_is_refused(take: Take) -> None:
    assert "empty" in str(refusal_of(take, b""))


@pytest.mark.parametrize("octets", [b"\n", b"\r\n", b"\n\n\n", b"\0", b"x" * 1000, b":\n\n", b"\xff\xfe\n\n", b".\n"])
def test_what_is_hardly_a_file_is_refused(take: Take, octets: bytes) -> None:
    refusal_of(take, octets)


@pytest.mark.parametrize("field", [b"To: " + b"(" * 50_000, b"To: " + b"a@b.c," * 20_000, b"To: " + b"<" * 50_000])
def test_a_field_made_to_hurt_is_answered_at_once(take: Take, field: bytes) -> None:
    octets = b"From: alice@example.org\n" + field + b"\n\n"
    try:
        assert take(octets).recipients == ["a@b.c"]
    except FormatError as error:
        assert error.line == 2


def test_a_header_without_end_is_refused(take: Take) -> None:
    assert "header" in refusal_of(take, b"From: alice@example.org\n" + b"X: y\n" * 300_000).reason
    assert "header" in refusal_of(take, b"From: alice@example.org\nX: " + b"y" * 2_000_000).reason


# --- the envelope, from its block ------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_block_counts_and_the_header_stays_as_it_is(take: Take, end: bytes) -> None:
    block = [b'X-SENDER: "A; B" <alice@example.org>; RET=HDRS;', b"x-receiver: <bob@example.org>", b"\tNOTIFY=NEVER"]
    content = [b"From: somebody else", b"To: nobody at all", b"Bcc: carol@example.org", b"", b"Hello", b""]
    taken = take(end.join([*block, *content]))
    assert taken.sender == "<alice@example.org>"
    assert taken.block.envelope.sender.parameters == (("RET", "HDRS"),)
    (recipient,) = taken.block.envelope.recipients
    assert recipient == Recipient(recipient.forward_path, (("NOTIFY", "NEVER"),))
    assert taken.recipients == ["bob@example.org"]
    assert taken.rest == b"\r\n".join(content)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\nbody\n", b"no header\n\nbody\n", b" folded\n", b"X-Receiver: <x@y>\n\n", b"\0\xff\n"]
)
def test_the_content_behind_a_block_is_carried_whatever_it_is(take: Take, content: bytes) -> None:
    taken = take(BLOCK + b"X-EndOfInjectedXHeaders: 0\n" + content)
    assert taken.rest == content.replace(b"\n", b"\r\n")
    assert taken.recipients == ["bob@example.org"]


def test_a_broken_block_is_refused_with_its_line_and_octet(take: Take) -> None:
    error = refusal_of(take, BLOCK + b"X-Receiver: <nobody\n\nHello\n")
    assert (error.line, error.octet) == (3, len(BLOCK))


def test_an_entry_that_was_exported_can_be_dropped_again(tmp_path: Path, take: Take) -> None:
    octets = BLOCK + b"From: alice@example.org\nDate: x\nMessage-ID: <x>\n\n..\n.. doubled on purpose\n"
    config = replace(config_of(tmp_path), delivery=Delivery(dotstuff="no"))
    exported = take_in_file(config, octets).read_bytes()
    for dotstuff in ("auto", "yes", "no"):
        again = take(exported, dotstuff)
        assert (again.sender, again.recipients) == ("<alice@example.org>", ["bob@example.org"])
        assert again.content.count(b"Received: ") == 2
        assert again.content.endswith(exported[exported.index(b"Received: ") :])


# --- addresses beyond ASCII ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        "From: jörg@bücher.example\nTo: bob@example.org\n\n",
        "From: alice@example.org\nTo: Jörg <jörg@bücher.example>\n\n",
        "X-Sender: <jörg@bücher.example> BODY=8BITMIME\nX-Receiver: <bob@example.org>\n\n",
        "X-Sender: <>\nX-Receiver: <用户@例え.jp>\n\n",
        "X-Sender: <jörg@bücher.example> SMTPUTF8\nX-Receiver: <用户@例え.jp>\n\n",
    ],
)
def test_an_address_beyond_ascii_is_taken_and_said_so_to_the_relay(take: Take, octets: str) -> None:
    envelope = take(octets.encode()).block.envelope
    assert not envelope.is_ascii
    assert envelope.sender.parameters.count(("SMTPUTF8", None)) == 1


def test_what_needs_no_smtputf8_says_none(take: Take) -> None:
    octets = "From: Jörg <alice@example.org>\nTo: bob@example.org\nSubject: ö\n\n".encode()
    assert not take(octets).block.envelope.sender.says_smtputf8


# --- what is added ---------------------------------------------------------------------------------


def test_a_date_and_a_message_id_are_added_where_they_are_missing(take: Take) -> None:
    lines = take(b"From: alice@example.org\nTo: bob@example.org\n\nHello\n").content.split(b"\r\n")
    (date,) = [line for line in lines if line.startswith(b"Date: ")]
    (message_id,) = [line for line in lines if line.startswith(b"Message-ID: ")]
    assert abs((parsedate_to_datetime(date[6:].decode()) - datetime.now(UTC)).total_seconds()) < 60
    assert re.fullmatch(rb"Message-ID: <\S+@mail\.example\.org>", message_id)


def test_a_date_and_a_message_id_that_are_there_stay_alone(take: Take) -> None:
    octets = b"From: alice@example.org\r\nTo: bob@example.org\r\nDATE: x\r\nmessage-id: y\r\n\r\nDate: z\r\n"
    taken = take(octets)
    assert taken.content.endswith(b"\r\n" + octets)
    assert taken.content.lower().count(b"date: ") == 2
    assert taken.content.lower().count(b"message-id: ") == 1


def test_the_trace_tells_the_only_recipient_and_no_blind_one(take: Take) -> None:
    assert b"for <bob@example.org>" in take(b"From: alice@example.org\nTo: bob@example.org\n\n").content
    assert b"for <" not in take(b"From: alice@example.org\nTo: bob@example.org\nBcc: x@y.org\n\n").content


# --- the content -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "carried"),
    [
        (b"a\nb\r\nc\n", b"a\r\nb\r\nc\r\n"),
        (b"no end", b"no end\r\n"),
        (b"\n\n\n", b"\r\n\r\n\r\n"),
        (b"", b""),
        (b"\0\xff\x80\n", b"\0\xff\x80\r\n"),
        (b"x" * 3_000_000 + b"\n", b"x" * 3_000_000 + b"\r\n"),
        (b"x" * (1024 * 1024 - 1) + b"\r\ny\r\n", b"x" * (1024 * 1024 - 1) + b"\r\ny\r\n"),
    ],
    ids=range(7),
)
def test_line_ends_become_crlf_and_all_else_stays(take: Take, body: bytes, carried: bytes) -> None:
    taken = take(b"From: alice@example.org\nTo: bob@example.org\n\n" + body)
    assert taken.rest == b"From: alice@example.org\r\nTo: bob@example.org\r\n\r\n" + carried


@pytest.mark.parametrize("before", [0, 10, 1024 * 1024 - 1, 1024 * 1024, 2 * 1024 * 1024 + 5])
@pytest.mark.parametrize("behind", [b"x\n", b"\r\n", b"\rx"])
def test_a_bare_cr_is_refused_with_its_line_and_octet(take: Take, before: int, behind: bytes) -> None:
    octets = BLOCK + b"From: x\r\n\r\n" + b"x" * before + b"\r" + behind
    error = refusal_of(take, octets)
    assert "bare CR" in error.reason
    assert (error.line, error.octet) == (5, len(BLOCK) + 11 + before)


def test_a_cr_at_the_very_end_is_the_end_of_the_last_line_and_not_lost(take: Take) -> None:
    assert take(BLOCK + b"From: x\n\nbody\r").rest == b"From: x\r\n\r\nbody\r\n"


DOUBLED = b"From: alice@example.org\nTo: bob@example.org\n\nHello\n..\n..net\nx..\n\n..."
PLAIN = DOUBLED.replace(b"\n..", b"\n.")


@pytest.mark.parametrize(
    ("dotstuff", "octets", "is_unstuffed"),
    [
        ("auto", DOUBLED, True),
        ("auto", DOUBLED + b"\n.lone\n", False),
        ("auto", b"\n".join([DOUBLED, b"x" * 1024 * 1024 + b". not at the start of a line", b".."]), True),
        ("auto", PLAIN.replace(b"...", b".."), False),
        ("yes", DOUBLED, True),
        ("yes", DOUBLED + b"\n.lone\n", True),
        ("no", DOUBLED, False),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_doubled_dots_are_undone_as_configured(
    take: Take, dotstuff: str, octets: bytes, is_unstuffed: bool, end: bytes
) -> None:
    expected = octets.replace(b"\n..", b"\n.") if is_unstuffed else octets
    expected = expected if expected.endswith(b"\n") else expected + b"\n"
    assert take(octets.replace(b"\n", end), dotstuff).rest == expected.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("before", range(1024 * 1024 - 6, 1024 * 1024 + 2))
def test_dots_are_undone_wherever_the_pieces_end(take: Take, before: int) -> None:
    header = b"From: alice@example.org\r\nTo: bob@example.org\r\n"
    octets = header + b"\r\n" + b"x" * before + b"\r\n..\r\n...\r\n"
    assert take(octets).rest == header + b"\r\n" + b"x" * before + b"\r\n.\r\n..\r\n"


def test_a_big_file_takes_little_memory(tmp_path: Path) -> None:
    line = b"a line of a message that is taken in piece by piece, however big it is " * 10 + b"\n"
    octets = BLOCK + b"From: x\n\n" + line * (30_000_000 // len(line))
    spool = Spool(tmp_path)
    spool.create_folders()
    (tmp_path / "big").write_bytes(octets)
    size = len(octets) + octets.count(b"\n")
    del octets
    claim = spool.claim(tmp_path / "big", new_entry_id(datetime.now(UTC)))
    tracemalloc.start()
    with spool.draft(claim.entry_id) as draft:
        Intake(config_of(tmp_path)).draft(claim, draft)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert draft.size >= size
    assert peak < 12_000_000
