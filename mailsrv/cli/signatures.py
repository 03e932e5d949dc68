"""dkim: the keys that sign mail for elsewhere."""

from collections.abc import Sequence

import click

from mailsrv.cli.context import Commands, Failed, as_json, enter, expect_domain_of_ours, print_json, print_table
from mailsrv.config import Config
from mailsrv.host.signing import Algorithm
from mailsrv.model.address import Mailbox
from mailsrv.model.international import domain_key
from mailsrv.store import signing_keys
from mailsrv.store.signing_keys import Stage
from mailsrv.work import instance, keyring, records
from mailsrv.work.keyring import Key, KeysError
from mailsrv.work.records import Verdict, Wanted

_KINDS = {"both": tuple(Algorithm), **{each.value: (each,) for each in Algorithm}}
_DOING = {
    Stage.SIGNS: "signs",
    Stage.NEXT: "waits to be activated",
    Stage.RETIRED: "signs no more",
}

_kind = click.option(
    "--algorithm", type=click.Choice(list(_KINDS)), default="both", show_default=True, help="The kind of the keys."
)
_name = click.option(
    "--selector", "name", default="", help="What the selectors begin with; else the date of today. Kinds are added."
)


class _KeyCommands(Commands):
    """A group whose commands tell what cannot be done with the keys."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeysError as error:
            raise Failed(str(error)) from error


@click.group(cls=_KeyCommands)
def dkim() -> None:
    """The keys that sign mail for elsewhere (DKIM)."""


@dkim.command("create")
@click.argument("domain")
@_kind
@_name
@click.pass_context
def create(ctx: click.Context, domain: str, algorithm: str, name: str) -> None:
    """Make the first keys of DOMAIN, which sign at once, and print their records for the DNS."""
    config, domain = _enter(ctx, domain)
    if any(each.stage is Stage.SIGNS for each in signing_keys.key_files(config.dkim_keys, domain)):
        raise Failed(f"{domain} has keys already; `mailsrv dkim rotate {domain}` makes the next ones")
    _print_records(_make(config, domain, name, algorithm))
    click.echo(f"; publish these records: from now on mail from {domain} is signed, and is verified by them")


@dkim.command("rotate")
@click.argument("domain")
@_kind
@_name
@click.pass_context
def rotate(ctx: click.Context, domain: str, algorithm: str, name: str) -> None:
    """Make the next keys of DOMAIN, which wait until they are activated, and print their records for the DNS."""
    config, domain = _enter(ctx, domain)
    if not any(each.stage is Stage.SIGNS for each in signing_keys.key_files(config.dkim_keys, domain)):
        raise Failed(f"{domain} has no keys that sign; `mailsrv dkim create {domain}` makes them")
    _print_records(_make(config, domain, name, algorithm))
    click.echo(f"; publish these records; once they can be seen, `mailsrv dkim activate {domain}` has the keys sign")


@dkim.command("activate")
@click.argument("domain")
@click.option("--unchecked", is_flag=True, help="Do not look for their records in the DNS first.")
@click.pass_context
def activate(ctx: click.Context, domain: str, unchecked: bool) -> None:
    """Have the keys of DOMAIN that wait sign, from now on and in place of those that did, if the DNS has them."""
    config, domain = _enter(ctx, domain)
    waiting = [each for each in keyring.keys_of(config, domain) if each.file.stage is Stage.NEXT]
    wanted = [] if unchecked else [Wanted("DKIM", records.record_of(each)) for each in waiting]
    for each in records.compare(wanted, records.resolver_of(config).ask):
        if each.verdict is not Verdict.RIGHT:
            raise Failed(f"{each.wanted.record.owner} in the DNS: {each.verdict}; publish it first, or say --unchecked")
    for key in keyring.activate(config, domain):
        click.echo(f"{key.file.selector} {_DOING[key.file.stage]}")
    click.echo("leave the records of retired keys in the DNS for a week: mail that they have signed is under way")


@dkim.command("retire")
@click.argument("domain")
@click.argument("selector")
@click.pass_context
def retire(ctx: click.Context, domain: str, selector: str) -> None:
    """Have the key with SELECTOR sign no more; its record should stay in the DNS for a week."""
    config, domain = _enter(ctx, domain)
    keyring.retire(config, domain, selector)
    click.echo(f"{selector} of {domain} signs no more; `mailsrv dkim remove {domain} {selector}` removes it for good")


@dkim.command("remove")
@click.argument("domain")
@click.argument("selector")
@click.pass_context
def remove(ctx: click.Context, domain: str, selector: str) -> None:
    """Remove a key that does not sign, for good."""
    config, domain = _enter(ctx, domain)
    keyring.remove(config, domain, selector)
    click.echo(f"{selector} of {domain} is removed; its record in the DNS is of no more use")


@dkim.command("list")
@as_json
@click.pass_context
def list_keys(ctx: click.Context, is_json: bool) -> None:
    """List all keys of all domains."""
    config = enter(ctx)
    ring = keyring.Keyring(config.dkim_keys)
    broken = ring.mistakes()
    keys = [ring.key(file) for file in ring.files() if file.path not in broken]
    if is_json:
        print_json([_document(each) for each in keys])
    else:
        rows = [(k.file.domain, k.file.selector, k.key.algorithm.value, _DOING[k.file.stage]) for k in keys]
        print_table(("domain", "selector", "algorithm", ""), rows)
    if broken:
        raise Failed("; ".join(map(str, broken.values())))


@dkim.command("show")
@click.argument("domain")
@as_json
@click.pass_context
def show(ctx: click.Context, domain: str, is_json: bool) -> None:
    """Print the records of all keys of DOMAIN, for the DNS."""
    config, domain = _enter(ctx, domain)
    keys = keyring.keys_of(config, domain)
    if is_json:
        print_json([_document(each) for each in keys])
        return
    if not keys:
        raise Failed(f"{domain} has no keys; `mailsrv dkim create {domain}` makes them")
    _print_records(keys)


def _enter(ctx: click.Context, domain: str) -> tuple[Config, str]:
    """The instance, and the domain in A-labels; raises Failed where it is none of ours."""
    config = enter(ctx)
    expect_domain_of_ours(config, Mailbox("postmaster", domain))
    return config, domain_key(domain)


def _make(config: Config, domain: str, name: str, algorithm: str) -> list[Key]:
    instance.make_own_folder(config, config.dkim_keys)
    return keyring.make(config, domain, name, _KINDS[algorithm])


def _print_records(keys: Sequence[Key]) -> None:
    for each in keys:
        click.echo(records.record_of(each).line)


def _document(key: Key) -> dict[str, str]:
    return {
        "domain": key.file.domain,
        "selector": key.file.selector,
        "algorithm": key.key.algorithm.value,
        "stage": key.file.stage.name.lower(),
        "owner": key.owner,
        "record": key.record,
    }


COMMANDS = (dkim,)
