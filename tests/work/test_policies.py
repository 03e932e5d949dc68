"""MTA-STS policies of other domains: fetched over HTTPS that is verified, kept, renewed, not lost by a failure."""

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.host import https
from mailsrv.host.https import FetchError
from mailsrv.host.resolver import Absent, Answer, Found, Kind, Trouble
from mailsrv.protocol.mta_sts import MOST_OCTETS, Mode
from mailsrv.settings_outgoing import Policies as Settings
from mailsrv.settings_relay import Dns
from mailsrv.store import sts_policies
from mailsrv.work import checks, policies
from mailsrv.work.policies import NOTHING, Policies, trusts_resolver
from tests.work.authority import Certified, authority, certified
from tests.work.instance import make

POLICY = b"version: STSv1\nmode: enforce\nmx: mx.a.example\nmax_age: 1000\n"
HOST = "mta-sts.a.example"


class World:
    """A DNS that says what it is told, and a web server that gives what it is told, or fails."""

    def __init__(self) -> None:
        self.txt: Answer = Found((b"v=STSv1; id=1",), "_mta-sts.a.example")
        self.policy: bytes | FetchError = POLICY
        self.fetched = 0

    def ask(self, name: str, kind: Kind) -> Answer:
        if kind is Kind.TXT:
            assert name == "_mta-sts.a.example"
            return self.txt
        return Found(("127.0.0.1",), name) if kind is Kind.A else Absent(has_name=True)

    def fetch(self, host: str, addresses: list[str]) -> bytes:
        assert (host, addresses) == (HOST, ["127.0.0.1"])
        self.fetched += 1
        if isinstance(self.policy, FetchError):
            raise self.policy
        return self.policy


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = make(tmp_path)
    made.run.mkdir()
    return made


@pytest.fixture
def world() -> World:
    return World()


def policies_of(config: Config, world: World) -> Policies:
    return Policies(config, world.ask, world.fetch)


def mode(found: Policies) -> Mode | None:
    policy = found.sts_policy("a.example")
    return policy.mode if policy else None


def test_a_policy_is_fetched_once_and_kept_over_a_restart(config: Config, world: World) -> None:
    for _ in range(2):
        again = policies_of(config, world)
        assert [mode(again), mode(again)] == [Mode.ENFORCE, Mode.ENFORCE]
    assert world.fetched == 1


def test_another_id_has_it_fetched_anew(config: Config, world: World) -> None:
    found = policies_of(config, world)
    mode(found)
    world.txt, world.policy = Found((b"v=STSv1; id=2",), ""), POLICY.replace(b"enforce", b"testing")
    assert mode(found) is Mode.TESTING
    assert world.fetched == 2


@pytest.mark.parametrize("answer", [Absent(has_name=False), Trouble("no answer"), Found((b"v=spf1",), "")])
def test_what_is_kept_holds_while_the_record_is_gone(config: Config, world: World, answer: Answer) -> None:
    found = policies_of(config, world)
    mode(found)
    world.txt = answer
    assert mode(found) is Mode.ENFORCE
    other = World()
    other.txt = answer
    (config.sts_policies / "a.example").unlink()
    assert mode(policies_of(config, other)) is None
    assert other.fetched == 0


@pytest.mark.parametrize("policy", [FetchError("down"), b"<html>", b"version: STSv1\nmode: enforce\nmax_age: 1\n"])
def test_what_is_kept_holds_while_the_next_cannot_be_had_and_it_is_not_asked_for_at_once(
    config: Config, world: World, policy: bytes | FetchError
) -> None:
    found = policies_of(config, world)
    mode(found)
    world.txt, world.policy = Found((b"v=STSv1; id=2",), ""), policy
    assert [mode(found), mode(found)] == [Mode.ENFORCE, Mode.ENFORCE]
    assert world.fetched == 2


def test_a_policy_ends_with_its_age_and_is_swept_away(
    config: Config, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = policies_of(config, world)
    mode(found)
    world.txt = Absent(has_name=False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 999)
    assert mode(found) is Mode.ENFORCE
    monkeypatch.setattr(time, "time", lambda: now + 1001)
    assert mode(found) is None
    sts_policies.sweep(config.sts_policies, now + 1001)
    assert list(config.sts_policies.iterdir()) == []


def test_without_a_policy_first_a_failure_asks_for_nothing(config: Config, world: World) -> None:
    world.policy = FetchError("down")
    assert policies_of(config, world).demand("a.example", "mx.a.example", 25, is_authentic=False) == NOTHING


def test_a_broken_file_is_fetched_again(config: Config, world: World) -> None:
    found = policies_of(config, world)
    mode(found)
    (config.sts_policies / "a.example").write_bytes(b"{")
    assert mode(found) is Mode.ENFORCE
    assert world.fetched == 2


def test_a_host_that_is_not_in_the_policy_is_refused_and_in_testing_noted(config: Config, world: World) -> None:
    for word, is_binding in ((b"enforce", True), (b"testing", False)):
        world.policy = POLICY.replace(b"enforce", word)
        (config.sts_policies / "a.example").unlink(missing_ok=True)
        found = policies_of(config, world)
        good = found.demand("A.example", "mx.a.example", 25, is_authentic=False)
        assert (good.name, good.refusal, good.is_binding) == (f"MTA-STS {word.decode()}", "", is_binding)
        bad = found.demand("a.example", "other.example", 25, is_authentic=False)
        assert (bad.refusal, bad.is_binding) == ("it is not among the hosts of the policy: mx.a.example", is_binding)


def test_a_policy_of_none_an_address_and_the_setting_ask_for_nothing(config: Config, world: World) -> None:
    off = replace(config, policies=Settings(mta_sts=False))
    assert policies_of(off, world).demand("a.example", "mx.a.example", 25, is_authentic=False) == NOTHING
    assert policies_of(config, world).demand("[127.0.0.1]", "[127.0.0.1]", 25, is_authentic=False) == NOTHING
    world.policy = b"version: STSv1\nmode: none\nmax_age: 1000\n"
    assert policies_of(config, world).demand("a.example", "mx.a.example", 25, is_authentic=False) == NOTHING


def test_only_a_server_that_is_named_can_be_trusted_and_check_names_one_that_is_far_away(config: Config) -> None:
    trusted = replace(config, policies=Settings(trusted_resolver=True))
    named = replace(trusted, dns=Dns(("[::1]:5353", "10.1.2.3")))
    far = replace(trusted, dns=Dns(("127.0.0.1", "8.8.8.8:53")))
    assert [trusts_resolver(each) for each in (config, trusted, named, far)] == [False, False, True, True]
    found = {id(each): [*checks._resolver(each)] for each in (config, trusted, named, far)}
    assert found[id(config)] == []
    assert "expected nameservers in [dns]" in found[id(trusted)][0].problem
    assert found[id(named)][0].is_good
    assert found[id(far)][0].problem == "expected servers on this machine or a private network, not 8.8.8.8:53"


# --- the web server --------------------------------------------------------------------------------


@contextmanager
def web(context: ssl.SSLContext, status: int = 200, kind: str = "text/plain", body: bytes = POLICY) -> Iterator[int]:
    """A web server that answers everything alike; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Host"] == HOST
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Location", "https://elsewhere.example/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_args: object) -> None:  # who hangs up early is no error
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certified:
    """An authority that the system trusts."""
    made = authority()
    path = tmp_path / "trusted.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(made.der))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return made


def fetched(monkeypatch: pytest.MonkeyPatch, port: int, seconds: float = 5) -> bytes:
    monkeypatch.setattr(https, "PORT", port)
    return https.fetch(HOST, ["127.0.0.1"], policies.PATH, most=MOST_OCTETS, seconds=seconds)


def test_a_document_is_fetched_with_a_certificate_that_is_good(
    trusted: Certified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web(certified(trusted, HOST).context(tmp_path), kind="text/plain; charset=utf-8") as port:
        assert fetched(monkeypatch, port) == POLICY


@pytest.mark.parametrize(
    ("names", "days", "is_ours"), [(["other.example"], 5, True), ([HOST], -5, True), ([HOST], 5, False)]
)
def test_a_certificate_of_another_name_time_or_authority_is_refused(
    trusted: Certified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], days: int, is_ours: bool
) -> None:
    by = trusted if is_ours else authority()
    with (
        web(certified(by, *names, days=days).context(tmp_path)) as port,
        pytest.raises(FetchError, match="certificate verify failed"),
    ):
        fetched(monkeypatch, port)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((301, "text/plain", b""), "expected 200, not 301"),
        ((404, "text/plain", POLICY), "expected 200, not 404"),
        ((200, "text/html", POLICY), "expected text/plain, not text/html"),
        ((200, "text/plain", b"x" * (MOST_OCTETS + 1)), f"expected at most {MOST_OCTETS} octets"),
    ],
)
def test_a_redirection_another_type_and_a_flood_are_refused(
    trusted: Certified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, bytes], expected: str
) -> None:
    with (
        web(certified(trusted, HOST).context(tmp_path), *answer) as port,
        pytest.raises(FetchError, match=expected),
    ):
        fetched(monkeypatch, port)


def test_nobody_holds_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(FetchError):
            fetched(monkeypatch, silent.getsockname()[1], 0.3)
        assert time.monotonic() - begun < 5
        port = silent.getsockname()[1]
    with pytest.raises(FetchError, match="Connection refused"):
        fetched(monkeypatch, port)
