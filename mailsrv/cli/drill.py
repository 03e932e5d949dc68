"""drill: the healing tried out, on a temporary instance or on this one, while mail flows."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mailsrv.cli import drilled
from mailsrv.cli.context import NOT_WELL, as_json, print_json
from mailsrv.host.interruption import Interruption
from mailsrv.work import drills
from mailsrv.work.drills import DRILLS, Drill, Place, Row
from mailsrv.work.flow import Tally


@click.command()
@click.option("--here", is_flag=True, help="On this instance, and not on a temporary one; asks.")
@click.option("--only", multiple=True, metavar="TEXT", help="Drills whose name has TEXT in it; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@click.pass_context
def drill(ctx: click.Context, here: bool, only: tuple[str, ...], yes: bool, is_json: bool) -> None:
    """Make faults for real while mail flows, and see them healed.

    Exit code 1: something was lost, doubled or not healed. Ended before its time, it leaves nothing behind.
    """
    chosen = [each for each in DRILLS if not only or any(text in each.name for text in only)]
    if not chosen:
        raise click.UsageError(f"there is no such drill; expected one of: {', '.join(each.name for each in DRILLS)}")
    interruption = Interruption(NOT_WELL)
    with drilled.here(ctx, interruption, yes=yes) if here else drilled.temporary(interruption) as place:
        place.flow.start()
        rows = list(_run_all(chosen, place, is_json=is_json))
        place.flow.stop()
        place.flow.settle(place.patience)
        tally, complaint = place.flow.tally(), drilled.audit(place.config)
    is_good = all(row.is_good for row in rows) and not (tally.lost or tally.doubled or complaint)
    if is_json:
        told = [asdict(row) | {"is_good": row.is_good} for row in rows]
        print_json({"is_good": is_good, "drills": told, "mail": asdict(tally), "audit": not complaint})
    else:
        _print_end(tally, complaint, is_good=is_good)
    ctx.exit(0 if is_good else NOT_WELL)


def _run_all(chosen: Sequence[Drill], place: Place, *, is_json: bool) -> Iterator[Row]:
    """One after another, shown as they go; without a terminal a line for each, on standard error beside JSON."""
    rows: list[Row] = []
    console = Console(stderr=is_json, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        for number, each in enumerate(chosen, 1):
            rows.append(drills.run(each, place))
            click.echo(f"{number}/{len(chosen)} {'  '.join(_cells(rows[-1]))}", err=is_json)
            yield rows[-1]
        return
    with Live(_table(rows, chosen), console=console, refresh_per_second=4) as live:
        for each in chosen:
            rows.append(drills.run(each, place))
            live.update(_table(rows, chosen))
            yield rows[-1]


def _print_end(tally: Tally, complaint: str, *, is_good: bool) -> None:
    if complaint:
        click.echo(complaint)
    click.echo(
        f"{tally.sent} messages, lost {tally.lost}, doubled {tally.doubled}; "
        f"clients were told to wait {tally.delayed} times"
    )
    if tally.in_doubt:
        click.echo(f"{tally.in_doubt} came twice at the next host, as the books say that they may")
    click.echo("all is well" if is_good else "not well")


def _table(rows: Sequence[Row], chosen: Sequence[Drill]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption=f"{len(rows)} of {len(chosen)}")
    for title in ("DRILL", "SEEN AFTER", "HEALED AFTER", "REFUSED", "LOST", "DOUBLED", ""):
        table.add_column(title)
    for row in rows:
        table.add_row(*_cells(row))
    if len(rows) < len(chosen):
        table.add_row(chosen[len(rows)].name, "...")
    return table


def _cells(row: Row) -> list[str]:
    if row.is_skipped:
        return [row.name, "skipped", "", "", "", "", row.why]
    seconds = [f"{each:.1f} s" if each is not None else "-" for each in (row.seen_after, row.healed_after)]
    return [row.name, *seconds, *(str(each) for each in (row.refused, row.lost, row.doubled)), row.why]


COMMANDS = (drill,)
