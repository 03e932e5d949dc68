"""queue: what lies in the spool, and what an operator does with it. Listing never writes."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Final

import click

from mailsrv.cli.context import Commands, Failed, as_json, enter, moment, plain, print_json, print_table
from mailsrv.config import Config
from mailsrv.model.identity import EntryId, arrival_of, is_entry_id
from mailsrv.store.retry import DONE, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work.operating import NotPossibleError, Operator
from mailsrv.work.outlook import Listed, listed
from mailsrv.work.outlook import queue as list_queue

MAX_SHOWN_HEADER: Final = 64 * 1024

_ids = click.argument("entry_ids", metavar="ID...", nargs=-1, required=True)


@click.group(cls=Commands)
def queue() -> None:
    """The spool: what waits, for what, and what is to become of it."""


@queue.command("list")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only what is in this folder.")
@as_json
@click.pass_context
def list_entries(ctx: click.Context, state: str | None, is_json: bool) -> None:
    """List the entries of the spool, oldest first."""
    entries = [each for each in list_queue(enter(ctx)) if state in (None, each.state.value)]
    if is_json:
        print_json([asdict(each) | {"state": each.state.value} for each in entries])
        return
    print_table(["ID", "STATE", "AGE", "SIZE", "FROM", "TO", "WHY"], [_row(each) for each in entries])


@queue.command("show")
@click.argument("entry_id", metavar="ID")
@as_json
@click.pass_context
def show_entry(ctx: click.Context, entry_id: str, is_json: bool) -> None:
    """Show the envelope of an entry, the header of its message, what was done for it, and why it waits."""
    config = enter(ctx)
    entry, file = _opened(config, entry_id)
    with file:
        octets = file.read(MAX_SHOWN_HEADER)
    head = octets.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n", "\n")
    sidecar = Spool(config.spool).retry_path(entry.entry_id, entry.state)
    retry = read_retry(sidecar) if entry.state.has_sidecar else None
    if is_json:
        tried = retry.to_json() if retry else None
        print_json(asdict(entry) | {"state": entry.state.value, "head": head, "retry": tried})
        return
    click.echo(f"state: {entry.state.value}")
    if entry.reason:
        click.echo(f"why: {entry.reason}")
    if retry:
        click.echo(f"attempts: {retry.attempts}")
        click.echo(f"next attempt: {moment(retry.due)}")
        for key, fate in retry.destinations.items():
            click.echo(f"{'done' if fate.state == DONE else 'waits'}: {key}")
    click.echo(f"\n{plain(head)}")


@queue.command("export")
@click.argument("entry_id", metavar="ID")
@click.argument("target", metavar="[FILE]", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.pass_context
def export_entry(ctx: click.Context, entry_id: str, target: Path | None) -> None:
    """Copy an entry to FILE, or to standard output; put into the drop box, the copy is sent again."""
    target = target.absolute() if target else None
    config = enter(ctx)
    _, source = _opened(config, entry_id)
    with source:
        if target is None:
            shutil.copyfileobj(source, sys.stdout.buffer)
        else:
            with target.open("xb") as copy:
                shutil.copyfileobj(source, copy)


@queue.command("retry")
@click.option("--all", "is_all", is_flag=True, help="Everything that waits.")
@click.argument("entry_ids", metavar="[ID...]", nargs=-1)
@click.pass_context
def retry_entries(ctx: click.Context, is_all: bool, entry_ids: tuple[str, ...]) -> None:
    """Have entries that wait, for delivery or for the relay, be tried at once."""
    config = enter(ctx)
    if is_all == bool(entry_ids):
        raise click.UsageError("expected either IDs or --all")
    spool = Spool(config.spool)
    waiting = [str(each) for state in State if state.has_sidecar for each in spool.entries(state)]
    ids = waiting if is_all else entry_ids
    _do_each(ids, Operator(config).retry, "is tried again")


@queue.command("hold")
@click.option("--why", default="", help="A reason, for whoever finds it held.")
@_ids
@click.pass_context
def hold_entries(ctx: click.Context, why: str, entry_ids: tuple[str, ...]) -> None:
    """Hold entries: nothing becomes of them until they are released or removed."""
    operator = Operator(enter(ctx))
    _do_each(entry_ids, lambda entry_id: operator.hold(entry_id, why), "is held")


@queue.command("release")
@_ids
@click.pass_context
def release_entries(ctx: click.Context, entry_ids: tuple[str, ...]) -> None:
    """Release held entries: they are decided as if nothing had been."""
    operator = Operator(enter(ctx))
    _do_each(entry_ids, operator.release, "is released")


@queue.command("remove")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_ids
@click.pass_context
def remove_entries(ctx: click.Context, yes: bool, entry_ids: tuple[str, ...]) -> None:
    """Remove entries for good. Nobody is told; the ledger has a line."""
    config = enter(ctx)
    for entry_id in entry_ids:
        if not yes:
            entry = _find(config, entry_id)
            click.echo(f"{entry_id}, in {entry.state.value}/, from {entry.sender} to {', '.join(entry.recipients)}")
    if not yes:
        click.confirm("remove for good?", abort=True)
    _do_each(entry_ids, Operator(config).remove, "is removed")


def _do_each(entry_ids: Sequence[str], do: Callable[[EntryId], object], done: str) -> None:
    """Do it with each, and tell; raises Failed after trying all of them."""
    failed = 0
    for entry_id in entry_ids:
        try:
            where = do(EntryId(entry_id))
            click.echo(f"{entry_id} {done}{f', into {where}' if where else ''}")
        except NotPossibleError as error:
            click.echo(str(error), err=True)
            failed += 1
    if failed:
        raise Failed(f"not done: {failed} of {len(entry_ids)}")


def _find(config: Config, entry_id: str) -> Listed:
    spool = Spool(config.spool)
    for _ in range(len(State)):  # it may be moved between two looks
        state = spool.state_of(EntryId(entry_id)) if is_entry_id(entry_id) else None
        if state is not None and (found := listed(spool, state, EntryId(entry_id))):
            return found
    raise Failed(f"there is no entry {entry_id} in the spool; `mailsrv queue list` lists them")


def _opened(config: Config, entry_id: str) -> tuple[Listed, BinaryIO]:
    entry = _find(config, entry_id)
    return entry, Spool(config.spool).path(entry.state, entry.entry_id).open("rb")


def _row(entry: Listed) -> list[str]:
    age = _duration(time.time() - arrival_of(entry.entry_id).timestamp())
    why = entry.reason
    if entry.due:
        why = f"again in {_duration(max(0.0, entry.due - time.time()))}: {why}"
    to = ", ".join(entry.recipients[:3]) + (
        f" and {len(entry.recipients) - 3} more" if len(entry.recipients) > 3 else ""
    )
    return [entry.entry_id, entry.state.value, age, str(entry.octets), entry.sender, to, why]


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


COMMANDS = (queue,)
