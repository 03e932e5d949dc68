"""quota and away: how full mailboxes may be, and who has mail answered."""

import sys
from datetime import date
from pathlib import Path

import click

from mailsrv.cli.context import (
    Commands,
    Failed,
    as_json,
    complete_address,
    enter,
    expect_domain_of_ours,
    print_json,
    print_table,
)
from mailsrv.config import Config
from mailsrv.model.address import Mailbox
from mailsrv.store.accounts import parse_account_address, parse_accounts
from mailsrv.store.away import DEFAULT_DAYS, MAX_DAYS, Away, parse_away, render_away
from mailsrv.store.durable import write_file
from mailsrv.store.lines import parse_address_or_domain, read_text
from mailsrv.store.quotas import parse_quotas
from mailsrv.work import instance
from mailsrv.work.quota import Gauge
from mailsrv.work.routing import Directory


@click.group(cls=Commands)
def quota() -> None:
    """Quotas: how much may lie in a mailbox, and how much does."""


@quota.command("set")
@click.argument("address")
@click.option("--octets", help="Such as 500M or 2G; 0 is no limit.")
@click.option("--messages", help="A number; 0 is no limit.")
@click.pass_context
def set_quota(ctx: click.Context, address: str, octets: str | None, messages: str | None) -> None:
    """Set the quota of the account ADDRESS, or of @example.org, all accounts of a domain without one of their own."""
    config = enter(ctx)
    mailbox = _who(config, address)
    words = [f"{name}={value}" for name, value in (("octets", octets), ("messages", messages)) if value is not None]
    line = f"{mailbox} {' '.join(words)}"
    parse_quotas(config.quotas, line)
    parse_quotas(config.quotas, read_text(config.quotas))  # a broken file is told of before it is edited
    instance.edit(config, config.quotas, mailbox, line)
    click.echo(line)


@quota.command("remove")
@click.argument("address")
@click.pass_context
def remove_quota(ctx: click.Context, address: str) -> None:
    """Remove the quota of ADDRESS: then that of its domain counts, or that of mailsrv.toml."""
    config = enter(ctx)
    mailbox = complete_address(config, address, parse_address_or_domain)
    parse_quotas(config.quotas, read_text(config.quotas))
    if not instance.edit(config, config.quotas, mailbox, None):
        raise Failed(f"there is no quota of {mailbox}")
    click.echo(f"removed the quota of {mailbox}")


@quota.command("list")
@as_json
@click.pass_context
def list_quotas(ctx: click.Context, is_json: bool) -> None:
    """List the accounts, what lies in their mailboxes, and what may."""
    config = enter(ctx)
    directory = Directory(config)
    gauge = Gauge(directory, config.mail)
    found = []
    for account in parse_accounts(config.accounts, read_text(config.accounts)).values():
        limit, usage = directory.quota(account.mailbox), gauge.usage(account.mailbox)
        found.append((account.mailbox, usage, limit))
    if is_json:
        print_json(
            [
                {
                    "address": str(mailbox),
                    "octets": usage.octets,
                    "messages": usage.messages,
                    "max_octets": limit.octets,
                    "max_messages": limit.messages,
                }
                for mailbox, usage, limit in found
            ]
        )
        return
    rows = [
        [
            str(mailbox),
            f"{usage.octets} of {limit.octets or 'any'}",
            f"{usage.messages} of {limit.messages or 'any'}",
            f"{usage.share_of(limit):.0%}" if limit else "",
        ]
        for mailbox, usage, limit in found
    ]
    print_table(["ADDRESS", "OCTETS", "MESSAGES", "FULL"], rows)


def _who(config: Config, address: str) -> Mailbox:
    """An account that is there, or a domain of ours."""
    mailbox = complete_address(config, address, parse_address_or_domain)
    expect_domain_of_ours(config, mailbox)
    if not mailbox.local_part:
        return mailbox
    return _account(config, address)


def _account(config: Config, address: str) -> Mailbox:
    mailbox = complete_address(config, address, parse_account_address)
    account = parse_accounts(config.accounts, read_text(config.accounts)).get(mailbox.key)
    if account is None:
        raise Failed(f"there is no account {mailbox}")
    return account.mailbox


@click.group(cls=Commands)
def away() -> None:
    """Who is away, and has mail answered."""


@away.command("set")
@click.argument("address")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
@click.option("--subject", default="", help="The subject of the answer; else that of the message, after Auto:.")
@click.option("--from", "since", help="The first day, such as 2026-12-01; else at once.")
@click.option("--until", help="The last day; else until `mailsrv away end`.")
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    default=DEFAULT_DAYS,
    show_default=True,
    help="Between answers to one sender.",
)
@click.pass_context
def set_away(
    ctx: click.Context, address: str, file: Path, subject: str, since: str | None, until: str | None, days: int
) -> None:
    """Have mail for the account ADDRESS answered with the text in FILE, - being standard input."""
    text = sys.stdin.read() if str(file) == "-" else read_text(file.absolute())
    config = enter(ctx)
    mailbox = _account(config, address)
    path = config.away / mailbox.key
    content = render_away(Away(text, subject, _day(since), _day(until), days))
    parse_away(path, content)
    instance.make_away_folder(config)
    write_file(path, content.encode())
    instance.hand_over(config, path)
    click.echo(f"mail for {mailbox} is answered")


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise click.BadParameter(f"expected a day such as 2026-12-01, not {text!r}") from error


@away.command("end")
@click.argument("address")
@click.pass_context
def end_away(ctx: click.Context, address: str) -> None:
    """Answer mail for the account ADDRESS no longer."""
    config = enter(ctx)
    mailbox = complete_address(config, address, parse_account_address)
    path = config.away / mailbox.key
    if not path.exists():
        raise Failed(f"{mailbox} is not away")
    path.unlink()
    click.echo(f"mail for {mailbox} is no longer answered")


@away.command("list")
@as_json
@click.pass_context
def list_away(ctx: click.Context, is_json: bool) -> None:
    """List who is away."""
    config = enter(ctx)
    paths = sorted(path for path in config.away.glob("[!.]*@*") if path.is_file()) if config.away.is_dir() else []
    found = [(path.name, parse_away(path, read_text(path))) for path in paths]
    if is_json:
        print_json(
            [
                {
                    "address": name,
                    "subject": each.subject,
                    "from": each.since and each.since.isoformat(),
                    "until": each.until and each.until.isoformat(),
                    "days": each.days,
                    "text": each.text,
                }
                for name, each in found
            ]
        )
        return
    rows = [
        [name, str(each.since or ""), str(each.until or ""), each.subject, each.text.splitlines()[0]]
        for name, each in found
    ]
    print_table(["ADDRESS", "FROM", "UNTIL", "SUBJECT", "TEXT"], rows)


COMMANDS = (quota, away)
