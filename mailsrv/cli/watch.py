"""status, check, restart: how the instance is."""

from dataclasses import asdict
from pathlib import Path

import click

from mailsrv.cli.context import NOT_WELL, as_json, enter, enter_anyway, moment, print_json, print_table
from mailsrv.host.supervisor import STOP_TIMEOUT, ProcessState, Supervisor
from mailsrv.model.mistake import Mistake
from mailsrv.model.program import processes_of
from mailsrv.store import incidents
from mailsrv.work import checks, outlook


@click.command()
@as_json
@click.pass_context
def status(ctx: click.Context, is_json: bool) -> None:
    """Show the programs, the spool and what is wrong. Exit code 1: not well."""
    config = enter_anyway(ctx)
    seen = outlook.look(config)
    kept = len(incidents.read_all(config.incidents)) if config.incidents.is_dir() else 0
    if is_json:
        print_json(asdict(seen) | {"is_well": seen.is_well, "incidents": kept, "stopped": seen.stopped})
    else:
        _print_outlook(seen, kept)
    ctx.exit(0 if seen.is_well else NOT_WELL)


@click.command()
@as_json
@click.pass_context
def check(ctx: click.Context, is_json: bool) -> None:
    """Look for mistakes in what was configured.

    Exit code 1: some were found.
    """
    try:
        config = enter(ctx)
        findings = checks.check(config)
    except Mistake as mistake:
        findings = [checks.Finding("configuration", str(mistake.path), str(mistake))]
    if is_json:
        print_json([asdict(each) for each in findings])
    else:
        for each in findings:
            click.echo(f"{'ok      ' if each.is_good else 'PROBLEM '}{each.subject}: {each.problem or each.detail}")
    ctx.exit(0 if all(each.is_good for each in findings) else NOT_WELL)


@click.command()
@click.argument("service")
@click.pass_context
def restart(ctx: click.Context, service: str) -> None:
    """Restart one program: smtp, delivery, pop3, relay, health.

    It finishes what it has begun, and no client gets a refused connection meanwhile. Of several processes (smtp_00,
    smtp_01) each is restarted in turn, or the one that is named.
    """
    config = enter(ctx)
    supervisor = Supervisor(config.supervisor_socket, STOP_TIMEOUT)
    found = {each.name: each.state for each in supervisor.processes()}
    wanted = processes_of(service, found)
    if not wanted:
        raise click.UsageError(f"there is no program {service!r}; expected one of: {', '.join(found)}")
    for process in wanted:
        if found[process] is ProcessState.RUNNING:
            click.echo(f"{process} finishes what it has begun")
            supervisor.stop(process)
        supervisor.start(process)
        click.echo(f"{process} runs again")


def _print_outlook(seen: outlook.Outlook, kept: int) -> None:
    rows = []
    for program in seen.programs:
        numbers = {name: value for name, value in program.facts.items() if isinstance(value, int | float)}
        beat = "" if program.beat_age is None else f"{program.beat_age:.1f} s ago"
        counts = ", ".join(f"{name} {value}" for name, value in numbers.items())
        state = f"{program.state} by a person" if program.is_stopped else program.state
        rows.append([program.name, state, str(program.pid or ""), beat, counts])
    if rows:
        print_table(["PROGRAM", "STATE", "PID", "HEARTBEAT", "COUNTS"], rows)
    spool = ", ".join(f"{state} {number}" for state, number in seen.entries.items())
    click.echo(f"spool: {spool}; the oldest undecided waits for {seen.oldest_undecided:.1f} s")
    click.echo(f"the worst wait ever: {seen.worst_wait:.1f} s")
    if seen.audit is not None:
        balance = "balanced" if seen.audit.is_balanced else "not balanced"
        click.echo(f"audit: {balance}, {seen.audit.messages} messages, at {moment(seen.audit.moment)}")
    if kept:
        click.echo(f"incidents: {kept}, in {Path('var/incidents')}; `mailsrv incidents list`")
    for ban in seen.bans:
        click.echo(f"banned: {ban.address}, until {moment(ban.until)}, failed logins: {ban.failures}")
    for problem in seen.problems:
        click.echo(f"PROBLEM {problem}")
    click.echo("all is well" if seen.is_well else "not well")


COMMANDS = (status, check, restart)
