"""What aliases, lists and transforms make of a message that is delivered: envelopes, trace lines, reports, loops."""

import re
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.address import parse_mailbox
from mailsrv.model.envelope import Envelope, Sender
from mailsrv.model.parameters import parse_parameters
from mailsrv.store import ledger
from mailsrv.store.ledger import Reader
from mailsrv.store.spool import Spool, State
from mailsrv.work.audit import Audit
from tests.work.instance import CONTENT, accept, deliver, letters, make, names_in, unfinished
from tests.work.test_corpus import FILES

ON_DISK = CONTENT.replace(b"\r\n", b"\n")
LISTS = """[team@example.org]
owner = carol@example.org
post = anybody
alice@example.org
bob@example.org
dave@example.net
eve@example.net
"""
BOB = "bob@example.org"


def elsewhere(config: Config) -> list[tuple[Envelope, bytes]]:
    """What waits for the relay, in order of arrival: envelopes and messages."""
    spool = Spool(config.spool)
    found = []
    for entry_id in spool.entries(State.REMOTE):
        file, block = spool.open(State.REMOTE, entry_id)
        with file:
            found.append((block.envelope, file.read()))
    return found


def addressed(envelope: Envelope) -> tuple[str, list[str]]:
    return str(envelope.sender.reverse_path or ""), [str(each.forward_path) for each in envelope.recipients]


# --- lists -----------------------------------------------------------------------------------------


def test_a_list_sends_on_in_the_name_of_its_owner(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS)
    accept(config, "team@example.org", "zoe@example.net", sender=BOB)
    deliver(config)
    head = b"Return-Path: <carol@example.org>\nList-Id: <team.example.org>\n"
    assert letters(config, "alice") == letters(config, "bob") == [head + ON_DISK]
    copies = {addressed(envelope)[0]: (addressed(envelope)[1], octets) for envelope, octets in elsewhere(config)}
    head = b"Delivered-To: team@example.org\r\nList-Id: <team.example.org>\r\n"
    assert copies == {
        "carol@example.org": (["dave@example.net", "eve@example.net"], head + CONTENT),
        BOB: (["zoe@example.net"], CONTENT),
    }
    assert letters(config, "carol") == []
    assert unfinished(config) == []


def test_who_gets_a_message_himself_and_by_a_list_gets_it_once(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS)
    accept(config, "team@example.org", "alice@example.org", "dave@example.net", sender=BOB)
    deliver(config)
    assert len(letters(config, "alice")) == len(letters(config, "bob")) == 1
    assert sum(len(envelope.recipients) for envelope, _ in elsewhere(config)) == 2


def test_many_aliases_of_one_list_cost_the_books_no_more_than_its_members_and_balance(tmp_path: Path) -> None:
    """Once each alias was told with all members: a thousand of each made a line of 20 MB."""
    members = [f"member{number}@example.net" for number in range(100)]
    lists = "\n".join(["[team@example.org]", "owner = carol@example.org", "post = anybody", *members, ""])
    names = [f"to{number}@example.org" for number in range(100)]
    config = make(tmp_path, "".join(f"{name}: team@example.org, alice@example.org\n" for name in names), lists)
    ledger.begin(config.books)
    entry_id = accept(config, *names, sender=BOB)
    deliver(config)
    assert len(letters(config, "alice")) == 1
    assert sorted(path for envelope, _ in elsewhere(config) for path in addressed(envelope)[1]) == sorted(members)
    (line,) = (line for line in Reader(config.books).read() if line["id"] == entry_id and "routes" in line)
    assert set(line["routes"]) == set(names)
    assert sum(len(keys) for keys in line["routes"].values()) < 4 * len(names)
    audited = Audit(config).run()
    assert (audited.missing, audited.doubled) == ((), ())


def test_the_owner_of_a_list_is_told_of_a_lost_member_and_the_sender_is_not(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS + "ghost@example.org\n")
    accept(config, "team@example.org", sender=BOB)
    deliver(config)
    (report,) = letters(config, "carol")
    assert b"Final-Recipient: rfc822; ghost@example.org\n" in report
    assert report.startswith(b"Return-Path: <>\n")
    assert letters(config, "bob")[0].endswith(ON_DISK)
    assert len(letters(config, "bob")) == 1


def test_what_a_sender_asks_of_reports_ends_at_the_list_that_tells_of_its_own_success(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS + "ghost@example.org\n")
    block = (
        b"X-Sender: <carol@example.org> RET=FULL ENVID=1 BODY=8BITMIME REQUIRETLS\r\n"
        b"X-Receiver: <team@example.org> NOTIFY=SUCCESS ORCPT=rfc822;t@x\r\n"
    )
    accept(config, block=block)
    deliver(config)
    ((envelope, _),) = elsewhere(config)
    assert envelope.sender == Sender(parse_mailbox("carol@example.org"), parse_parameters("BODY=8BITMIME REQUIRETLS"))
    assert {each.parameters for each in envelope.recipients} == {()}
    told = [
        re.findall(rb"Final-Recipient: rfc822; (.*)\nAction: (.*)\n", letter) for letter in letters(config, "carol")
    ]
    assert sorted(told) == [[(b"ghost@example.org", b"failed")], [(b"team@example.org", b"delivered")]]


def test_mail_from_who_may_not_post_is_returned(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS.replace("anybody", "bob@example.org"))
    accept(config, "team@example.org", sender="alice@example.org")
    deliver(config)
    (report,) = letters(config, "alice")
    assert b"Status: 5.7.2\n" in report
    assert elsewhere(config) == []


def test_a_list_id_that_is_there_stays_the_only_one(tmp_path: Path) -> None:
    config = make(tmp_path, lists=LISTS)
    content = b"Received: x\r\nList-ID: <other.example>\r\n\r\nHello.\r\n"
    accept(config, "team@example.org", content=content)
    deliver(config)
    assert letters(config, "bob") == [b"Return-Path: <carol@example.org>\n" + content.replace(b"\r\n", b"\n")]


def test_aliases_of_one_message_do_not_tell_on_each_other(tmp_path: Path) -> None:
    config = make(tmp_path, "one@example.org: dave@example.net\ntwo@example.org: eve@example.net\n")
    accept(config, "one@example.org", "two@example.org")
    deliver(config)
    found = {addressed(envelope)[1][0]: octets for envelope, octets in elsewhere(config)}
    assert found == {
        "dave@example.net": b"Delivered-To: one@example.org\r\n" + CONTENT,
        "eve@example.net": b"Delivered-To: two@example.org\r\n" + CONTENT,
    }


def test_mail_is_sent_on_with_a_copy_kept_or_without(tmp_path: Path) -> None:
    config = make(tmp_path, "alice@example.org: alice@example.org, a@example.net\nbob@example.org: b@example.net\n")
    accept(config, "alice@example.org", "bob@example.org", sender="carol@example.org")
    deliver(config)
    assert len(letters(config, "alice")) == 1
    assert letters(config, "bob") == []
    assert sorted(addressed(envelope)[1][0] for envelope, _ in elsewhere(config)) == ["a@example.net", "b@example.net"]


# --- loops -----------------------------------------------------------------------------------------


def test_what_was_delivered_to_the_same_address_before_goes_back(tmp_path: Path) -> None:
    config = make(tmp_path)
    accept(
        config, BOB, "carol@example.org", content=b"Received: x\r\ndelivered-TO: <BOB@example.org>\r\n\r\nHello.\r\n"
    )
    deliver(config)
    assert letters(config, "bob") == []
    assert len(letters(config, "carol")) == 1
    (report,) = letters(config, "alice")
    assert b"Final-Recipient: rfc822; bob@example.org\nAction: failed\nStatus: 5.4.6\n" in report


def test_what_comes_back_from_where_an_alias_sent_it_is_not_sent_there_again(tmp_path: Path) -> None:
    config = make(tmp_path, "info@example.org: dave@example.net\n")
    accept(config, "info@example.org")
    deliver(config)
    ((_, octets),) = elsewhere(config)
    accept(config, "info@example.org", content=b"Received: by elsewhere\r\n" + octets)
    deliver(config)
    assert len(elsewhere(config)) == 1
    assert len(letters(config, "alice")) == 1


@pytest.mark.parametrize(
    "field", [b"X-Delivered-To: bob@example.org", b"Delivered-To: odd", b"Delivered-To: dave@x.org"]
)
def test_other_fields_and_other_addresses_are_no_loop(tmp_path: Path, field: bytes) -> None:
    config = make(tmp_path)
    accept(config, BOB, content=b"Received: x\r\n" + field + b"\r\n\r\nDelivered-To: bob@example.org\r\n")
    deliver(config)
    assert len(letters(config, "bob")) == 1


@pytest.mark.parametrize(("hops", "is_delivered"), [(100, True), (101, False)])
def test_more_than_a_hundred_hops_before_ours_are_a_loop(tmp_path: Path, hops: int, is_delivered: bool) -> None:
    config = make(tmp_path)
    accept(config, BOB, "dave@example.net", content=b"Received: ours\r\n" + b"RECEIVED: x\r\n" * hops + b"\r\nHi.\r\n")
    deliver(config)
    assert len(letters(config, "bob")) == len(elsewhere(config)) == int(is_delivered)
    assert len(letters(config, "alice")) == int(not is_delivered)


# --- transforms ------------------------------------------------------------------------------------

TRANSFORMS = """inbound *@old.example -> *@example.org
outbound *@*.internal -> *@example.com
outbound bob@example.org -> robert@example.com
"""


def test_senders_go_out_under_their_outside_names_in_envelope_and_header(tmp_path: Path) -> None:
    config = make(tmp_path, transforms=TRANSFORMS)
    header = (
        b'Received: x\r\nFrom: "bob@example.org" (bob@example.org) <BOB@example.org>,\r\n'
        b'\t"o, p" <ann@host.internal>\r\n'
        b"Sender: bob@example.org\r\nReply-To: abob@example.org, g: bob@example.org;\r\nTo: bob@example.org\r\n"
        b"Subject: <bob@example.org>"
    )
    accept(
        config,
        "dave@example.net",
        "alice@example.org",
        sender=BOB,
        content=header + b"\r\n\r\nFrom: bob@example.org\r\n",
    )
    deliver(config)
    ((envelope, octets),) = elsewhere(config)
    assert addressed(envelope) == ("robert@example.com", ["dave@example.net"])
    assert octets == (
        b'Received: x\r\nFrom: "bob@example.org" (bob@example.org) <robert@example.com>,\r\n'
        b'\t"o, p" <ann@example.com>\r\n'
        b"Sender: robert@example.com\r\nReply-To: abob@example.org, g: robert@example.com;\r\nTo: bob@example.org\r\n"
        b"Subject: <bob@example.org>\r\n\r\nFrom: bob@example.org\r\n"
    )
    (letter,) = letters(config, "alice")  # what stays here stays as it is
    assert b"Return-Path: <bob@example.org>\n" in letter
    assert header.replace(b"\r\n", b"\n") in letter


@pytest.mark.parametrize(
    "field",
    [
        b"From: bob@example.org (\r\n",
        b"From: a b bob@example.org\r\n",
        b"From: \xff\xfe <eve@example.org>\r\n",
        b"From: undisclosed:;\r\n",
        b"From:\r\n",
    ],
)
def test_a_field_that_is_not_understood_goes_out_as_it_is(tmp_path: Path, field: bytes) -> None:
    config = make(tmp_path, transforms=TRANSFORMS)
    accept(config, "dave@example.net", sender="", content=field + b"\r\nHello.\r\n")
    deliver(config)
    ((envelope, octets),) = elsewhere(config)
    assert octets == field + b"\r\nHello.\r\n"
    assert envelope.sender.reverse_path is None


def test_a_report_of_failure_finds_the_way_back_through_an_inbound_transform(tmp_path: Path) -> None:
    config = make(tmp_path, transforms=TRANSFORMS)
    accept(config, "ghost@example.org", sender="carol@old.example")
    deliver(config)
    assert len(letters(config, "carol")) == 1


# --- every message of the corpus -------------------------------------------------------------------


def with_crlf(octets: bytes) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", octets)


def test_every_message_goes_through_list_alias_and_forward_unharmed(tmp_path: Path) -> None:
    aliases = "alias@example.org: carol@example.org, a@example.net\nbob@example.org: bob@example.org, f@example.net\n"
    config = make(tmp_path, aliases, LISTS.replace("bob@example.org\n", ""), TRANSFORMS)
    expected = []
    for path in FILES:
        content = b"Received: from a test\r\n" + with_crlf(path.read_bytes())
        expected.append(content)
        accept(
            config, "team@example.org", "alias@example.org", "bob@example.org", sender="x@example.com", content=content
        )
    deliver(config)
    for name in ("alice", "bob", "carol"):
        found = letters(config, name)
        assert len(found) == len(expected)
        for letter, content in zip(found, expected, strict=True):
            assert letter.endswith(content.replace(b"\r\n", b"\n")), name
    copies: dict[str, list[bytes]] = {}
    for envelope, octets in elsewhere(config):
        copies.setdefault(str(envelope.recipients[0].forward_path), []).append(octets)
    assert sorted(copies) == ["a@example.net", "dave@example.net", "f@example.net"]
    for found in copies.values():
        assert len(found) == len(expected)
        for content in expected:
            assert sum(octets.endswith(content) for octets in found) >= expected.count(content)
    assert names_in(config.spool / "hold") == names_in(config.spool / "deferred") == []
    assert unfinished(config) == []
