"""Mail for elsewhere is signed as it leaves, by the right domain, and is verified by another implementation."""

import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dkim
import pytest

from mailsrv.config import Config
from mailsrv.host.signing import Algorithm
from mailsrv.model import outcome
from mailsrv.model.envelope import Arrival
from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.model.reply import Reply
from mailsrv.settings_outgoing import Dkim
from mailsrv.store.retry import read_retry
from mailsrv.store.signing_keys import Stage, key_files
from mailsrv.store.spool import Spool, State
from mailsrv.work import keyring
from mailsrv.work.keyring import KeysError, keys_of
from mailsrv.work.signing import Signer
from tests.work.instance import DOMAIN, accept, deliver, make
from tests.work.relaying import Server, relaying, sender_of, serving, settle
from tests.work.signed import BOTH, FILES, MESSAGE, left, make_keys, signed_corpus, submit, verified

FIELD = b"DKIM-Signature:"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(make(tmp_path), run_as="root")  # as whoever runs the test


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def test_what_was_submitted_is_signed_by_both_keys_and_the_spool_keeps_its_octets(
    config: Config, server: Server
) -> None:
    keys = make_keys(config)
    submit(config)
    (path,) = Spool(config.spool).folder(State.REMOTE).iterdir()
    assert path.read_bytes().endswith(b"0\r\n" + MESSAGE)
    (message,) = left(config, server)
    assert message.endswith(b"\r\n" + MESSAGE)
    assert sorted(verified(message, keys)) == ["s-ed25519", "s-rsa"]
    assert b"d=example.org" in message
    assert b"x=" not in message.partition(b"h=")[0]


@pytest.mark.parametrize(("hostname", "is_signed"), [("mail.example.org", True), ("mail.example.com", False)])
def test_a_report_is_signed_for_the_domain_that_the_server_belongs_to(
    config: Config, server: Server, hostname: str, is_signed: bool
) -> None:
    keys = make_keys(config)
    config = replace(config, hostname=hostname)
    accept(config, "ghost@example.org", sender="dave@example.net")
    deliver(config)
    (message,) = left(config, server)
    assert f"From: Mail Delivery System <postmaster@{hostname}>".encode() in message
    assert len(verified(message, keys)) == (2 if is_signed else 0)


def test_a_domain_of_any_script_is_signed_for_in_a_labels(config: Config, server: Server) -> None:
    config = replace(config, domains=(DOMAIN, "bücher.example"))
    keys = keyring.make(config, "xn--bcher-kva.example", "s", BOTH)
    submit(config, "From: Jürgen <j@bücher.example>\r\nSubject: grüß\r\n\r\nHallo.\r\n".encode())
    (message,) = left(config, server)
    assert sorted(verified(message, keys)) == ["s-ed25519", "s-rsa"]
    assert b"d=xn--bcher-kva.example;" in message


@pytest.mark.skipif(not FILES, reason="there is no corpus")
def test_every_real_message_is_verified_with_both_keys(config: Config, server: Server) -> None:
    keys = make_keys(config)
    not_read = 0
    for name, message in signed_corpus(config, server):
        assert message.count(FIELD) >= 2, name
        try:
            assert len(verified(message, keys)) == 2, name
        except dkim.MessageFormatError:  # a space before a colon, which dkimpy does not take
            not_read += 1
    assert not_read < 5


@pytest.mark.parametrize(
    "change", [(b"Hello", b"Hullo"), (b"alice@", b"mallory@"), (b"To: ", b"Reply-To: m@x\r\nTo: ")]
)
def test_what_was_changed_on_the_way_is_not_verified(
    config: Config, server: Server, change: tuple[bytes, bytes]
) -> None:
    keys = make_keys(config)
    submit(config)
    (message,) = left(config, server)
    assert verified(message.replace(*change), keys) == []


def test_each_attempt_sends_the_same_octets(config: Config) -> None:
    make_keys(config)
    submit(config)
    spool = Spool(config.spool)
    file, block = spool.open(State.REMOTE, _only(config))
    with file:
        front = Signer(config).front(_only(config), block.arrival, iter([file.read()]))
    with serving(ending=Reply(452, "3.1", "no room")) as refusing:
        assert left(config, refusing) == []
    with serving() as server:
        (message,) = left(config, server)
    assert message.startswith(front)
    assert front.count(FIELD) == 2


@pytest.mark.parametrize(
    ("header", "identity"),
    [
        (b"From: dave@example.net\r\n\r\n", "alice@example.org"),  # not our domain
        (b"From: alice@example.org\r\n\r\n", ""),  # said by another server
        (b"From: a@example.org, b@example.net\r\n\r\n", "alice@example.org"),
        (b"From: nobody\r\n\r\n", "alice@example.org"),
        (b"Subject: no author\r\n\r\n", "alice@example.org"),
        (b"\r\nno header\r\n", "alice@example.org"),
        (b"From: alice@example.org\r\n" + b"To: x@example.org\r\n" * 300 + b"\r\n", "alice@example.org"),
    ],
)
def test_what_is_not_ours_to_vouch_for_goes_unsigned(
    config: Config, server: Server, header: bytes, identity: str
) -> None:
    make_keys(config)
    submit(config, header + b"Hello.\r\n", identity=identity)
    (message,) = left(config, server)
    assert FIELD not in message


def test_forwarded_mail_is_signed_only_on_demand_and_never_by_who_claims_to_be_ours(config: Config) -> None:
    keys = make_keys(config)
    asked = replace(config, dkim=Dkim(sign_forwarded=DOMAIN, expire_days=10))
    (config.root / "var" / "aliases").write_text("bob@example.org: dave@example.net\n")
    for author in ("eve@example.com", "alice@example.org"):
        for settings, is_signed in ((config, False), (asked, author != "alice@example.org")):
            accept(settings, "bob@example.org", content=f"From: {author}\r\n\r\nHello.\r\n".encode())
            deliver(settings)
            with serving() as server:
                (message,) = left(settings, server)
            assert (len(verified(message, keys)) == 2) is is_signed
            assert (b"x=" in message) is is_signed


def test_without_keys_nothing_is_signed(config: Config, server: Server) -> None:
    submit(config)
    (message,) = left(config, server)
    assert FIELD not in message


@pytest.mark.parametrize("octets", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_makes_mail_wait_until_it_is_mended(config: Config, server: Server, octets: bytes) -> None:
    make_keys(config)
    (rsa,) = [each for each in keys_of(config, DOMAIN) if each.key.algorithm is Algorithm.RSA]
    good = rsa.file.read()
    rsa.file.path.write_bytes(octets)
    entry_id = submit(config)
    assert left(config, server) == []
    retry = read_retry(Spool(config.spool).retry_path(_only(config), State.REMOTE))
    assert retry is not None
    (fate,) = retry.destinations.values()
    assert fate.reply() == outcome.NOT_SIGNED
    assert "s-rsa.pem: expected a private key in PEM" in fate.error
    assert "s-rsa.pem: expected a private key" in Signer(config).problems()[0]
    rsa.file.path.write_bytes(good)
    (message,) = left(config, server)
    assert len(verified(message, keys_of(config, DOMAIN))) == 2, entry_id


def test_keys_that_cannot_be_reached_make_mail_wait(config: Config, server: Server) -> None:
    config.dkim_keys.mkdir()
    (config.dkim_keys / DOMAIN).write_text("in the way")
    submit(config)
    assert left(config, server) == []
    retry = read_retry(Spool(config.spool).retry_path(_only(config), State.REMOTE))
    assert retry is not None
    assert "Not a directory" in retry.destinations["dave@example.net"].error
    (config.dkim_keys / DOMAIN).unlink()
    (message,) = left(config, server)
    assert message.endswith(MESSAGE)
    assert FIELD not in message


def test_a_header_without_end_goes_unsigned(config: Config) -> None:
    make_keys(config)
    now = datetime.now(UTC)
    pieces = iter([MESSAGE.partition(b"\r\n\r\n")[0], *[b"\r\nX-Long: " + b"x" * 99_000] * 12])
    assert Signer(config).front(new_entry_id(now), Arrival(now, "send"), pieces) == b""


def _only(config: Config) -> EntryId:
    (name,) = {each.removesuffix(".retry") for each in os.listdir(Spool(config.spool).folder(State.REMOTE))}
    return EntryId(name)


def test_keys_change_while_the_relay_runs_and_every_message_is_verified(config: Config, server: Server) -> None:
    make_keys(config, "one")
    sender = sender_of(relaying(config, server))
    for selectors in ({"one-rsa", "one-ed25519"}, {"one-rsa", "one-ed25519"}, {"two-rsa", "two-ed25519"}):
        if len(server.taken) == 1:
            made = make_keys(config, "two")
            assert {each.file.stage for each in made} == {Stage.NEXT}
        elif len(server.taken) == 2:
            keyring.activate(config, DOMAIN)
        submit(config)
        sender.relearn()
        settle(sender)
        message = server.taken[-1][2]
        assert set(verified(message, keys_of(config, DOMAIN))) == selectors
    keyring.remove(config, DOMAIN, "one-rsa")
    keyring.retire(config, DOMAIN, "two-rsa")
    stages = {each.selector: each.stage for each in key_files(config.dkim_keys, DOMAIN)}
    assert stages == {"one-ed25519": Stage.RETIRED, "two-rsa": Stage.RETIRED, "two-ed25519": Stage.SIGNS}
    sender.stop()


@pytest.mark.parametrize("where", ["os.listdir", "_read"])
def test_keys_that_change_while_they_are_looked_at_sign_all_the_same(
    config: Config, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Between the listing and the look at each file, and just before one is read."""
    make_keys(config, "one")
    make_keys(config, "two")
    module = os if where == "os.listdir" else keyring
    real = getattr(module, where.rpartition(".")[2])
    calls: list[object] = []

    def interrupted(*args: object) -> object:
        calls.append(args)
        found = real(*args) if where == "os.listdir" else None
        if len(calls) == 1:
            keyring.activate(config, DOMAIN)
        return found if found is not None else real(*args)

    monkeypatch.setattr(module, where.rpartition(".")[2], interrupted)
    signer, now = Signer(config), datetime.now(UTC)
    assert signer.front(new_entry_id(now), Arrival(now, "send"), iter([MESSAGE])).count(b"s=two-") == 2


def test_what_cannot_be_done_with_the_keys_is_refused(config: Config) -> None:
    make_keys(config, "one")
    with pytest.raises(KeysError, match="selector one-rsa already"):
        make_keys(config, "one")
    with pytest.raises(KeysError, match="expected a selector"):
        make_keys(config, "no.dots")
    with pytest.raises(KeysError, match="has no keys that wait"):
        keyring.activate(config, DOMAIN)
    with pytest.raises(KeysError, match="dkim retire"):
        keyring.remove(config, DOMAIN, "one-rsa")
    with pytest.raises(KeysError, match="no key with the selector two"):
        keyring.retire(config, DOMAIN, "two")
    make_keys(config, "two")
    with pytest.raises(KeysError, match="keys already that wait"):
        make_keys(config, "three")


def test_keys_are_for_the_programs_alone_and_names_of_today_do_not_collide(config: Config) -> None:
    first = keyring.make(config, DOMAIN, "", BOTH)
    second = keyring.make(config, DOMAIN, "", BOTH)
    assert len({each.file.selector for each in (*first, *second)}) == 4
    for each in (*first, *second):
        assert each.file.path.stat().st_mode & 0o777 == 0o600
        assert each.file.path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("piece", [b"a line of words,  more or less\r\n" * 4096, b" " * 131_072, b"\r\n" * 65_536])
def test_a_large_message_takes_little_memory(config: Config, piece: bytes) -> None:
    make_keys(config)

    def pieces() -> Iterator[bytes]:
        yield MESSAGE
        for _ in range(50_000_000 // len(piece)):
            yield piece

    signer, now = Signer(config), datetime.now(UTC)
    arrival = Arrival(now, "send")
    signer.front(new_entry_id(now), arrival, iter([MESSAGE]))  # what is loaded once
    tracemalloc.start()
    try:
        assert signer.front(new_entry_id(now), arrival, pieces()).count(FIELD) == 2
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()
