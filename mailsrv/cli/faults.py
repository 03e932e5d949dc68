"""incidents: what health has seen go wrong, with the evidence."""

from typing import Any

import click

from mailsrv.cli.context import Misused, as_json, enter_anyway, print_json, print_table
from mailsrv.store import incidents as store
from mailsrv.store.incidents import Incident

STEPS_SHOWN = 20


@click.group()
def incidents() -> None:
    """Show what went wrong with programs, and what was known of them: docs/HEALTH.md."""


@incidents.command(name="list")
@as_json
@click.pass_context
def list_incidents(ctx: click.Context, is_json: bool) -> None:
    """List the incidents that are kept, oldest first."""
    found = _read(ctx)
    if is_json:
        keys = ("program", "pid", "symptom", "moment", "step", "outcome", "seconds")
        print_json([{"name": each.name} | {key: each.report.get(key) for key in keys} for each in found])
        return
    rows = [[each.name, str(each.report.get("symptom", "")), _outcome(each.report)] for each in found]
    print_table(["INCIDENT", "SYMPTOM", "OUTCOME"], rows)


@incidents.command()
@click.argument("name")
@as_json
@click.pass_context
def show(ctx: click.Context, name: str, is_json: bool) -> None:
    """Show an incident by its name, or by the beginning of it; `last` is the newest."""
    kept = _read(ctx)
    found = kept[-1:] if name == "last" else [each for each in kept if each.name.startswith(name)]
    if len(found) != 1:
        what = "no incident" if not found else f"{len(found)} incidents"
        raise Misused(f"there are {what} {name!r}; expected one of those of `mailsrv incidents list`")
    (incident,) = found
    if is_json:
        print_json({"name": incident.name, **incident.report, "stacks": incident.stacks})
    else:
        _print(incident)


def _read(ctx: click.Context) -> list[Incident]:
    folder = enter_anyway(ctx).incidents
    return store.read_all(folder) if folder.is_dir() else []


def _outcome(report: dict[str, Any]) -> str:
    if "seconds" in report:
        return f"{report.get('outcome', '')} after {report['seconds']:.1f} s, step: {report.get('step', '')}"
    return str(report.get("action", ""))


def _print(incident: Incident) -> None:
    """The facts, then what is long."""
    long = ("samples", "steps", "open_files", "trend")
    click.echo(incident.name)
    for key, value in incident.report.items():
        if key not in long and value not in ("", None, [], {}):
            click.echo(f"  {key}: {value}")
    for key in long:
        values = incident.report.get(key) or []
        if values:
            click.echo(f"  {key}:")
        for value in values[-STEPS_SHOWN:]:
            click.echo(f"    {value}")
    click.echo("  stacks:")
    for line in incident.stacks.splitlines():
        click.echo(f"    {line}")


COMMANDS = (incidents,)
