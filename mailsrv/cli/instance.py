"""init, up, down: an instance made, started, ended."""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from mailsrv import config as configuration
from mailsrv.cli.context import Failed, Misused, enter, enter_anyway
from mailsrv.config import PORT_OFFSETS, Config
from mailsrv.host.supervisor import Supervisor, SupervisorError
from mailsrv.settings import Listen
from mailsrv.work import checks, outlook
from mailsrv.work import instance as work
from mailsrv.work.routing import Directory

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 40.0
POLL_SECONDS: Final = 0.1

_PORT_BASE_HELP: Final = (
    ", ".join(f"{name} N+{offset}" for name, offset in PORT_OFFSETS.items()).replace("+0", "") + "."
)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", "domains", multiple=True, help="A domain whose mailboxes are here; may be repeated.")
@click.option("--hostname", help="What the server calls itself [default: this machine's name].")
@click.option("--bind", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port-base", type=click.IntRange(1, 65531), help=_PORT_BASE_HELP)
@click.option("--standard-ports", is_flag=True, help="25, 587, 465, 110 and 995; takes root to start.")
@click.option("--run-as", default="mailsrv", show_default=True, help="The user to become when started by root.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Of smtp, and of pop3.")
@click.option("--systemd", is_flag=True, help="Write DIR/mailsrv.service as well, a hardened unit.")
def init(
    folder: Path,
    domains: tuple[str, ...],
    hostname: str | None,
    bind: str,
    port_base: int | None,
    standard_ports: bool,
    run_as: str,
    processes: int,
    systemd: bool,
) -> None:
    """Make a new instance in DIR.

    It is complete: configuration, supervisord.conf, TLS pair, folders, a first account.
    """
    if (folder / configuration.FILE_NAME).exists():
        raise Misused(f"{folder} is an instance already; `mailsrv --root {folder} up` starts it")
    if port_base and standard_ports:
        raise click.UsageError("--port-base and --standard-ports exclude each other")
    listen = Listen(address=bind, **_ports(port_base, standard_ports))
    domains = domains or ("localhost",)
    wanted = Config(
        root=folder,
        domains=domains,
        hostname=hostname or (socket.getfqdn() if domains != ("localhost",) else "localhost"),
        run_as=run_as,
        listen=listen,
    )
    configuration.parse(folder, configuration.render(wanted))  # before anything is made
    made = work.write_settings(wanted, processes)
    os.chdir(folder)
    config = configuration.load(Path())
    more, password = work.complete(config)
    more += work.write_unit(config) if systemd else []
    for each in (*made, *more):
        click.echo(f"made {each}")
    _tell_password(config, password)
    click.echo(f"start it: mailsrv --root {folder} up")


@click.command()
@click.option("--detach", is_flag=True, help="In the background.")
@click.pass_context
def up(ctx: click.Context, detach: bool) -> None:
    """Start everything.

    What is missing is made first; what is there is never changed.
    """
    config = enter(ctx)
    made = work.write_settings(config)
    more, password = work.complete(config)
    more += work.add_probe(config)
    for each in (*made, *more):
        click.echo(f"made {each}")
    for mistake in Directory(config).mistakes():
        click.echo(f"PROBLEM {mistake}", err=True)
    if _is_running(config):
        click.echo("mailsrv is running already")
        _tell(config, password)
        return
    for finding in (*checks.taken_ports(config), *checks.lmtp(config)):
        if not finding.is_good:
            raise Failed(f"{finding.subject}: {finding.detail}: {finding.problem}")
    command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(config.supervisord_conf.absolute())]
    if not detach:
        _tell(config, password)
        click.echo("Ctrl-C stops it.")
        sys.stdout.flush()
        os.execv(command[0], [*command, "--nodaemon", "--silent"])
    _start_in_background(config, command)
    _tell(config, password)


@click.command()
@click.pass_context
def down(ctx: click.Context) -> None:
    """End all programs and supervisord."""
    config = enter_anyway(ctx)
    supervisor = Supervisor(config.supervisor_socket)
    if not _is_running(config):
        click.echo("mailsrv is not running")
        return
    supervisor.shut_down()
    deadline = time.monotonic() + STOP_SECONDS
    while _is_running(config) or config.supervisor_pid.exists():
        if time.monotonic() > deadline:
            raise Failed(f"mailsrv has not ended within {STOP_SECONDS:.0f} s; see var/log/supervisord.log")
        time.sleep(POLL_SECONDS)
    click.echo("mailsrv has ended")


def _ports(base: int | None, standard: bool) -> dict[str, Any]:
    if base:
        return {name: base + offset for name, offset in PORT_OFFSETS.items()}
    return dict(configuration.STANDARD_PORTS) if standard else {}


def _is_running(config: Config) -> bool:
    try:
        Supervisor(config.supervisor_socket).pid()
    except SupervisorError as error:
        if isinstance(error.__cause__, PermissionError):  # it may well run, but for somebody else
            raise
        return False
    return True


def _start_in_background(config: Config, command: list[str]) -> None:
    if os.spawnv(os.P_WAIT, command[0], command) != 0:
        raise Failed("supervisord could not be started; see var/log/supervisord.log")
    deadline = time.monotonic() + START_SECONDS
    late = ["supervisord"]
    while late and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        # Running, to supervisord, is to have lived for a second; a heartbeat tells that it listens as well.
        programs = outlook.look(config).programs
        late = [each.name for each in programs if not _is_ready(each, config)] if programs else late
    if not late:
        return
    raise Failed(f"not running after {START_SECONDS:.0f} s: {', '.join(late)}{_last_words(config, late)}")


def _is_ready(program: outlook.Program, config: Config) -> bool:
    """Whether it does its work; `health` does when it keeps every listening socket."""
    kept = program.facts.get("sockets")
    keeps_all = not isinstance(kept, list) or len(kept) == len(config.ports()) + bool(config.listen.lmtp)
    return program.is_up and program.beat_age is not None and keeps_all


def _last_words(config: Config, programs: list[str]) -> str:
    """The last line that each program wrote into its log."""
    words = ""
    for name in programs:
        path = config.log / f"{name}.log"
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        words += f"\n  {lines[-1]}" if lines else ""
    return words


def _tell(config: Config, password: str | None) -> None:
    """What listens where, and the first steps."""
    address, ports = config.listen.address, config.ports()
    here = "127.0.0.1" if address == "0.0.0.0" else address
    user = f"{work.FIRST_USER}@{config.domains[0]}"
    click.echo("mailsrv listens:")
    for name, port in ports.items():
        click.echo(f"  {name:11} {address}:{port}")
    if config.listen.lmtp:
        click.echo(f"  lmtp        {config.listen.lmtp}")
    _tell_password(config, password)
    click.echo("send a message:")
    click.echo(f"  curl smtp://{here}:{ports.get('smtp')} --mail-rcpt {user} --upload-file message.eml")
    click.echo("  or drop it:  cp message.eml var/spool/")
    click.echo("read it:")
    click.echo(f"  curl pop3://{here}:{ports.get('pop3')}/1 --user {user}:PASSWORD")


def _tell_password(config: Config, password: str | None) -> None:
    if password is not None:
        user = f"{work.FIRST_USER}@{config.domains[0]}"
        click.echo(f"the password of {user}, told only this once: {password}")


COMMANDS = (init, up, down)
