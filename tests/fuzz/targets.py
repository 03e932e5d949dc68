"""What is fuzzed: functions that take any octets, and raise where what mailsrv makes of them cannot be right."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from mailsrv.model.address import (
    MAX_DOMAIN,
    MAX_LOCAL_PART,
    GrammarError,
    Mailbox,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    render_path,
)
from mailsrv.model.parameters import parse_parameters, render_parameters
from mailsrv.protocol.header import HeaderError, mailboxes, split_fields
from mailsrv.protocol.smtp_events import Service
from tests.fuzz.driver import Dialogue, Heard, Plan, Taken, patient, plan_of, whole_or_cut
from tests.fuzz.reference import Bounds, Message, Reading, header_of, reply_codes
from tests.protocol.properties import pieces
from tests.protocol.test_any_octets import (
    POP3_SETTINGS,
    assert_messages_are_those_of_the_maildrop,
    assert_nothing_before_a_login,
    assert_well_formed_responses,
)
from tests.protocol.test_any_octets import heard as pop3_heard
from tests.protocol.worlds import Pop3World

ASKED_FOR: Final = frozenset({"received", "date", "message-id"})
ADDRESS_FIELDS: Final = frozenset({"to", "cc", "bcc", "from", "sender"})


def fuzz_smtp(octets: bytes) -> None:
    """An SMTP, submission or LMTP session."""
    plan = plan_of(octets)
    by_line = Dialogue(plan).play(patient(plan))
    check_smtp(plan, by_line)
    in_pieces = Dialogue(plan).play(whole_or_cut(plan))
    if in_pieces.discards or by_line.discards:
        list(reply_codes(in_pieces.said))
    else:
        assert in_pieces == by_line, f"the pieces make a difference:\n{in_pieces}\n{by_line}"


def check_smtp(plan: Plan, heard: Heard) -> None:
    """What was said and taken is what the reference finds in the client's octets."""
    bounds = Bounds(plan.limits.max_message_octets, plan.limits.max_line_octets)
    read = Reading(plan.octets, reply_codes(heard.said), bounds, is_lmtp=plan.service is Service.LMTP)
    assert read.is_closed == heard.is_closed, "only one of both is closed"
    taken = [message for message in heard.messages if message.is_accepted]
    assert len(taken) == len(read.messages), f"{len(taken)} messages taken, {len(read.messages)} found"
    for message, found in zip(taken, read.messages, strict=True):
        check_message(plan, message, found)


def check_message(plan: Plan, message: Taken, found: Message) -> None:
    """A message that was accepted is the one that was sent, to whom it was sent."""
    assert message.content == found.content, f"{message.content!r} instead of {found.content!r}"
    forward_paths = [str(each.forward_path) for each in message.envelope.recipients]
    assert len(forward_paths) == len(found.recipients) <= plan.limits.max_recipients
    addresses = [*forward_paths, str(message.envelope.sender.reverse_path or "<>")]
    for address, line in zip(addresses, [*found.recipients, found.sender], strict=True):
        assert address.encode() in line or b"\\" in line or b'"' in line, f"{address} out of {line!r}"
    if plan.service is Service.SUBMISSION:
        assert message.header is not None, "a header that does not end"
        octets, header = message.header
        shown, names, is_separated = header_of(found.content)
        assert (octets, header.names, header.is_separated) == (shown, ASKED_FOR & set(names), is_separated)
    else:
        assert message.header is None, "a header that nobody needs"


POP3_ANSWERS: Final = ("yes", "NOT_NOW", "challenge x", "BAD_LOGIN")


def fuzz_pop3(octets: bytes) -> None:
    """A POP3 session: the first octet cuts, the second answers (two bits a question)."""
    cut, answered = octets[:2].ljust(2, b"\0")
    sizes = [cut >> 4 or 1, cut & 15 or 1]
    answers = [POP3_ANSWERS[answered >> 2 * place & 3] for place in range(4)]
    stream = octets[2:]
    whole = pop3_heard(Pop3World(POP3_SETTINGS), [stream], answers)
    in_pieces = pop3_heard(Pop3World(POP3_SETTINGS, piece=sizes[0]), pieces(stream, sizes), answers)
    for said, asked, _ in (whole, in_pieces):
        assert_well_formed_responses(said)
        assert_messages_are_those_of_the_maildrop(said, asked)
        assert_nothing_before_a_login(asked)
    if "encrypt" not in whole[1]:
        assert in_pieces == whole


def fuzz_address(octets: bytes) -> None:
    """Mailboxes, paths and parameters: what is read is what stands there, and is read again from its own text."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = octets.decode("latin-1")  # never from the wire, but text it is
    for parse in (parse_reverse_path, parse_forward_path):
        with contextlib.suppress(GrammarError):
            path, rest = parse(text)
            assert text.endswith(rest)
            assert path is not None or text == f"<>{rest}"
            check_mailbox(path)
    with contextlib.suppress(GrammarError):
        check_mailbox(parse_mailbox(text))
    with contextlib.suppress(GrammarError):
        parameters = parse_parameters(text)
        words = [word.partition("=") for word in text.split(" ") if word]
        assert [(keyword.upper(), value or None) for keyword, _, value in words] == list(parameters), text
        assert parse_parameters(render_parameters(parameters)) == parameters


def check_mailbox(mailbox: Mailbox | None) -> None:
    """It is within the limits, can stand in a line, and is the same when it is read again."""
    text = render_path(mailbox)
    assert not [each for each in text if each < " " or each == "\x7f"], repr(text)
    if mailbox is not None:
        assert len(mailbox.local_part) <= MAX_LOCAL_PART
        assert len(mailbox.domain) <= MAX_DOMAIN
    assert (parse_reverse_path if mailbox is None or mailbox.domain else parse_forward_path)(text) == (mailbox, "")


def fuzz_header(octets: bytes) -> None:
    """The fields of a header are all there is of it, and its addresses are such."""
    with contextlib.suppress(HeaderError):
        fields = split_fields(octets)
        assert b"".join(field.raw for field in fields) == octets
        for mailbox in mailboxes(fields, ADDRESS_FIELDS):
            check_mailbox(mailbox)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "smtp": fuzz_smtp,
    "address": fuzz_address,
    "header": fuzz_header,
    "pop3": fuzz_pop3,
}
