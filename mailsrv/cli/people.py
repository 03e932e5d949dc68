"""user and alias: who has a mailbox here, and which addresses lead where."""

import sys

import click

from mailsrv.cli.context import (
    Commands,
    Failed,
    as_json,
    complete_address,
    enter,
    expect_domain_of_ours,
    expect_no_loop,
    print_json,
    print_table,
)
from mailsrv.config import Config
from mailsrv.model.address import Mailbox, parse_mailbox
from mailsrv.store.accounts import Accounts, Aliases, parse_account_address, parse_accounts, parse_aliases
from mailsrv.store.lines import parse_address_or_domain, read_text
from mailsrv.work import instance

_password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group(cls=Commands)
def user() -> None:
    """Accounts: who has a mailbox here."""


@user.command("add")
@click.argument("address")
@_password_stdin
@click.pass_context
def add_user(ctx: click.Context, address: str, password_stdin: bool) -> None:
    """Add the account ADDRESS, a name alone being one of the first domain."""
    config = enter(ctx)
    mailbox = complete_address(config, address, parse_account_address)
    expect_domain_of_ours(config, mailbox)
    if mailbox.key in _accounts(config):
        raise Failed(f"{mailbox} is there already; `mailsrv user passwd` changes the password")
    instance.add_account(config, mailbox, _read_password(password_stdin))
    click.echo(f"added {mailbox}")


@user.command("passwd")
@click.argument("address")
@_password_stdin
@click.pass_context
def change_password(ctx: click.Context, address: str, password_stdin: bool) -> None:
    """Change the password of ADDRESS."""
    config = enter(ctx)
    mailbox = _existing(config, address)
    instance.add_account(config, mailbox, _read_password(password_stdin))
    click.echo(f"changed the password of {mailbox}")


@user.command("remove")
@click.argument("address")
@click.pass_context
def remove_user(ctx: click.Context, address: str) -> None:
    """Remove the account ADDRESS; its mailbox stays on disk."""
    config = enter(ctx)
    mailbox = _existing(config, address)
    instance.edit(config, config.accounts, mailbox, None)
    click.echo(f"removed {mailbox}; its mail is still in {config.mail}")


@user.command("list")
@as_json
@click.pass_context
def list_users(ctx: click.Context, is_json: bool) -> None:
    """List the accounts."""
    accounts = _accounts(enter(ctx))
    addresses = [str(account.mailbox) for account in accounts.values()]
    if is_json:
        print_json([{"address": address} for address in addresses])
    else:
        print_table(["ADDRESS"], [[address] for address in addresses])


@click.group(cls=Commands)
def alias() -> None:
    """Aliases: addresses that lead to others."""


@alias.command("add")
@click.argument("address")
@click.argument("targets", nargs=-1, required=True)
@click.option("--keep", is_flag=True, help="ADDRESS is an account, which keeps a copy of what is sent on.")
@click.pass_context
def add_alias(ctx: click.Context, address: str, targets: tuple[str, ...], keep: bool) -> None:
    """Have ADDRESS lead to TARGETS, in place of what it led to before.

    An account's own ADDRESS is so sent on; @example.org stands for everybody else in that domain.
    """
    config = enter(ctx)
    mailbox = complete_address(config, address, parse_address_or_domain)
    expect_domain_of_ours(config, mailbox)
    _aliases(config)  # a broken file is told of before it is edited
    goals = tuple(complete_address(config, target, parse_mailbox) for target in targets)
    if keep:
        goals = (_existing(config, address), *goals)
    expect_no_loop(config, mailbox, goals)
    words = ", ".join(map(str, goals))
    instance.edit(config, config.aliases, mailbox, f"{mailbox}: {words}")
    click.echo(f"{mailbox} leads to {words}")


@alias.command("remove")
@click.argument("address")
@click.pass_context
def remove_alias(ctx: click.Context, address: str) -> None:
    """Remove the alias ADDRESS."""
    config = enter(ctx)
    mailbox = complete_address(config, address, parse_address_or_domain)
    _aliases(config)
    if not instance.edit(config, config.aliases, mailbox, None):
        raise Failed(f"there is no alias {mailbox}")
    click.echo(f"removed {mailbox}")


@alias.command("list")
@as_json
@click.pass_context
def list_aliases(ctx: click.Context, is_json: bool) -> None:
    """List the aliases."""
    aliases = _aliases(enter(ctx))
    if is_json:
        print_json([{"address": key, "targets": [str(each) for each in goals]} for key, goals in aliases.items()])
    else:
        print_table(["ADDRESS", "LEADS TO"], [[key, ", ".join(map(str, goals))] for key, goals in aliases.items()])


def _accounts(config: Config) -> Accounts:
    return parse_accounts(config.accounts, read_text(config.accounts))


def _aliases(config: Config) -> Aliases:
    return parse_aliases(config.aliases, read_text(config.aliases))


def _existing(config: Config, address: str) -> Mailbox:
    mailbox = complete_address(config, address, parse_account_address)
    account = _accounts(config).get(mailbox.key)
    if account is None:
        raise Failed(f"there is no account {mailbox}")
    return account.mailbox


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        try:
            password = sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise Failed("expected a password in UTF-8") from error
    else:
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    if not password:
        raise Failed("expected a password that is not empty")
    return password


COMMANDS = (user, alias)
