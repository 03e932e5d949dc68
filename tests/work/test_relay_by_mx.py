"""The relay by MX: a real nameserver says where, servers on addresses of the loopback take the mail."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.model.reply import Reply
from mailsrv.settings_relay import Dns
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.lanes import MOST_LOSSES
from tests.nameserver import nameserver
from tests.system.instance import free_port_base
from tests.work.instance import letters, make
from tests.work.relaying import Server, by_mx, send_on, sender_of, settle
from tests.work.test_relay import assert_all_is_told, entry_for, lines_of, remote

ZONE = (
    "mx-host=one.example,mx1.one.example,10",
    "mx-host=one.example,mx2.one.example,20",
    "host-record=mx1.one.example,127.0.0.2",
    "host-record=mx2.one.example,127.0.0.3",
    "mx-host=two.example,mx.two.example,10",
    "host-record=mx.two.example,127.0.0.4",
    "host-record=bare.example,127.0.0.4",
    "cname=alias.example,two.example",
    "mx-host=null.example,.,0",
    "mx-host=homeless.example,nobody.example,10",
    "mx-host=ours.example,mail.us.example,10",
    "host-record=mail.us.example,127.0.0.2",
    "mx-host=xn--bcher-kva.example,mx.two.example,10",
    "mx-host=v6.example,mx.v6.example,10",
    "host-record=mx.v6.example,127.0.0.4,::1",
)


@pytest.fixture(scope="module")
def zone() -> Iterator[str]:
    with nameserver(*ZONE) as place:
        yield place


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(make(tmp_path), run_as="root", hostname="mail.us.example")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Makes servers at 127.0.0.N, all at the same port."""
    port = free_port_base()
    with ExitStack() as stack:

        def make_server(number: int, **what: object) -> Server:
            server = Server(address=f"127.0.0.{number}", at_port=port, **what)  # type: ignore[arg-type]
            stack.callback(server.close)
            return server

        yield make_server


def names_taken(server: Server) -> list[list[str]]:
    return sorted(to for _, to, _ in server.taken)


def error_of(config: Config, destination: str) -> Reply:
    spool = Spool(config.spool)
    (entry_id,) = spool.entries(State.REMOTE)
    retry = read_retry(spool.retry_path(entry_id, State.REMOTE))
    assert retry is not None
    return retry.destinations[destination].reply()


def test_one_message_becomes_one_transaction_a_destination(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    one, two = serve(2), serve(4)
    names = ["a@one.example", "b@two.example", "c@ONE.example", "d@bare.example", "e@alias.example"]
    entry_for(config, *names)
    send_on(by_mx(config, zone, one.port))
    assert names_taken(one) == [["a", "c"]]
    assert names_taken(two) == [["b"], ["d"], ["e"]]
    assert remote(config) == []
    told = {name: str(each["how"]) for each in lines_of(config, "relayed") for name in each["to"]}  # type: ignore[attr-defined]
    assert told["a@one.example"].startswith("mx1.one.example[127.0.0.2]: 250 ")
    assert told["d@bare.example"].startswith("bare.example[127.0.0.4]: 250 ")
    assert_all_is_told(config)


def test_a_domain_in_utf_8_is_found(config: Config, zone: str, serve: Callable[..., Server]) -> None:
    two = serve(4)
    entry_for(config, "dave@bücher.example")
    send_on(by_mx(config, zone, two.port))
    assert names_taken(two) == [["dave"]]


def test_the_next_host_is_used_where_the_best_is_dead_or_not_ready(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    backup = serve(3)
    entry_for(config, "a@one.example")
    send_on(by_mx(config, zone, backup.port))
    assert names_taken(backup) == [["a"]]
    best = serve(2, hangs_up_at="EHLO")
    entry_for(config, "b@one.example")
    send_on(by_mx(config, zone, backup.port))
    assert names_taken(backup) == [["a"], ["b"]]
    assert best.connections == 1
    assert_all_is_told(config)


def test_an_address_that_refuses_gives_way_to_the_other_family(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    two = serve(4)
    entry_for(config, "a@v6.example")
    send_on(by_mx(config, zone, two.port))
    assert names_taken(two) == [["a"]]


@pytest.mark.parametrize(
    ("domain", "status", "words"),
    [
        ("nowhere.example", "5.1.2", "550 5.1.2 there is no such domain"),
        ("null.example", "5.1.10", "556 5.1.10 the domain says that it takes no mail"),
        ("homeless.example", "5.4.4", "550 5.4.4 no host of the domain has an address"),
        ("ours.example", "5.4.6", "554 5.4.6 mail for the domain would come back to this server"),
    ],
)
def test_what_the_dns_says_is_final(config: Config, zone: str, domain: str, status: str, words: str) -> None:
    entry_for(config, f"a@{domain}")
    entry_for(config, f"b@{domain}")
    send_on(by_mx(config, zone, free_port_base()))
    assert remote(config) == []
    reports = letters(config, "alice")
    assert len(reports) == 2
    assert f"Action: failed\nStatus: {status}\nDiagnostic-Code: smtp; {words}".encode() in reports[0]
    assert_all_is_told(config)


def test_trouble_with_the_dns_is_not_and_the_operator_hears_of_it(config: Config) -> None:
    for number in range(3):
        entry_for(config, f"a@d{number}.example")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        impatient = Dns((f"127.0.0.1:{silent.getsockname()[1]}",), timeout=0.2, lifetime=0.5)
        sender = sender_of(replace(by_mx(config, "", 25), dns=impatient))
        settle(sender)
    assert len(remote(config)) == 6
    assert letters(config, "alice") == []
    assert sender.problems()[0].startswith("names cannot be looked up: ")
    sender.stop()
    assert_all_is_told(config)


def test_a_dead_host_of_a_stranger_is_no_problem_of_ours(config: Config, zone: str) -> None:
    entry_for(config, "a@two.example")
    sender = sender_of(by_mx(config, zone, free_port_base()))
    settle(sender)
    assert error_of(config, "a@two.example") == outcome.NO_CONNECTION
    assert sender.problems() == []
    assert sender.facts()["resting"] == 1
    sender.stop()


def test_a_host_that_greets_us_with_our_own_name_is_not_sent_to(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    two = serve(4, name="mail.us.example")
    entry_for(config, "a@two.example")
    send_on(by_mx(config, zone, two.port))
    assert two.taken == []
    assert b"Status: 5.4.6" in letters(config, "alice")[0]
    assert_all_is_told(config)


def test_a_route_of_a_domain_or_of_all_below_one_comes_before_all_others(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    one, two, other = serve(2), serve(4), serve(9)
    routes = ((".example", f"{one.place} none"), ("two.example", "mx"), ("far.test", one.place))
    names = ["a@two.example", "b@deep.below.example", "c@example", "d@far.test", "e@near.far.test"]
    entry_for(config, *names)
    send_on(by_mx(config, zone, two.port, mx=False, smarthosts=(other.place,), routes=routes))
    assert names_taken(two) == [["a"]]
    assert names_taken(one) == [["b"], ["d"]]
    assert names_taken(other) == [["c", "e"]]
    assert_all_is_told(config)


def test_what_no_route_leads_to_waits_and_the_rest_goes(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    one = serve(2)
    routes = (("one.example", one.place),)
    alone = entry_for(config, "a@two.example")
    both = entry_for(config, "b@one.example", "c@two.example")
    send_on(by_mx(config, zone, one.port, mx=False, routes=routes))
    assert names_taken(one) == [["b"]]
    assert remote(config) == sorted([alone, both, f"{both}.retry"])  # the first was not even tried
    two = serve(4)
    send_on(by_mx(config, zone, two.port))
    assert names_taken(two) == [["a"], ["c"]]
    assert_all_is_told(config)


def test_a_destination_is_tried_once_for_all_that_waits_for_it(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    """With one connection until it has proved itself, and with no more than are allowed."""
    one = serve(2, hangs_up_at="EHLO")
    for number in range(12):
        entry_for(config, f"u{number}@one.example")
    config = by_mx(config, zone, one.port, max_connections_per_destination=3)
    send_on(config)
    assert one.connections == 1
    one.hangs_up_at = ""
    send_on(config)
    assert len(one.taken) == 12
    assert 2 <= one.connections <= 4
    assert_all_is_told(config)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
def test_the_next_host_is_asked_where_the_best_lets_us_in_and_then_breaks_off(
    verb: str, config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    best, backup = serve(2, hangs_up_at=verb), serve(3)
    entry_for(config, "a@one.example")
    send_on(by_mx(config, zone, best.port))
    assert best.connections == 1
    assert names_taken(backup) == [["a"]]
    assert_all_is_told(config)


def test_no_other_host_is_asked_where_the_message_may_have_come(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    best, backup = serve(2, hangs_up_at="END"), serve(3)
    entry_for(config, "a@one.example")
    send_on(by_mx(config, zone, best.port))
    assert backup.connections == 0
    assert error_of(config, "a@one.example") == outcome.IN_DOUBT


def test_a_destination_that_always_breaks_off_is_dead_and_costs_few_attempts(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    two = serve(4, hangs_up_at="MAIL")
    for number in range(20):
        entry_for(config, f"u{number}@two.example")
    sender = sender_of(by_mx(config, zone, two.port, max_connections_per_destination=1))
    settle(sender)
    sender.stop()
    assert two.connections <= MOST_LOSSES
    assert len(remote(config)) == 40
    assert_all_is_told(config)


def test_the_source_address_is_connected_from(config: Config, zone: str, serve: Callable[..., Server]) -> None:
    """An address of the other family is left out: there is nobody at ::1 who could take it."""
    two = serve(4)
    entry_for(config, "a@v6.example", "b@two.example")
    send_on(by_mx(config, zone, two.port, source_address="127.0.0.77"))
    assert names_taken(two) == [["a"], ["b"]]
    assert two.peers == {"127.0.0.77"}


def test_single_domains_with_broken_nameservers_are_no_problem_of_ours(
    config: Config, zone: str, serve: Callable[..., Server]
) -> None:
    """dnsmasq refuses to answer for .test."""
    two = serve(4)
    entry_for(config, *(f"a@d{number}.test" for number in range(4)))
    sender = sender_of(by_mx(config, zone, two.port))
    settle(sender)
    assert sender.problems()[0].startswith("names cannot be looked up: d")
    entry_for(config, "b@two.example")
    sender.relearn()
    settle(sender)
    assert names_taken(two) == [["b"]]
    assert sender.problems() == []
    sender.stop()
