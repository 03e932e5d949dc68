"""The format of a spool file: machine and person write the same, and any octets give a block or a FormatError."""

import io
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import EntryId
from mailsrv.store import entry
from mailsrv.store.entry import MAX_BLOCK, Block, FormatError, read_block
from tests.model import words

BOB, ALICE = Mailbox("bob", "example.org"), Mailbox("alice", "example.org")

_lines = st.sampled_from(
    [
        b"X-Sender: <a@example.org>",
        b"X-Receiver: <b@example.org> NOTIFY=NEVER",
        b"x-receiver: Bob <b@example.org>;",
        b"X-Arrived: 2026-11-23T12:00:01Z id=x with=drop",
        b"X-EndOfInjectedXHeaders: 0",
        b"X-CreatedBy: MSExchange15",
        b"X-Sender:",
        b"X-Receiver: <>",
        "X-Receiver: J\u00a0K <jörg@bücher.example>".encode(),
        b" ORCPT=rfc822;x",
        b"\tfolded",
        b"From: x",
        b"",
        b".",
        b"\xff\x00",
    ]
)
nearly_blocks = st.lists(_lines, max_size=8).flatmap(
    lambda lines: st.sampled_from([b"\n", b"\r\n", b"\r"]).map(lambda end: end.join(lines))
)


def block_of(octets: bytes) -> Block | None:
    return read_block(io.BytesIO(octets))


def the_block_of(octets: bytes) -> Block:
    block = block_of(octets)
    assert block is not None
    return block


@given(words.envelopes, words.arrivals, words.entry_ids, st.sampled_from([b"", b"Received: x\r\n", b"\r\nbody", b"\0"]))
def test_what_is_written_is_read_again(envelope: Envelope, arrival: Arrival, entry_id: EntryId, content: bytes) -> None:
    octets = entry.render(envelope, arrival, entry_id)
    block = the_block_of(octets + content)
    assert (block.envelope, block.arrival) == (envelope, arrival)
    assert (block.length, block.lines) == (len(octets), octets.count(b"\n"))


@given(st.binary() | nearly_blocks)
@example(b"X-Sender: <a@[IPv6:::1%]>\nX-Receiver: <b@c>\n")
def test_any_octets_give_a_block_or_none_or_a_format_error(octets: bytes) -> None:
    try:
        block = block_of(octets)
    except FormatError as error:
        assert 0 <= error.line <= octets.count(b"\n") + 1
        assert 0 <= error.octet <= len(octets)
        return
    if block is not None:
        assert block.length <= len(octets)
        assert block.envelope.recipients


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_what_dot_net_and_people_write_is_understood(end: bytes) -> None:
    lines = [
        b'x-sender: "Alice, of Example" <alice@example.org>; BODY=8bitmime;',
        b"X-RECEIVER:Bob Builder <bob@example.org>",
        b"\tNOTIFY=NEVER;",
        b"   ORCPT=rfc822;bob@example.org",
        b"X-Receiver: alice@example.org",
        b"X-CreatedBy: somebody",
        b"X-EndOfInjectedXHeaders: 1234",
        b"From: x",
    ]
    block = the_block_of(end.join(lines) + end)
    assert block.envelope.sender.reverse_path == ALICE
    assert block.envelope.sender.parameters == (("BODY", "8bitmime"),)
    expected = Recipient(BOB, (("NOTIFY", "NEVER"), ("ORCPT", "rfc822;bob@example.org")))
    assert block.envelope.recipients == (expected, Recipient(ALICE))
    assert block.lines == 7


def test_what_a_client_said_is_kept_to_its_last_character() -> None:
    parameters = (("ENVID", ";"), ("RET", "HDRS"))
    envelope = Envelope(Sender(ALICE, parameters), (Recipient(BOB, (("ORCPT", "rfc822;a;"),)),))
    arrival = Arrival(datetime(2026, 11, 23, tzinfo=UTC), "ESMTPA", "x", "192.0.2.1", "", '"a b"@example.org')
    block = the_block_of(entry.render(envelope, arrival, EntryId("x")))
    assert (block.envelope, block.arrival) == (envelope, arrival)


def test_a_null_sender_is_understood() -> None:
    assert the_block_of(b"X-Sender: <>\nX-Receiver: <bob@example.org>\n").envelope.sender.reverse_path is None


@pytest.mark.parametrize("octets", [b"", b"From: x\n", b"X-Sender: <a@example.org>\nFrom: x\n", b"X-CreatedBy: x\n"])
def test_a_file_without_a_receiver_has_no_block(octets: bytes) -> None:
    assert block_of(octets) is None


def test_the_block_ends_at_the_first_field_that_belongs_to_the_message() -> None:
    octets = b"X-Sender: <>\nX-Receiver: <bob@example.org>\n"
    assert the_block_of(octets + b"X-Mailer: x\nX-Receiver: <alice@example.org>\n").length == len(octets)


@pytest.mark.parametrize("content", [b" folded\n", b"\tfolded\n", b"X-Receiver: <alice@example.org>\n"])
def test_nothing_behind_the_end_mark_belongs_to_the_block(content: bytes) -> None:
    octets = b"X-Sender: <>\nX-Receiver: <bob@example.org>\nX-EndOfInjectedXHeaders: 0\n"
    block = the_block_of(octets + content)
    assert (block.length, block.lines) == (len(octets), 3)
    assert block.envelope.recipients == (Recipient(BOB),)


@pytest.mark.parametrize(
    ("octets", "line", "octet"),
    [
        (b"X-Receiver: <bob@example.org>\n", 1, 0),
        (b"X-Sender: <>\nX-Receiver: <bob@example.org>\nX-Sender: <>\n", 3, 43),
        (b"X-Sender: <>\nX-Receiver: <bob@example.org>\nX-Receiver: <bob@>\n", 3, 43),
        (b"X-Sender: <>\r\nX-Receiver: <>\r\n", 2, 14),
        (b"X-Sender: nobody at all\nX-Receiver: <bob@example.org>\n", 1, 0),
        (b"X-Sender: <>\nX-Receiver: <bob@example.org> A=b=c\n", 2, 13),
        (b"X-Sender: <>\nX-Receiver: <bob@example.org>\nX-Arrived: today\n", 3, 43),
        (b"X-Sender: <>\nX-Receiver: <bob@example.org>\nX-Arrived: 2026-11-23T12:00:01 with=drop\n", 3, 43),
    ],
)
def test_a_mistake_is_told_with_its_line_and_octet(octets: bytes, line: int, octet: int) -> None:
    with pytest.raises(FormatError) as caught:
        block_of(octets)
    assert (caught.value.line, caught.value.octet) == (line, octet)
    assert f"line {line}" in str(caught.value)


def test_octets_that_are_not_utf_8_are_told_where_they_stand() -> None:
    octets = b"X-Sender: <>\nX-Receiver: <b\xc3\xb6b@example.org>\n\tX=\xf6\n"
    with pytest.raises(FormatError, match="UTF-8") as caught:
        block_of(octets)
    assert (caught.value.line, caught.value.octet) == (2, octets.index(b"\xf6"))


def test_addresses_of_any_script_are_understood_with_any_display_name() -> None:
    block = the_block_of("X-Sender: jörg@bücher.example SMTPUTF8\nX-Receiver: 山田\u3000太郎 <用户@例え.jp>\n".encode())
    assert block.envelope.sender.reverse_path == Mailbox("jörg", "bücher.example")
    assert block.envelope.sender.says_smtputf8
    assert block.envelope.recipients == (Recipient(Mailbox("用户", "例え.jp")),)


@pytest.mark.parametrize("path", ['<"a\u3000b"@example.org>', "<a@example.org>\u00a0NOTIFY=NEVER", "<a@x.org> X=ö"])
def test_odd_spaces_and_parameters_beyond_ascii_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        block_of(f"X-Sender: <>\nX-Receiver: {path}\n".encode())


def test_the_spaces_of_a_local_part_stay() -> None:
    block = the_block_of(b'X-Sender: <"a  b"@example.org>\nX-Receiver: <"c   d"@example.org>\n')
    assert block.envelope.sender.reverse_path == Mailbox("a  b", "example.org")
    assert block.envelope.recipients == (Recipient(Mailbox("c   d", "example.org")),)


def test_a_block_without_end_is_refused() -> None:
    with pytest.raises(FormatError):
        block_of(b"X-Sender: <>\n" + b"X-Receiver: <bob@example.org>\n" * (MAX_BLOCK // 30 + 1))


def test_a_block_of_folded_lines_without_end_is_refused_at_once() -> None:
    folded = b"X-Sender: <>\nX-Receiver:" + (b" " * 60 + b"\n") * (
        MAX_BLOCK // 61
    )  # a sum of copies would take minutes
    file = io.BytesIO(folded * 10)
    with pytest.raises(FormatError):
        read_block(file)
    assert file.tell() < MAX_BLOCK + 100
