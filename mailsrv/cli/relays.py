"""relay: where mail for elsewhere is sent."""

import sys
from pathlib import Path

import click

from mailsrv import config as configuration
from mailsrv.cli.context import Commands, Failed, Misused, as_json, enter, print_json
from mailsrv.config import Config
from mailsrv.settings_relay import BY_MX, RELAY_TLS, USER, parse_route
from mailsrv.store.durable import write_file
from mailsrv.toml_text import edited
from mailsrv.values import is_domain, is_host_and_port
from mailsrv.work import instance
from mailsrv.work.routes import pattern_key, read_password

MX_TLS = tuple(each for each in RELAY_TLS if each != "tls")  # hosts by MX listen in the clear
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
    _write_password(config, config.relay_password, user, password_stdin)
    _write(config, {"smarthosts": hosts, "mx": False, "tls": tls, "user": user, "ca_file": ca_file})
    click.echo(f"mail for elsewhere goes to {', '.join(hosts)}; {_RESTART}")


@relay.command("mx")
@click.option("--tls", type=click.Choice(MX_TLS), default="opportunistic", show_default=True, help="How to encrypt.")
@click.pass_context
def set_mx(ctx: click.Context, tls: str) -> None:
    """Send mail for elsewhere to the hosts that each domain's MX records name."""
    config = enter(ctx)
    _write(config, {"smarthosts": (), "mx": True, "tls": tls, "user": "", "ca_file": ""})
    click.echo(f"mail for elsewhere goes to the hosts of its domains; {_RESTART}")


@relay.command("route")
@click.argument("domain")
@click.argument("hosts", metavar="HOST:PORT...|mx", nargs=-1)
@click.option("--tls", type=click.Choice(RELAY_TLS), help="How to encrypt; else as [relay] says for all.")
@click.option("--user", default="", help="The name to log in with.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--remove", is_flag=True, help="Send it the way of all others again.")
@click.pass_context
def set_route(
    ctx: click.Context,
    domain: str,
    hosts: tuple[str, ...],
    tls: str | None,
    user: str,
    password_stdin: bool,
    remove: bool,
) -> None:
    """Send mail for DOMAIN, or with .DOMAIN for all domains below it, to HOST:PORT or by MX."""
    config = enter(ctx)
    if not is_domain(domain.removeprefix(".")) or domain.startswith(".["):
        raise Misused(f"{domain}: expected a domain, or a full stop and a domain")
    if remove == bool(hosts):
        raise Misused(f"expected HOST:PORT or {BY_MX}, or else --remove")
    known = {pattern_key(pattern): pattern for pattern, _ in config.relay.routes}
    key = pattern_key(domain)
    if remove:
        if key not in known:
            raise Failed(f"there is no route for {domain}")
        _write(config, {f'"{known[key]}"': None}, "relay.routes")
        config.route_password(key).unlink(missing_ok=True)
        click.echo(f"{domain} has no route of its own; {_RESTART}")
        return
    try:
        route = parse_route(" ".join([*hosts, *([tls] if tls else []), *([f"{USER}{user}"] if user else [])]))
    except ValueError as error:
        raise Misused(str(error)) from error
    _write_password(config, config.route_password(key), user, password_stdin)
    _write(config, {f'"{known.get(key, domain)}"': str(route)}, "relay.routes")
    click.echo(f"mail for {domain} goes by {route}; {_RESTART}")


@relay.command("off")
@click.pass_context
def set_off(ctx: click.Context) -> None:
    """Send nothing on but what has a route of its own: other mail for elsewhere waits in spool/remote/."""
    config = enter(ctx)
    _write(config, {"smarthosts": (), "mx": False})
    click.echo(f"mail for elsewhere waits; {_RESTART}")


@relay.command("show")
@as_json
@click.pass_context
def show(ctx: click.Context, is_json: bool) -> None:
    """Show where mail for elsewhere is sent."""
    config = enter(ctx)
    settings = config.relay
    if is_json:
        facts = {name: getattr(settings, name) for name in ("smarthosts", "mx", "tls", "user")}
        print_json({**facts, "routes": dict(settings.routes)})
        return
    for pattern, text in settings.routes:
        click.echo(f"mail for {pattern} goes by {text}")
    which = "other mail" if settings.routes else "mail"
    if not settings.smarthosts and not settings.mx:
        ways = "`mailsrv relay smarthost HOST:PORT` sends it on, `mailsrv relay mx` to the hosts of its domains"
        click.echo(f"{which} for elsewhere waits in var/spool/remote/; {ways}")
        return
    hosts = ", ".join(settings.smarthosts) or "the hosts that MX records name"
    click.echo(f"{which} for elsewhere goes to {hosts}")
    click.echo(f"TLS: {settings.tls}{f', trusting {settings.ca_file}' if settings.ca_file else ''}")
    if settings.user and settings.smarthosts:
        has_password = bool(read_password(config.relay_password))
        click.echo(f"login: {settings.user}, the password {'in' if has_password else 'missing in'} var/relay.password")


def _write_password(config: Config, path: Path, user: str, is_on_stdin: bool) -> None:
    """Ask for the password of a user, if there is one, and keep it."""
    if not user:
        if is_on_stdin:
            raise Misused("a password is of no use without --user")
        return
    password = sys.stdin.readline().rstrip("\r\n") if is_on_stdin else click.prompt("Password", hide_input=True)
    if not password:
        raise Misused("expected a password on standard input")
    write_file(path, f"{password}\n".encode())
    instance.hand_over(config, path)


def _write(config: Config, values: dict[str, object], table: str = "relay") -> None:
    """Change settings in `mailsrv.toml`; raises Mistake where the result would not be usable."""
    text = edited(config.path.read_text("utf-8"), table, values)
    configuration.parse(config.root, text)
    mode = config.path.stat().st_mode & 0o777
    write_file(config.path, text.encode())
    config.path.chmod(mode)


COMMANDS = (relay,)
