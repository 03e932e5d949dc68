"""ban: who may not log in for a while, and how to end that."""

import time
from dataclasses import asdict

import click

from mailsrv.cli.context import Commands, Failed, Misused, as_json, enter, moment, print_json, print_table
from mailsrv.store.failed_logins import lift, read_bans


@click.group(cls=Commands)
def ban() -> None:
    """Bans: addresses that failed to log in too often."""


@ban.command("list")
@as_json
@click.pass_context
def list_bans(ctx: click.Context, is_json: bool) -> None:
    """List the bans."""
    bans = read_bans(enter(ctx).failed_logins, time.time())
    if is_json:
        print_json([asdict(each) for each in bans])
    else:
        rows = [[each.address, moment(each.until), str(each.failures)] for each in bans]
        print_table(["ADDRESS", "UNTIL", "FAILED LOGINS"], rows)


@ban.command("lift")
@click.argument("address")
@click.pass_context
def lift_ban(ctx: click.Context, address: str) -> None:
    """Lift the ban of ADDRESS, and forget its failed logins."""
    config = enter(ctx)
    try:
        was_banned = lift(config.failed_logins, address, time.time())
    except ValueError as error:
        raise Misused(f"{error}, not {address!r}") from error
    if not was_banned:
        raise Failed(f"{address} is not banned")
    click.echo(f"{address} may log in again")


COMMANDS = (ban,)
