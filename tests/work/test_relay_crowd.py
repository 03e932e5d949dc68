"""Much mail to many destinations, some of them dead in every way: the others are not held up."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import outcome
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import lanes, line, sending
from mailsrv.work.desk import BATCH
from mailsrv.work.lanes import FAIR_SHARE
from tests.nameserver import nameserver
from tests.system.instance import wait_until
from tests.work.instance import accept, deliver, make
from tests.work.relaying import LIMITS, Server, by_mx, relaying, sender_of, settle
from tests.work.test_relay import assert_all_is_told

DOMAINS = 500
RECIPIENTS = 20  # of each domain
MESSAGES = 4
HOSTS = 10
REFUSING, SILENT, TARPIT, UNKNOWN = range(3), range(3, 6), range(6, 8), range(8, 10)  # the dead domains
PATIENCE = 60.0  # seconds; a dead one alone would take longer than that


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(make(tmp_path), run_as="root", hostname="mail.us.example")


@pytest.fixture
def world() -> Iterator[tuple[str, list[Server], socket.socket]]:
    """A nameserver, the hosts of the living domains, and one that lets everybody in and says nothing."""
    with ExitStack() as stack:
        limits = replace(LIMITS, max_messages=10_000)
        first = Server(address="127.0.1.1", limits=limits)
        rest = [Server(address=f"127.0.1.{at}", at_port=first.port, limits=limits) for at in range(2, HOSTS + 1)]
        for each in (first, *rest):
            stack.callback(each.close)
        silent = [stack.enter_context(socket.create_server(("127.0.2.1", first.port), backlog=0))]
        for _ in range(4):  # its queue is full: what comes now is dropped by the kernel
            silent.append(stack.enter_context(socket.socket()))
            silent[-1].setblocking(False)
            silent[-1].connect_ex(silent[0].getsockname())
        tarpit = stack.enter_context(socket.create_server(("127.0.2.2", first.port)))
        nobody = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        nobody.bind(("127.0.0.1", 0))
        records = [f"server=/d{at}.example/127.0.0.1#{nobody.getsockname()[1]}" for at in UNKNOWN]
        for at in set(range(DOMAINS)) - set(UNKNOWN):
            address = f"127.0.1.{1 + at % HOSTS}"
            for which, dead in ((REFUSING, "127.0.2.3"), (SILENT, "127.0.2.1"), (TARPIT, "127.0.2.2")):
                address = dead if at in which else address
            records += [f"mx-host=d{at}.example,mx.d{at}.example,10", f"host-record=mx.d{at}.example,{address}"]
        yield stack.enter_context(nameserver(*records)), [first, *rest], tarpit


def test_of_500_domains_ten_that_are_dead_hold_up_none_of_the_others(
    config: Config, world: tuple[str, list[Server], socket.socket]
) -> None:
    """10,000 recipients, 20 of each domain, in four messages."""
    place, servers, tarpit = world
    each_of = RECIPIENTS // MESSAGES
    for message in range(MESSAGES):
        accept(config, *(f"u{message}-{to}@d{at}.example" for at in range(DOMAINS) for to in range(each_of)))
    deliver(config)
    config = by_mx(config, place, servers[0].port)
    sender = sender_of(config)

    def taken() -> int:
        sender.turn()
        return sum(len(to) for server in servers for _, to, _ in server.taken)

    living = (DOMAINS - 10) * RECIPIENTS
    wait_until(lambda: taken() == living, "all that live have it", PATIENCE)
    assert sender.in_hand == MESSAGES  # the dead are still waited for: their hosts keep silent for five minutes
    assert sum(server.connections for server in servers) < 3 * DOMAINS  # and not one a message
    assert {len(to) for server in servers for _, to, _ in server.taken} == {each_of}
    tarpit.setblocking(False)
    for _ in TARPIT:  # one attempt for all that waits
        tarpit.accept()[0].close()
    with pytest.raises(BlockingIOError):
        tarpit.accept()
    settle(sender)
    sender.stop()
    wait_until(lambda: sender.lanes.lines == 0, "all connections are closed")
    sender.close()
    spool = Spool(config.spool)
    for entry_id in spool.entries(State.REMOTE):
        retry = read_retry(spool.retry_path(entry_id, State.REMOTE))
        assert retry is not None
        waiting = {key.partition("@")[2]: fate.reply() for key, fate in retry.waiting().items()}
        assert waiting == {
            **{f"d{at}.example": outcome.NO_CONNECTION for at in (*REFUSING, *SILENT)},
            **{f"d{at}.example": outcome.CONNECTION_LOST for at in TARPIT},
            **{f"d{at}.example": outcome.DNS_TROUBLE for at in UNKNOWN},
        }
    assert_all_is_told(config)


def test_a_few_busy_destinations_do_not_keep_all_places(config: Config) -> None:
    """There are two places, for two destinations with much to do; the mail of a third comes behind a few of theirs."""
    taken: list[tuple[str, list[str], bytes]] = []
    with ExitStack() as stack:
        servers = [Server(address=f"127.0.1.{at}", taken=taken) for at in range(1, 4)]
        for each in servers:
            stack.callback(each.close)
        routes = tuple((f"d{at}.example", each.place) for at, each in enumerate(servers))
        for number in range(BATCH - 1):
            accept(config, f"u{number}@d{number % 2}.example")
        accept(config, "third@d2.example")
        deliver(config)
        sender = sender_of(relaying(config, routes=routes, max_connections=2))
        settle(sender)
        assert len(taken) == BATCH
        place = [to for _, to, _ in taken].index(["third"])
        assert place < 3 * FAIR_SHARE  # and not behind all others
        sender.stop()


def test_connections_that_hang_give_their_places_away(config: Config) -> None:
    """All places are taken by hosts that say nothing."""
    with ExitStack() as stack:
        tarpits = [stack.enter_context(socket.create_server((f"127.0.2.{at}", 0))) for at in range(1, 4)]
        server = Server(address="127.0.1.1")
        stack.callback(server.close)
        places = [*("{}:{}".format(*each.getsockname()) for each in tarpits), server.place]
        routes = tuple((f"d{at}.example", each) for at, each in enumerate(places))
        accept(config, *(f"u@d{at}.example" for at in range(4)))
        deliver(config)
        sender = sender_of(relaying(config, routes=routes, max_connections=2))
        wait_until(lambda: sender.turn() or server.taken, "the living has it")  # type: ignore[func-returns-value]
        assert sender.lanes.lines >= 3
        for each in tarpits:
            each.close()
        settle(sender)
        sender.stop()


def test_more_hosts_that_hang_than_there_are_places_are_left_for_those_that_wait(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody waits, they have the five minutes of RFC 5321."""
    monkeypatch.setattr(line, "HASTE", 1.0)
    monkeypatch.setattr(lanes, "SLOW", 0.1)
    with ExitStack() as stack:
        tarpits = [stack.enter_context(socket.create_server((f"127.0.2.{at}", 0))) for at in range(1, 7)]
        server = Server(address="127.0.1.1")
        stack.callback(server.close)
        places = [*("{}:{}".format(*each.getsockname()) for each in tarpits), server.place]
        routes = tuple((f"d{at}.example", each) for at, each in enumerate(places))
        accept(config, *(f"u@d{at}.example" for at in range(7)))
        deliver(config)
        sender = sender_of(relaying(config, routes=routes, max_connections=1))
        wait_until(lambda: sender.turn() or server.taken, "the living has it")  # type: ignore[func-returns-value]
        assert sender.lanes.lines > 1  # the last ones are still waited for
        for each in tarpits:
            each.close()
        settle(sender)
        sender.stop()


def test_what_waits_behind_a_host_that_hangs_makes_room_for_others(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that may be in hand is for that host; the mail of another comes behind it."""
    monkeypatch.setattr(sending, "MOST_IN_HAND", 10)
    monkeypatch.setattr(lanes, "STALLED", 0.5)
    with ExitStack() as stack:
        tarpit = stack.enter_context(socket.create_server(("127.0.2.1", 0)))
        server = Server(address="127.0.1.1")
        stack.callback(server.close)
        routes = (("d0.example", "{}:{}".format(*tarpit.getsockname())), ("d1.example", server.place))
        for number in range(20):
            accept(config, f"u{number}@d0.example")
        accept(config, "u@d1.example")
        deliver(config)
        sender = sender_of(relaying(config, routes=routes))
        wait_until(lambda: sender.turn() or server.taken, "the living has it")  # type: ignore[func-returns-value]
        assert sender.lanes.lines >= 1  # the tarpit has the first one still
        spool = Spool(config.spool)
        reasons = [read_retry(spool.retry_path(each, State.REMOTE)) for each in spool.entries(State.REMOTE)]
        told = {fate.reply() for retry in reasons if retry is not None for fate in retry.waiting().values()}
        assert told == {outcome.STALLED}
        tarpit.close()
        settle(sender)
        sender.stop()
    assert_all_is_told(config)
