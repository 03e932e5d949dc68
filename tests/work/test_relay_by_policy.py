"""The relay heeds what domains ask for: MTA-STS, by a real nameserver, and DANE, by a real resolver that validates."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.settings_outgoing import Policies as Settings
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import dialing
from mailsrv.work.policies import Policies
from tests.nameserver import nameserver
from tests.validating import validating
from tests.work.authority import Certified, authority, certified
from tests.work.instance import make
from tests.work.relaying import Server, by_mx, send_on
from tests.work.test_relay import assert_all_is_told, entry_for, lines_of

MX = "mx.signed.example"
ZONE = f"@ 300 IN MX 10 {MX}.\nmx 300 IN A 127.0.0.2\nalias 300 IN CNAME mx\n"
TO = "dave@signed.example"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = replace(make(tmp_path), run_as="root", hostname="mail.us.example")
    made.run.mkdir(exist_ok=True)
    return made


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certified:
    """An authority that the system trusts."""
    made = authority()
    path = tmp_path / "trusted.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(made.der))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return made


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes a server that shows a certificate and those above it, or without any knows no TLS."""
    with ExitStack() as stack:

        def make_server(*shown: Certified, port: int = 0, address: str = "127.0.0.2") -> Server:
            tls = shown[0].context(tmp_path, *shown[1:]) if shown else None
            server = Server(address=address, at_port=port, tls=tls)
            stack.callback(server.close)
            return server

        yield make_server


def how(config: Config) -> str:
    (line,) = lines_of(config, "relayed")
    return str(line["how"])


def why(config: Config) -> str:
    """Why it waits, which the books have as well."""
    spool = Spool(config.spool)
    (entry_id,) = spool.entries(State.REMOTE)
    retry = read_retry(spool.retry_path(entry_id, State.REMOTE))
    assert retry is not None
    (fate,) = retry.destinations.values()
    assert lines_of(config, "deferred")[-1]["why"] == [fate.error]
    return fate.error


# --- MTA-STS ---------------------------------------------------------------------------------------


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the web server gives; fetching itself is tested in test_policies.py."""

    def set_policy(mode: str, mx: str = "*.sts.example") -> None:
        octets = f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 1000\n".encode()
        monkeypatch.setattr(Policies, "_fetched", lambda *_args: octets)

    return set_policy


@pytest.fixture
def zone() -> Iterator[str]:
    records = ("mx-host=sts.example,mx.sts.example,10", "host-record=mx.sts.example,127.0.0.2")
    with nameserver(*records, 'txt-record=_mta-sts.sts.example,"v=STSv1; id=1"') as place:
        yield place


def test_enforced_a_certificate_that_is_good_is_taken_and_noted(
    config: Config, zone: str, trusted: Certified, serve: Callable[..., Server], policy: Callable[..., None]
) -> None:
    policy("enforce")
    server = serve(certified(trusted, "mx.sts.example"))
    entry_for(config, "dave@sts.example")
    send_on(by_mx(config, zone, server.port))
    assert len(server.taken) == 1
    assert "MTA-STS enforce met: 250" in how(config)
    assert server.connections == 1
    assert_all_is_told(config)


@pytest.mark.parametrize(
    "found",
    [
        ("another name", "certificate verify failed: Hostname mismatch, certificate is not valid for 'mx.sts.example'"),
        ("another authority", "certificate verify failed: unable to get local issuer certificate"),
        ("no TLS", "no STARTTLS"),
        ("another host", "it is not among the hosts of the policy: other.example"),
    ],
)
def test_what_is_not_met_waits_where_it_is_enforced_and_goes_with_a_note_where_it_is_tested(
    config: Config,
    zone: str,
    trusted: Certified,
    serve: Callable[..., Server],
    policy: Callable[..., None],
    found: tuple[str, str],
) -> None:
    kind, reason = found

    shown = {
        "another name": (certified(trusted, "other.example"),),
        "another authority": (certified(authority(), "mx.sts.example"),),
        "no TLS": (),
        "another host": (certified(trusted, "mx.sts.example"),),
    }[kind]
    mx = "other.example" if kind == "another host" else "*.sts.example"
    server = serve(*shown)
    policy("enforce", mx)
    entry_for(config, "dave@sts.example")
    send_on(by_mx(config, zone, server.port))
    assert server.taken == []
    assert why(config).startswith("454 4.7.")
    assert f"MTA-STS enforce not met: {reason}" in why(config)
    policy("testing", mx)
    (config.sts_policies / "sts.example").unlink()
    send_on(by_mx(config, zone, server.port))
    assert len(server.taken) == 1
    assert f"MTA-STS testing not met: {reason}: 250" in how(config)
    assert ("TLSv1.3" in how(config)) is bool(shown)
    assert_all_is_told(config)


def test_of_two_hosts_the_one_that_meets_the_policy_is_used(
    config: Config, trusted: Certified, serve: Callable[..., Server], policy: Callable[..., None]
) -> None:
    policy("enforce")
    bad = serve(certified(authority(), "mx1.sts.example"))
    good = serve(certified(trusted, "mx2.sts.example"), port=bad.port, address="127.0.0.3")
    records = ["mx-host=sts.example,mx1.sts.example,10", "mx-host=sts.example,mx2.sts.example,20"]
    records += ["host-record=mx1.sts.example,127.0.0.2", "host-record=mx2.sts.example,127.0.0.3"]
    entry_for(config, "dave@sts.example")
    with nameserver(*records, 'txt-record=_mta-sts.sts.example,"v=STSv1; id=1"') as place:
        send_on(by_mx(config, place, bad.port))
    assert (len(bad.taken), len(good.taken)) == (0, 1)
    assert "MTA-STS enforce met" in how(config)


def test_a_setting_of_ours_decides_against_a_policy(
    config: Config, zone: str, serve: Callable[..., Server], policy: Callable[..., None]
) -> None:
    policy("enforce")
    server = serve()
    for settings in (by_mx(config, zone, server.port, tls="none"), by_mx(config, zone, server.port)):
        entry_for(config, "dave@sts.example")
        send_on(replace(settings, policies=Settings(mta_sts=settings.relay.tls == "none")))
    assert len(server.taken) == 2
    assert not any("MTA-STS" in str(each["how"]) for each in lines_of(config, "relayed"))


def test_a_smarthost_has_the_policy_of_its_own_name(
    config: Config,
    zone: str,
    trusted: Certified,
    serve: Callable[..., Server],
    policy: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialing, "addresses_of", lambda *_args: ["127.0.0.2"])
    policy("enforce", "sts.example")
    server = serve(certified(trusted, "sts.example"))
    entry_for(config, "dave@far.example")
    send_on(by_mx(config, zone, 25, smarthosts=(f"sts.example:{server.port}",)))
    assert len(server.taken) == 1
    assert "MTA-STS enforce met" in how(config)


# --- DANE ------------------------------------------------------------------------------------------


def tlsa(port: int, fields: str, octets: bytes) -> str:
    """A record with the octets, or their hash."""
    data = {"0": octets, "1": hashlib.sha256(octets).digest(), "2": hashlib.sha512(octets).digest()}[fields[-1]]
    return f"_{port}._tcp.mx 300 IN TLSA {fields} {data.hex()}\n"


def trusting(config: Config, place: str, port: int) -> Config:
    return replace(by_mx(config, place, port), policies=Settings(trusted_resolver=True))


def sent(config: Config, tmp_path: Path, port: int, records: str, forgery: tuple[str, str] = ("", "")) -> None:
    entry_for(config, TO)
    with validating(tmp_path, {"signed.example.": ZONE + records}, forgery) as place:
        send_on(trusting(config, place, port))


@pytest.mark.parametrize(
    "fields", ["3 1 1", "3 0 1", "3 1 2", "3 0 0", "3 1 0", "2 0 1", "2 1 1", "2 0 2", "2 0 0", "2 1 0"]
)
def test_a_certificate_that_the_records_name_is_taken(
    config: Config, tmp_path: Path, serve: Callable[..., Server], fields: str
) -> None:
    """Of the server itself it may have ended and be of any name; that of an authority has to vouch for the name."""
    above = authority()
    is_its_own = fields[0] == "3"
    shown = certified(None, "odd.example", days=-5) if is_its_own else certified(above, MX)
    meant = shown if is_its_own else above
    server = serve(shown) if fields in ("2 0 0",) or is_its_own else serve(shown, above)
    other = tlsa(server.port, "3 1 1", b"the next key")
    sent(
        config, tmp_path, server.port, other + tlsa(server.port, fields, meant.spki if fields[2] == "1" else meant.der)
    )
    assert len(server.taken) == 1
    assert f"DANE {fields} met: 250" in how(config)
    assert_all_is_told(config)


@pytest.mark.parametrize("kind", ["another key", "another name", "an authority that did not sign", "ended", "no TLS"])
def test_another_certificate_or_none_makes_mail_wait(
    config: Config, tmp_path: Path, serve: Callable[..., Server], kind: str
) -> None:
    above = authority()
    other = authority()
    shown = {
        "another key": (certified(None, MX),),
        "another name": (certified(above, "other.example"), above),
        "an authority that did not sign": (certified(other, MX), other, above),
        "ended": (certified(above, MX, days=-5), above),
        "no TLS": (),
    }[kind]
    server = serve(*shown)
    sent(config, tmp_path, server.port, tlsa(server.port, "2 1 1", above.spki) + tlsa(server.port, "3 1 1", b"a key"))
    assert server.taken == []
    reason = "no STARTTLS" if kind == "no TLS" else "its certificate is none that the TLSA records name"
    assert f"DANE not met: {reason}" in why(config)
    assert_all_is_told(config)


def test_records_that_cannot_be_used_still_ask_for_tls(
    config: Config, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    shown = certified(None, "odd.example")
    server = serve(shown)
    records = tlsa(server.port, "1 1 1", shown.spki)
    sent(config, tmp_path, server.port, records)
    assert "DANE without a record that can be used: encrypted: 250" in how(config)
    server.close()
    bare = serve(port=server.port)
    sent(config, tmp_path, bare.port, records)
    assert bare.taken == []
    assert "DANE not met: no STARTTLS" in why(config)


def test_forged_records_make_mail_wait_and_not_go_in_the_clear(
    config: Config, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(certified(None, MX))
    octets = hashlib.sha256(b"a key").hexdigest()
    sent(config, tmp_path, server.port, tlsa(server.port, "3 1 1", b"a key"), (octets[:20], octets[:19] + "0"))
    assert server.taken == []
    assert why(config).startswith(str(outcome.NOT_BY_POLICY))
    assert "DANE not met: its TLSA records cannot be looked up" in why(config)


@pytest.mark.parametrize("kind", ["not trusted", "not signed", "no records"])
def test_without_the_word_of_a_trusted_resolver_there_is_no_dane(
    config: Config, tmp_path: Path, serve: Callable[..., Server], kind: str
) -> None:
    server = serve(certified(None, MX))
    records = "" if kind == "no records" else tlsa(server.port, "3 1 1", b"a key")
    name = "plain.example." if kind == "not signed" else "signed.example."
    zone = f"@ 300 IN MX 10 mx.{name}\nmx 300 IN A 127.0.0.2\n"
    entry_for(config, f"dave@{name[:-1]}")
    with validating(tmp_path, {name: zone + records}) as place:
        settings = trusting(config, place, server.port)
        settings = replace(settings, policies=Settings(trusted_resolver=kind != "not trusted"))
        send_on(settings)
    assert len(server.taken) == 1
    assert "DANE" not in how(config)


def test_the_records_of_a_host_behind_an_alias_are_those_of_the_name_it_leads_to(
    config: Config, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    above = authority()
    server = serve(certified(above, MX), above)
    entry_for(config, TO)
    zone = f"@ 300 IN MX 10 alias.signed.example.\n{ZONE.partition(chr(10))[2]}{tlsa(server.port, '2 1 1', above.spki)}"
    with validating(tmp_path, {"signed.example.": zone}) as place:
        send_on(trusting(config, place, server.port))
    assert "DANE 2 1 1 met" in how(config)


def test_where_there_is_dane_mta_sts_is_not_asked(
    config: Config, tmp_path: Path, serve: Callable[..., Server], policy: Callable[..., None]
) -> None:
    policy("enforce", "other.example")
    shown = certified(None, MX)
    server = serve(shown)
    records = tlsa(server.port, "3 1 1", shown.spki) + '_mta-sts 300 IN TXT "v=STSv1; id=1"\n'
    sent(config, tmp_path, server.port, records)
    assert "DANE 3 1 1 met" in how(config)
    assert not config.sts_policies.exists()
