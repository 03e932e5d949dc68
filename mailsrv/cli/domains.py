"""dns: what a domain needs in the DNS."""

import click

from mailsrv.cli.context import NOT_WELL, as_json, enter, expect_domain_of_ours, plain, print_json
from mailsrv.model.address import Mailbox
from mailsrv.model.international import domain_key
from mailsrv.work import records
from mailsrv.work.records import Compared, Verdict, Wanted


@click.command("dns")
@click.argument("domain")
@click.option("--check", is_flag=True, help="Compare with the DNS; 1 is the exit code where anything is not right.")
@as_json
@click.pass_context
def dns(ctx: click.Context, domain: str, check: bool, is_json: bool) -> None:
    """Print the records that DOMAIN needs in the DNS, as lines of a zone file."""
    config = enter(ctx)
    expect_domain_of_ours(config, Mailbox("postmaster", domain))
    domain = domain_key(domain)
    wanted = records.wanted_for(config, domain)
    if check:
        compared = records.compare(wanted, records.resolver_of(config).ask)
        _print_compared(compared, is_json=is_json)
        ctx.exit(0 if all(each.verdict is Verdict.RIGHT for each in compared) else NOT_WELL)
    if is_json:
        print_json([_document(each) for each in wanted])
        return
    for each in wanted:
        click.echo(each.record.line)
    if config.relay.smarthosts and config.records.spf == type(config.records)().spf:
        click.echo("; SPF: a smarthost sends the mail; put what its provider says of SPF into spf in [records]")
    if any(each.purpose == "MTA-STS" for each in wanted):
        click.echo(f"; MTA-STS: a web server has to give this at https://mta-sts.{domain}/.well-known/mta-sts.txt")
        for line in records.sts_policy(config).splitlines():
            click.echo(f";   {line}")
    if not any(each.purpose == "DKIM" for each in wanted):
        click.echo(f"; DKIM: `mailsrv dkim create {domain}` makes the keys")


def _print_compared(compared: list[Compared], *, is_json: bool) -> None:
    if is_json:
        print_json([{**_document(each.wanted), "verdict": each.verdict, "found": each.found} for each in compared])
        return
    for each in compared:
        record = each.wanted.record
        click.echo(f"{each.verdict:8} {each.wanted.purpose:8} {record.owner}")
        if each.verdict is not Verdict.RIGHT:
            click.echo(f"         wanted: {record.line}")
            for text in each.found:
                click.echo(f"         found:  {plain(text)}")


def _document(wanted: Wanted) -> dict[str, object]:
    record = wanted.record
    return {
        "purpose": wanted.purpose,
        "owner": record.owner,
        "kind": record.kind,
        "value": record.value,
        "line": record.line,
    }


COMMANDS = (dns,)
