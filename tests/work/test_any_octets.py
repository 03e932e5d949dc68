"""Any octets give a result or the error that is foreseen for them, never another exception."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from mailsrv.model.envelope import Arrival
from mailsrv.model.identity import new_entry_id
from mailsrv.model.international import is_visible
from mailsrv.protocol.header import HeaderError, mailboxes, split_fields
from mailsrv.store import entry
from mailsrv.store.entry import FormatError, read_block
from mailsrv.work.intake import Given, Intake
from tests.model import words
from tests.work.instance import config_of

NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
NAMES: Final = frozenset({"to", "cc", "bcc", "from", "sender"})
PARTS: Final = [
    *(b"To:", b"Cc:", b"bcc :", b"From:", b"Sender:", b"Subject:", b"X-Sender:", b"X-Receiver:", b"X-Arrived:"),
    *(
        b"X-EndOfInjectedXHeaders: 0",
        b"\r\n",
        b"\n",
        b"\r",
        b"\n\n",
        b" ",
        b"\t",
        b".",
        b"..",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
    ),
    *(
        b"a@example.org",
        b"<b@example.org>",
        b'"c d"@example.org',
        b"<>",
        b"<",
        b">",
        b"(",
        b")",
        b'"',
        b"\\",
        b"[",
        b"]",
    ),
    *(
        b",",
        b";",
        b":",
        b"@",
        b"=?utf-8?q?=2C?=",
        b"=?x?b?!?=",
        b"group: x@y.z;",
        b"NOTIFY=NEVER",
        b"[IPv6:::1%\xc3\xa9]",
        "j\u00f6rg@b\u00fccher.example".encode(),
        "X-Receiver: <j\u00f6rg@\u4f8b\u3048.jp>".encode(),
        "\u202e".encode(),
        "\u3000".encode(),
    ),
]
octets_of_mail: Final = st.binary(max_size=60) | st.lists(st.sampled_from(PARTS), max_size=25).map(b"".join)


@given(octets_of_mail)
@example(b"To: " + b"(" * 20_000)
@example(b"To: a@[IPv6:fe80::1%\xc3\xa9]\n")
def test_any_header_gives_mailboxes_that_can_be_rendered_or_a_header_error(octets: bytes) -> None:
    try:
        fields = split_fields(octets)
        assert b"".join(field.raw for field in fields) == octets
        for mailbox in mailboxes(fields, NAMES):
            assert is_visible(str(mailbox))
    except HeaderError as error:
        assert 1 <= error.line <= octets.count(b"\n") + 1


@given(octets_of_mail, st.builds(Given, st.none() | words.mailboxes, st.lists(words.mailboxes, max_size=2).map(tuple)))
def test_any_dropped_file_gives_an_envelope_that_can_be_written_or_a_format_error(octets: bytes, said: Given) -> None:
    intake = Intake(config_of(Path()))
    try:
        understood = intake.understand(io.BytesIO(octets), said)
    except FormatError as error:
        assert 0 <= error.line <= octets.count(b"\n") + 1
        assert 0 <= error.octet <= len(octets)
        return
    assert understood.body <= len(octets)
    rendered = entry.render(understood.envelope, Arrival(NOW, "drop"), new_entry_id(NOW))
    block = read_block(io.BytesIO(rendered))
    assert block is not None
    assert block.envelope == understood.envelope
