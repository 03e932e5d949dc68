"""Logging in: by each mechanism, for those who are known and those who are not, and when our files are broken."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from mailsrv.config import Config
from mailsrv.host.passwords import hash_password
from mailsrv.host.scram import make_verifier, prepared
from mailsrv.model.address import parse_mailbox
from mailsrv.model.mechanisms import MECHANISMS
from mailsrv.protocol.sasl import Challenge, Malformed, PasswordOffered
from mailsrv.store.accounts import Account, render_account
from mailsrv.store.secret import write_secret
from mailsrv.work import authentication
from mailsrv.work.authentication import Admitted, Authenticator, Exchange, OverloadedError, Rejected, Step
from mailsrv.work.routing import Directory
from tests.protocol.properties import BOUNDED
from tests.work.instance import make

PASSWORD: Final = "correct horse"
ALICE: Final = Account(parse_mailbox("alice@example.org"), hash_password(PASSWORD), make_verifier(PASSWORD))
BINDINGS: Final = {"tls-server-end-point": b"e" * 32, "tls-unique": b"u" * 12}
OLD_LINE: Final = "bob@example.org $argon2id$none\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = make(tmp_path_factory.mktemp("instance"))
    made.accounts.write_text(f"{render_account(ALICE)}\n")
    made.run.mkdir()
    write_secret(made.secret)
    return made


@pytest.fixture
def authenticator(config: Config) -> Iterator[Authenticator]:
    made = Authenticator(config, Directory(config))
    yield made
    made.close()


def with_old_account(root: Path) -> Authenticator:
    """In an instance where alice has a verifier and bob has none."""
    config = make(root)
    config.accounts.write_text(f"{render_account(ALICE)}\n{OLD_LINE}")
    config.run.mkdir()
    return Authenticator(config, Directory(config))


def scram_client(user: str, password: str, binding: str = "") -> Any:
    mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    return ScramClient([mechanism], user, password, channel_binding=(binding, BINDINGS[binding]) if binding else None)


def by_scram(exchange: Exchange, client: Any) -> Step:
    """The last step of a conversation with the library's client."""
    assert exchange.respond(None) == Challenge(b"")
    step = exchange.respond(client.get_client_first().encode())
    assert isinstance(step, Challenge)
    client.set_server_first(step.octets.decode())
    step = exchange.respond(client.get_client_final().encode())
    if not isinstance(step, Challenge):
        return step
    client.set_server_final(step.octets.decode())
    return exchange.respond(b"")


# --- what is offered -------------------------------------------------------------------------------


def test_plus_is_offered_only_where_there_is_a_channel_to_bind_to(authenticator: Authenticator) -> None:
    assert authenticator.mechanisms(bindings=BINDINGS) == MECHANISMS
    assert authenticator.mechanisms(bindings={}) == MECHANISMS[1:]
    assert authenticator.mechanisms(bindings=None) == MECHANISMS[1:]


def test_scram_is_not_offered_while_there_is_an_account_that_could_not_use_it(tmp_path: Path) -> None:
    authenticator = with_old_account(tmp_path)
    assert authenticator.mechanisms(bindings=BINDINGS) == ("PLAIN", "LOGIN")
    (tmp_path / "var" / "accounts").write_text(f"{render_account(ALICE)}\n")
    assert authenticator.mechanisms(bindings=BINDINGS) == MECHANISMS
    authenticator.close()


def test_every_mechanism_that_is_offered_can_be_begun_and_no_other(authenticator: Authenticator) -> None:
    for bindings in (BINDINGS, {}):
        for name in authenticator.mechanisms(bindings=bindings):
            assert authenticator.begin(name, bindings)
    for name, nothing in (("SCRAM-SHA-256-PLUS", None), ("SCRAM-SHA-1", BINDINGS), ("plain", None), ("", None)):
        with pytest.raises(ValueError, match="there is no mechanism"):
            authenticator.begin(name, nothing)


# --- passwords -------------------------------------------------------------------------------------


def test_a_password_is_offered_by_plain_and_login(authenticator: Authenticator) -> None:
    offered = PasswordOffered("alice", PASSWORD)
    assert authenticator.begin("PLAIN", None).respond(f"\0alice\0{PASSWORD}".encode()) == offered
    login = authenticator.begin("LOGIN", None)
    assert [login.respond(each) for each in (b"alice", PASSWORD.encode())][-1] == offered


def test_a_password_is_verified_for_whatever_form_of_the_name(authenticator: Authenticator) -> None:
    for name in ("alice", "ALICE", "alice@example.org", "Alice@Example.ORG"):
        assert authenticator.verify(name, PASSWORD) == ALICE
        assert authenticator.submit(name, PASSWORD).result() == ALICE
    assert authenticator.verify("alice", "wrong") is None
    assert authenticator.submit("alice", "wrong").result() is None
    assert authenticator.submit("nobody", PASSWORD).result() is None


def test_a_password_beyond_ascii_may_be_typed_in_any_form(tmp_path: Path) -> None:
    config = make(tmp_path)
    config.run.mkdir()
    password = prepared("gr\u00fc\u00dfe\u00a0\u2168")
    config.accounts.write_text(f"{ALICE.mailbox} {hash_password(password)}\n")
    authenticator = Authenticator(config, Directory(config))
    for typed in ("gr\u00fc\u00dfe IX", "gru\u0308\u00dfe\u00a0\u2168"):
        assert authenticator.verify("alice@example.org", typed) is not None
        assert authenticator.submit("alice@example.org", typed).result() is not None
    assert authenticator.verify("alice@example.org", "gruesse IX") is None
    authenticator.close()


def test_what_was_verified_is_answered_without_a_thread(authenticator: Authenticator) -> None:
    assert authenticator.known("alice", PASSWORD) is None
    authenticator.submit("alice", PASSWORD).result()
    assert authenticator.known("ALICE", PASSWORD) == ALICE
    assert authenticator.known("alice", "wrong") is None
    assert authenticator.known("nobody", PASSWORD) is None


def test_checks_are_bounded_at_once_and_in_all(authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, begun, most = threading.Event(), itertools.count(), 0

    def verify(_hash: str | None, _password: str) -> bool:
        nonlocal most
        most = max(most, next(begun) + 1)
        go_on.wait(20)
        return False

    monkeypatch.setattr(authenticator._memory, "verify", verify)
    number = authentication.CHECKS_AT_ONCE + authentication.CHECKS_WAITING
    futures: list[Future[Account | None]] = [authenticator.submit("nobody", "x") for _ in range(number)]
    with pytest.raises(OverloadedError):
        authenticator.submit("nobody", "x")
    assert most <= authentication.CHECKS_AT_ONCE
    go_on.set()
    assert [future.result() for future in futures] == [None] * number
    assert authenticator.submit("nobody", "x").result() is None


# --- SCRAM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice", "Alice@example.org"])
@pytest.mark.parametrize("binding", ["", *BINDINGS])
def test_scram_admits_who_knows_the_password(authenticator: Authenticator, name: str, binding: str) -> None:
    mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    exchange = authenticator.begin(mechanism, BINDINGS)
    assert by_scram(exchange, scram_client(name, PASSWORD, binding)) == Admitted(ALICE)


def test_scram_rejects_a_wrong_password_and_somebody_unknown_alike(authenticator: Authenticator) -> None:
    for name in ("alice", "nobody"):
        exchange = authenticator.begin("SCRAM-SHA-256", None)
        assert by_scram(exchange, scram_client(name, "wrong")) == Rejected(name)


def test_somebody_unknown_is_given_one_salt_for_all_forms_of_the_name(config: Config) -> None:
    salts = set()
    for name in ("nobody", "Nobody", "NOBODY@example.org"):
        authenticator = Authenticator(config, Directory(config))  # as another program, or the same after a restart
        step = authenticator.begin("SCRAM-SHA-256", None).respond(f"n,,n={name},r=abc".encode())
        assert isinstance(step, Challenge)
        salts.add(step.octets.split(b",", 1)[1])
        authenticator.close()
    assert len(salts) == 1


def test_an_account_without_a_verifier_is_like_somebody_unknown(tmp_path: Path) -> None:
    authenticator = with_old_account(tmp_path)
    for name in ("bob", "nobody"):
        exchange = authenticator.begin("SCRAM-SHA-256", None)
        assert by_scram(exchange, scram_client(name, PASSWORD)) == Rejected(name)
    authenticator.close()


@pytest.mark.parametrize(
    ("authzid", "kind"),
    [("alice", Challenge), ("ALICE@example.org", Challenge), ("bob", Rejected), ("nobody", Rejected)],
)
def test_nobody_may_act_as_somebody_else(authenticator: Authenticator, authzid: str, kind: type) -> None:
    for user in ("alice", "Alice@example.org"):
        first = f"n,a={authzid},n={user},r=abc".encode()
        assert isinstance(authenticator.begin("SCRAM-SHA-256", None).respond(first), kind)
        offered = authenticator.begin("PLAIN", None).respond(f"{authzid}\0{user}\0{PASSWORD}".encode())
        assert offered == (PasswordOffered(user, PASSWORD) if kind is Challenge else Rejected(user))


def test_after_the_servers_proof_nothing_but_an_empty_response_is_taken(authenticator: Authenticator) -> None:
    exchange, client = authenticator.begin("SCRAM-SHA-256", None), scram_client("alice", PASSWORD)
    step = exchange.respond(client.get_client_first().encode())
    assert isinstance(step, Challenge)
    client.set_server_first(step.octets.decode())
    assert isinstance(exchange.respond(client.get_client_final().encode()), Challenge)
    assert exchange.respond(b"more") == Malformed()


def test_a_program_that_finds_no_secret_goes_on(tmp_path: Path) -> None:
    authenticator = with_old_account(tmp_path)
    assert by_scram(authenticator.begin("SCRAM-SHA-256", None), scram_client("alice", PASSWORD)) == Admitted(ALICE)
    authenticator.close()


WORDS = st.sampled_from(
    [b"n,,n=alice,r=abc", b"y,,n=alice,r=abc", b"p=tls-unique,,n=bob,r=abc", b"c=biws,r=abc,p=AAAA"]
)


def test_any_octets_give_a_step_and_nobody_is_admitted_by_chance(authenticator: Authenticator) -> None:
    @BOUNDED
    @given(name=st.sampled_from(MECHANISMS), responses=st.lists(st.one_of(st.none(), st.binary(), WORDS), max_size=4))
    def check(name: str, responses: list[bytes | None]) -> None:
        exchange = authenticator.begin(name, BINDINGS)
        for each in responses:
            assert isinstance(exchange.respond(each), Challenge | PasswordOffered | Malformed | Rejected)

    check()


# --- our faults ------------------------------------------------------------------------------------


def test_a_failed_login_is_uncertain_while_accounts_is_broken(tmp_path: Path) -> None:
    authenticator = with_old_account(tmp_path)
    accounts, aliases = tmp_path / "var" / "accounts", tmp_path / "var" / "aliases"
    assert not authenticator.is_uncertain()
    aliases.write_text("nonsense\n")
    assert not authenticator.is_uncertain()
    accounts.write_text("nonsense\n")
    assert authenticator.is_uncertain()
    authenticator.close()


def test_failures_are_counted_by_the_settings(authenticator: Authenticator, config: Config) -> None:
    assert authenticator.failures.failed("192.0.2.1", 1000.0) == config.logins.delay
    assert config.failed_logins.exists()
