"""What a domain needs is compared with a real nameserver, record by record."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.host.resolver import Resolver
from mailsrv.model.record import strings_of
from mailsrv.settings_outgoing import Records
from mailsrv.work.records import Compared, Verdict, Wanted, compare, sts_policy, wanted_for
from tests.nameserver import nameserver
from tests.work.instance import DOMAIN, make
from tests.work.signed import make_keys

ZONE = "a.example"
PURPOSES = ["MX", "MX", "SPF", "DKIM", "DKIM", "DMARC", "MTA-STS", "TLSRPT"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = replace(make(tmp_path), run_as="root", records=Records(mx=("one.a.example", "two.a.example")))
    make_keys(made)
    (made.dkim_keys / DOMAIN).rename(made.dkim_keys / ZONE)
    return made


def option_of(wanted: Wanted) -> str:
    """The record as dnsmasq takes it."""
    record = wanted.record
    if record.kind == "MX":
        preference, host = record.value.split()
        return f"mx-host={record.owner},{host},{preference}"
    return f"txt-record={record.owner},{','.join(strings_of(record.value))}"


def looked_up(wanted: list[Wanted], *options: str) -> list[Compared]:
    with nameserver(*options) as place:
        return compare(wanted, Resolver([place], 1, 2).ask)


def wrong(compared: list[Compared]) -> list[tuple[str, Verdict]]:
    return [(each.wanted.purpose, each.verdict) for each in compared if each.verdict is not Verdict.RIGHT]


def test_every_purpose_has_its_records(config: Config) -> None:
    wanted = wanted_for(config, ZONE)
    assert [each.purpose for each in wanted] == PURPOSES
    assert wrong(looked_up(wanted, *map(option_of, wanted), "txt-record=a.example,site=1")) == []


@pytest.mark.parametrize("number", range(len(PURPOSES)))
def test_a_record_that_is_not_there_is_missing(config: Config, number: int) -> None:
    wanted = wanted_for(config, ZONE)
    options = [option_of(each) for place, each in enumerate(wanted) if place != number]
    found = wrong(looked_up(wanted, *options))
    assert (PURPOSES[number], Verdict.MISSING) in found
    # Of two hosts, the other is not the only one that should be there.
    assert len(found) == (2 if PURPOSES[number] == "MX" else 1)


@pytest.mark.parametrize("number", range(2, len(PURPOSES)))
def test_a_text_that_says_something_else_differs(config: Config, number: int) -> None:
    wanted = wanted_for(config, ZONE)
    record = wanted[number].record
    changed = Wanted("", replace(record, value=f"{record.value}; x=1"))
    options = [option_of(changed if place == number else each) for place, each in enumerate(wanted)]
    compared = looked_up(wanted, *options)
    assert wrong(compared) == [(PURPOSES[number], Verdict.DIFFERS)]
    assert compared[number].found == (f"{record.value}; x=1",)


def _more_hosts(options: list[str]) -> list[str]:
    return [*options, "mx-host=a.example,three.a.example,5"]


def _two_policies(options: list[str]) -> list[str]:
    return [*options, "txt-record=a.example,v=spf1 -all"]


@pytest.mark.parametrize(("change", "purpose"), [(_more_hosts, "MX"), (_two_policies, "SPF")])
def test_one_too_many_differs(config: Config, change: Callable[[list[str]], list[str]], purpose: str) -> None:
    wanted = wanted_for(config, ZONE)
    found = wrong(looked_up(wanted, *change([option_of(each) for each in wanted])))
    assert set(found) == {(purpose, Verdict.DIFFERS)}


def test_spaces_the_order_of_tags_and_of_preferences_say_nothing(config: Config) -> None:
    wanted = wanted_for(config, ZONE)
    options = [option_of(each).replace("p=quarantine; rua=", "rua=").replace(",10", ",7") for each in wanted]
    options = [each.replace("@a.example", "@a.example ;p=quarantine;") if "DMARC" in each else each for each in options]
    assert wrong(looked_up(wanted, *options)) == []


def test_another_policy_has_another_id_and_none_has_no_record(config: Config) -> None:
    texts = set()
    for mode in ("testing", "enforce", "none"):
        changed = replace(config, records=replace(config.records, mta_sts=mode))
        texts |= {each.record.value for each in wanted_for(changed, ZONE) if each.purpose == "MTA-STS"}
        assert f"mode: {mode}\r\nmx: one.a.example\r\n" in sts_policy(changed)
    assert len(texts) == 2


def test_a_dns_that_does_not_answer_is_no_verdict(config: Config) -> None:
    compared = compare(wanted_for(config, ZONE), Resolver(["127.0.0.1:1"], 0.1, 0.1).ask)
    assert {each.verdict for each in compared} == {Verdict.UNKNOWN}
