"""relay: where mail for elsewhere is sent."""

import sys
from dataclasses import replace

import click

from mailsrv import config as configuration
from mailsrv.cli.context import Commands, Misused, as_json, enter, print_json
from mailsrv.config import Config
from mailsrv.settings_relay import RELAY_TLS
from mailsrv.store.durable import write_file
from mailsrv.values import is_host_and_port
from mailsrv.work import instance
from mailsrv.work.routes import read_password, smarthost_of

_RESTART = "`mailsrv restart relay` has it used"


@click.group(cls=Commands)
def relay() -> None:
    """The relay: where mail for elsewhere is sent, and how."""


@relay.command("smarthost")
@click.argument("hosts", metavar="HOST:PORT...", nargs=-1, required=True)
@click.option("--tls", type=click.Choice(RELAY_TLS), default="opportunistic", show_default=True, help="How to encrypt.")
@click.option("--user", default="", help="The name to log in with.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--ca-file", default="", help="Certificates to trust, in place of the system's.")
@click.pass_context
def set_smarthost(
    ctx: click.Context, hosts: tuple[str, ...], tls: str, user: str, password_stdin: bool, ca_file: str
) -> None:
    """Send all mail for elsewhere to HOST:PORT; of several, to the next where one cannot be reached."""
    config = enter(ctx)
    for host in hosts:
        if not is_host_and_port(host):
            raise Misused(f"{host}: expected HOST:PORT, such as smtp.example.net:587")
    if password_stdin and not user:
        raise Misused("a password is of no use without --user")
    if user:
        password = sys.stdin.readline().rstrip("\r\n") if password_stdin else click.prompt("Password", hide_input=True)
        if not password:
            raise Misused("expected a password on standard input")
        write_file(config.relay_password, f"{password}\n".encode())
        instance.hand_over(config, config.relay_password)
    _write(config, {"smarthosts": hosts, "tls": tls, "user": user, "ca_file": ca_file})
    click.echo(f"mail for elsewhere goes to {', '.join(hosts)}; {_RESTART}")


@relay.command("off")
@click.pass_context
def set_off(ctx: click.Context) -> None:
    """Send nothing on: mail for elsewhere waits in spool/remote/."""
    config = enter(ctx)
    _write(config, {"smarthosts": ()})
    click.echo(f"mail for elsewhere waits; {_RESTART}")


@relay.command("show")
@as_json
@click.pass_context
def show(ctx: click.Context, is_json: bool) -> None:
    """Show where mail for elsewhere is sent."""
    config = enter(ctx)
    settings = config.relay
    if is_json:
        print_json({"smarthosts": settings.smarthosts, "tls": settings.tls, "user": settings.user})
        return
    route = smarthost_of(replace(config, relay=replace(settings, user="")))
    if route is None:
        click.echo("mail for elsewhere waits in var/spool/remote/; `mailsrv relay smarthost HOST:PORT` sends it on")
        return
    click.echo(f"mail for elsewhere goes to {route}")
    click.echo(f"TLS: {settings.tls}{f', trusting {settings.ca_file}' if settings.ca_file else ''}")
    if settings.user:
        has_password = bool(read_password(config.relay_password))
        click.echo(f"login: {settings.user}, the password {'in' if has_password else 'missing in'} var/relay.password")


def _write(config: Config, values: dict[str, object]) -> None:
    """Change settings in `mailsrv.toml`; raises Mistake where the result would not be usable."""
    text = configuration.edited(config.path.read_text("utf-8"), "relay", values)
    configuration.parse(config.root, text)
    mode = config.path.stat().st_mode & 0o777
    write_file(config.path, text.encode())
    config.path.chmod(mode)


COMMANDS = (relay,)
