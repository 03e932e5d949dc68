"""Which hosts take mail for a domain, by what the DNS says of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.host.resolver import Absent, Answer, Exchange, Found, Kind, Trouble
from mailsrv.model import outcome
from mailsrv.model.reply import Reply
from mailsrv.settings import Listen
from mailsrv.settings_relay import Relay
from mailsrv.work.exchangers import Host, NoHostError, Ourselves, hosts_of

Zone = Mapping[tuple[str, Kind], Answer]
TROUBLE = Trouble("SERVFAIL")


def mx(*exchanges: tuple[int, str], is_authentic: bool = False) -> Found:
    return Found(tuple(Exchange(*each) for each in exchanges), "a.example", is_authentic)


def at(*addresses: str, is_authentic: bool = False) -> Found:
    return Found(addresses, "", is_authentic)


def hosts(zone: Zone, domain: str = "a.example", config: Config | None = None) -> list[Host]:
    """What is not in the zone is not there; the domain is."""

    def ask(name: str, kind: Kind) -> Answer:
        return zone.get((name, kind), Absent(has_name=name == "a.example"))

    return list(hosts_of(domain, ask, Ourselves(config or Config(Path(), hostname="mail.us.example"))))


def names(zone: Zone, config: Config | None = None) -> list[str]:
    return [each.name for each in hosts(zone, config=config)]


def reason(zone: Zone, domain: str = "a.example", config: Config | None = None) -> Reply:
    with pytest.raises(NoHostError) as caught:
        hosts(zone, domain, config)
    return caught.value.reason


ADDRESSES: Zone = {
    ("mx1.example", Kind.A): at("192.0.2.1"),
    ("mx2.example", Kind.A): at("192.0.2.2"),
    ("mx2.example", Kind.AAAA): at("2001:db8::2", "2001:db8::3"),
    ("mx3.example", Kind.A): at("192.0.2.3"),
    ("mail.us.example", Kind.A): at("192.0.2.9"),
}


def test_hosts_come_by_preference_with_the_addresses_of_both_families_alternating() -> None:
    zone: Zone = {
        **ADDRESSES,
        ("a.example", Kind.MX): mx((20, "mx2.example"), (10, "mx1.example"), (30, "mx3.example")),
    }
    found = hosts(zone)
    assert [each.name for each in found] == ["mx1.example", "mx2.example", "mx3.example"]
    assert found[1].addresses == ("2001:db8::2", "192.0.2.2", "2001:db8::3")


def test_hosts_of_one_preference_come_in_any_order_and_before_the_next() -> None:
    zone: Zone = {
        **ADDRESSES,
        ("a.example", Kind.MX): mx((10, "mx2.example"), (10, "mx1.example"), (30, "mx3.example")),
    }
    found = {tuple(names(zone)) for _ in range(100)}
    assert found == {("mx1.example", "mx2.example", "mx3.example"), ("mx2.example", "mx1.example", "mx3.example")}


def test_a_domain_without_mx_is_its_own_host() -> None:
    assert hosts({("a.example", Kind.A): at("192.0.2.7")}) == [Host("a.example", 0, ("192.0.2.7",))]


def test_a_null_mx_is_final() -> None:
    zone: Zone = {**ADDRESSES, ("a.example", Kind.MX): mx((0, "")), ("a.example", Kind.A): at("192.0.2.7")}
    assert reason(zone) == outcome.NULL_MX
    assert str(outcome.NULL_MX).startswith("556 5.1.10 ")


def test_a_null_mx_among_others_is_passed_over() -> None:
    assert names({**ADDRESSES, ("a.example", Kind.MX): mx((0, ""), (10, "mx1.example"))}) == ["mx1.example"]


def test_a_domain_that_there_is_not_is_final() -> None:
    assert reason({}, "b.example") == outcome.NO_SUCH_DOMAIN


def test_a_domain_without_any_address_is_final() -> None:
    assert reason({}) == outcome.NO_HOST
    assert reason({("a.example", Kind.MX): mx((10, "gone.example"))}) == outcome.NO_HOST


def test_trouble_is_temporary_wherever_it_occurs() -> None:
    assert reason({("a.example", Kind.MX): TROUBLE}) == outcome.DNS_TROUBLE
    assert reason({("a.example", Kind.A): TROUBLE}) == outcome.DNS_TROUBLE
    zone: Zone = {
        ("a.example", Kind.MX): mx((10, "mx4.example"), (20, "gone.example")),
        ("mx4.example", Kind.A): TROUBLE,
    }
    assert reason(zone) == outcome.DNS_TROUBLE
    assert not outcome.DNS_TROUBLE.is_permanent


def test_a_host_that_cannot_be_looked_up_does_not_stand_in_the_way_of_the_next() -> None:
    zone: Zone = {**ADDRESSES, ("a.example", Kind.MX): mx((10, "mx4.example"), (20, "mx1.example"))}
    assert names({**zone, ("mx4.example", Kind.A): TROUBLE}) == ["mx1.example"]


def test_one_family_is_used_where_the_other_cannot_be_looked_up() -> None:
    zone: Zone = {**ADDRESSES, ("a.example", Kind.MX): mx((10, "mx1.example")), ("mx1.example", Kind.AAAA): TROUBLE}
    assert hosts(zone) == [Host("mx1.example", 10, ("192.0.2.1",))]


@pytest.mark.parametrize("us", ["mail.us.example", "MAIL.US.EXAMPLE"])
def test_we_ourselves_and_all_that_are_no_better_are_left_out(us: str) -> None:
    exchanges = mx((10, "mx1.example"), (20, us), (20, "mx2.example"), (30, "mx3.example"))
    assert names({**ADDRESSES, ("a.example", Kind.MX): exchanges}) == ["mx1.example"]


def test_a_domain_whose_best_host_we_are_is_final() -> None:
    exchanges = mx((10, "mail.us.example"), (20, "mx2.example"))
    assert reason({**ADDRESSES, ("a.example", Kind.MX): exchanges}) == outcome.LOOPS
    assert outcome.LOOPS.status == "5.4.6"


def test_a_better_host_that_cannot_be_looked_up_keeps_a_loop_from_being_final() -> None:
    zone: Zone = {
        ("a.example", Kind.MX): mx((10, "mx4.example"), (20, "mail.us.example")),
        ("mx4.example", Kind.A): TROUBLE,
    }
    assert reason({**ADDRESSES, **zone}) == outcome.DNS_TROUBLE


def test_we_are_known_by_where_we_listen_as_well() -> None:
    """Every address of this machine is ours where we listen at all of them, at the port of SMTP only."""
    config = Config(Path(), listen=Listen(address="0.0.0.0", smtp=25))
    zone: Zone = {("a.example", Kind.MX): mx((10, "mx.example")), ("mx.example", Kind.A): at("127.0.0.77")}
    assert reason(zone, config=config) == outcome.LOOPS
    assert names(zone, replace(config, relay=Relay(port=26))) == ["mx.example"]
    assert names(zone, replace(config, listen=Listen(address="127.0.0.1", smtp=25))) == ["mx.example"]
    assert reason({}, "[127.0.0.77]", config) == outcome.LOOPS


def test_the_hostname_of_every_new_instance_is_nobody_s() -> None:
    zone: Zone = {("a.example", Kind.MX): mx((10, "localhost")), ("localhost", Kind.A): at("127.0.0.1")}
    assert names(zone, Config(Path())) == ["localhost"]


def test_an_address_in_brackets_is_the_host() -> None:
    assert hosts({}, "[192.0.2.5]") == [Host("[192.0.2.5]", 0, ("192.0.2.5",))]
    assert hosts({}, "[IPv6:2001:db8::5]")[0].addresses == ("2001:db8::5",)


def test_a_host_is_vouched_for_where_mx_and_addresses_are() -> None:
    addresses: Zone = {
        ("mx1.example", Kind.A): at("192.0.2.1", is_authentic=True),
        ("mx1.example", Kind.AAAA): Absent(has_name=True, is_authentic=True),
    }
    zone: Zone = {**addresses, ("a.example", Kind.MX): mx((10, "mx1.example"), is_authentic=True)}
    assert hosts(zone)[0].is_authentic
    assert not hosts({**zone, ("a.example", Kind.MX): mx((10, "mx1.example"))})[0].is_authentic
    assert not hosts({**zone, ("mx1.example", Kind.A): at("192.0.2.1")})[0].is_authentic
