"""SCRAM: the library's own client against our server's side, and everything that may go wrong between them."""

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramException

from mailsrv.host import scram
from mailsrv.host.scram import MalformedMessageError, RejectedProofError, ServerSide, fake_verifier, make_verifier
from mailsrv.model.verifier import Verifier, parse_verifier
from tests.protocol.properties import BOUNDED

PASSWORD = "pencil"
VERIFIER = parse_verifier(make_verifier(PASSWORD))
NONE: Mapping[str, bytes] = {}
BINDINGS = {"tls-server-end-point": b"e" * 32, "tls-unique": b"u" * 12}
SECRET = b"a secret of thirty-two octets ..."


def verifier_of(user: str) -> Verifier:
    return VERIFIER if user == "user" else fake_verifier(SECRET, user)


def server(bindings: Mapping[str, bytes] = NONE, *, is_plus: bool = False) -> ServerSide:
    return ServerSide(verifier_of, bindings, is_plus=is_plus)


def client(user: str = "user", password: str = PASSWORD, binding: tuple[str, bytes] | None = None) -> Any:
    mechanisms = ["SCRAM-SHA-256-PLUS"] if binding else ["SCRAM-SHA-256"]
    return ScramClient(mechanisms, user, password, channel_binding=binding)


def converse(ours: ServerSide, theirs: Any) -> None:
    """The whole conversation; raises what either side does."""
    theirs.set_server_first(ours.first(theirs.get_client_first().encode()).decode())
    theirs.set_server_final(ours.final(theirs.get_client_final().encode()).decode())


def test_who_knows_the_password_is_admitted_and_shown_that_we_do() -> None:
    ours = server()
    converse(ours, client())
    assert (ours.user, ours.authzid) == ("user", "")


def test_the_example_of_rfc_7677_is_answered_as_it_stands_there() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    verifier = verifier_from(salted, salt)
    ours = ServerSide(lambda _user: verifier, NONE, is_plus=False)
    first = ours.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").decode()
    assert first.startswith("r=rOprNGfwEbeRWgbNEkqO")
    assert first.endswith(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")


def verifier_from(salted: bytes, salt: bytes) -> Verifier:
    def mac(text: bytes) -> bytes:
        return hmac.digest(salted, text, "sha256")

    return Verifier(4096, salt, hashlib.sha256(mac(b"Client Key")).digest(), mac(b"Server Key"))


@pytest.mark.parametrize("name", BINDINGS)
def test_a_client_may_bind_to_either_of_two_channels(name: str) -> None:
    converse(server(BINDINGS, is_plus=True), client(binding=(name, BINDINGS[name])))


def by_exporter(bound: bytes, header: str = "p=tls-exporter,,") -> None:
    """A conversation with a client that binds so at its end, by a name that the library does not know."""
    ours, theirs = server({"tls-exporter": b"x" * 32, **BINDINGS}, is_plus=True), client(binding=("tls-unique", b"-"))
    bare = theirs.get_client_first().removeprefix("p=tls-unique,,")
    theirs.set_server_first(ours.first(f"p=tls-exporter,,{bare}".encode()).decode())
    theirs.gs2_header = Header(header.encode() + bound)
    theirs.set_server_final(ours.final(theirs.get_client_final().encode()).decode())


def test_a_client_may_bind_to_tls_exporter_and_to_nothing_else_by_that_name() -> None:
    by_exporter(b"x" * 32)
    for bound in (b"y" * 32, b"x" * 31, b"", *BINDINGS.values()):
        with pytest.raises(RejectedProofError):
            by_exporter(bound)
    for header in ("p=tls-unique,,", "p=tls-server-end-point,,", "n,,", "y,,", ""):
        with pytest.raises(RejectedProofError):
            by_exporter(b"x" * 32, header)


def test_a_client_that_binds_to_nothing_is_admitted_where_only_tls_exporter_is_to_be_had() -> None:
    converse(server({"tls-exporter": b"x" * 32}), client())
    with pytest.raises(RejectedProofError):
        server({"tls-exporter": b"x" * 32}).first(b"y,,n=user,r=abcdef")


def test_a_client_on_another_channel_is_rejected() -> None:
    with pytest.raises(RejectedProofError):
        converse(server(BINDINGS, is_plus=True), client(binding=("tls-unique", b"of somebody between")))


def test_a_client_that_binds_to_nothing_is_admitted_although_it_could_bind() -> None:
    converse(server(BINDINGS), client())


def test_a_client_that_was_not_shown_plus_although_we_offer_it_is_rejected() -> None:
    with pytest.raises(RejectedProofError):
        server(BINDINGS).first(b"y,,n=user,r=abcdef")
    assert server().first(b"y,,n=user,r=abcdef")  # we did not offer it


@pytest.mark.parametrize(
    ("first", "is_plus"),
    [
        (b"n,,n=user,r=abc", True),
        (b"y,,n=user,r=abc", True),
        (b"p=tls-unique,,n=user,r=abc", False),
        (b"p=tls-exporter,,n=user,r=abc", True),
        (b"p=,,n=user,r=abc", True),
    ],
)
def test_a_binding_that_does_not_go_with_the_mechanism_is_malformed(first: bytes, is_plus: bool) -> None:
    with pytest.raises(MalformedMessageError):
        server(BINDINGS, is_plus=is_plus).first(first)


def test_a_wrong_password_is_rejected_at_the_end() -> None:
    with pytest.raises(RejectedProofError):
        converse(server(), client(password="pen"))


def test_somebody_unknown_is_told_what_anybody_is_told_and_fails_at_the_end() -> None:
    first = [server().first(b"n,,n=nobody,r=abc").decode().split(",") for _ in range(2)]
    known = server().first(b"n,,n=user,r=abc").decode().split(",")
    assert first[0][1:] == first[1][1:]  # the same salt and count each time, and another nonce
    assert first[0][0] != first[1][0]
    assert [len(each) for each in first[0]] == [len(each) for each in known]
    assert first[0][2] == known[2]
    with pytest.raises(RejectedProofError):
        converse(server(), client("nobody"))


def test_another_secret_or_name_gives_another_salt() -> None:
    salts = {fake_verifier(secret, name).salt for secret in (SECRET, b"other") for name in ("a", "b")}
    assert len(salts) == 4


@pytest.mark.parametrize("authzid", ["user", "us,er", "us=er"])
def test_the_name_that_a_client_wants_to_act_as_is_told_and_is_part_of_the_proof(authzid: str) -> None:
    escaped = authzid.replace("=", "=3D").replace(",", "=2C")
    theirs, ours = client(), server()
    bare = theirs.get_client_first().removeprefix("n,,")
    theirs.set_server_first(ours.first(f"n,a={escaped},{bare}".encode()).decode())
    assert ours.authzid == authzid
    theirs.gs2_header = Header(f"n,a={escaped},".encode())
    theirs.set_server_final(ours.final(theirs.get_client_final().encode()).decode())


def test_a_name_to_act_as_that_is_left_out_of_the_proof_is_rejected() -> None:
    theirs, ours = client(), server()
    bare = theirs.get_client_first().removeprefix("n,,")
    theirs.set_server_first(ours.first(f"n,a=user,{bare}".encode()).decode())
    with pytest.raises(RejectedProofError):
        ours.final(theirs.get_client_final().encode())


class Header:
    """What a client sends that knows of authorization identities, as the library's does not."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def make_cbind_input(self, _binding: object) -> bytes:
        return self._octets


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\xff",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=a=b,r=abc",
        b"n,,r=abc,n=user",
        b"n,,m=x,n=user,r=abc",
        b"n,user,n=user,r=abc",
        b"n,a=a=b,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=user,r=a c",
        b"n,,n=user,r=" + b"a" * scram.MAX_MESSAGE,
    ],
)
def test_a_malformed_first_message_is_malformed(first: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        server().first(first)


@pytest.mark.parametrize("final", [b"", b"\xff", b"c=biws", b"c=biws,r=abc,p=AAAA", b"c=!,r=x,p=x", b"n,,n=user,r=abc"])
def test_a_malformed_final_message_is_rejected_and_nothing_comes_after_it(final: bytes) -> None:
    theirs, ours = client(), server()
    theirs.set_server_first(ours.first(theirs.get_client_first().encode()).decode())
    with pytest.raises(RejectedProofError):
        ours.final(final)
    with pytest.raises(RejectedProofError):
        ours.final(theirs.get_client_final().encode())


@BOUNDED
@given(octets=st.one_of(st.binary(), st.text().map(lambda text: f"n,,n={text},r=abc".encode("utf-8", "replace"))))
def test_any_first_message_is_answered_or_refused(octets: bytes) -> None:
    for ours in (server(), server(BINDINGS, is_plus=True)):
        with contextlib.suppress(MalformedMessageError, RejectedProofError):
            assert ours.first(octets)


@BOUNDED
@given(octets=st.one_of(st.binary(), st.text().map(lambda text: f"c=biws,r={text},p=AAAA".encode("utf-8", "replace"))))
def test_any_final_message_but_the_right_one_is_rejected(octets: bytes) -> None:
    ours = server()
    ours.first(b"n,,n=user,r=abc")
    with pytest.raises(RejectedProofError):
        ours.final(octets)


def test_a_fault_of_ours_is_not_taken_for_the_clients() -> None:
    def broken(_user: str) -> Verifier:
        raise RuntimeError("ours")

    with pytest.raises(ScramException):
        ServerSide(broken, NONE, is_plus=False).first(b"n,,n=user,r=abc")


def test_a_password_is_prepared_as_clients_prepare_it() -> None:
    ours = parse_verifier(make_verifier("\u2168\u00ad"))  # RFC 4013 §3: IX
    converse(ServerSide(lambda _user: ours, NONE, is_plus=False), client(password="IX"))


@pytest.mark.parametrize("password", ["\u0007", "\u00ad", "\u0627" + "1"])
def test_a_password_that_saslprep_does_not_allow_is_taken_as_it_is(password: str) -> None:
    verifier = parse_verifier(make_verifier(password))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), verifier.salt, verifier.iterations)
    assert verifier.server_key == hmac.digest(salted, b"Server Key", "sha256")
