"""send, queue, lint: messages into the spool, and what lies in it."""

import getpass
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, cast

import click

from mailsrv.cli.context import (
    NOT_WELL,
    Commands,
    Failed,
    as_json,
    complete_address,
    enter,
    moment,
    print_json,
    print_table,
)
from mailsrv.config import Config
from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.identity import EntryId, arrival_of, new_entry_id
from mailsrv.store import durable
from mailsrv.store.entry import FormatError
from mailsrv.store.ledger import Kind, Ledger
from mailsrv.store.spool import Spool, State
from mailsrv.work.books import arrived
from mailsrv.work.instance import acting_as
from mailsrv.work.intake import Given, Intake, Understood
from mailsrv.work.outlook import Listed
from mailsrv.work.outlook import queue as list_queue

MAX_SHOWN_HEADER: Final = 64 * 1024


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--from", "sender", help="The sender; else the message's own, else you.")
@click.option("--to", "recipients", multiple=True, help="A recipient, in place of the message's own; may be repeated.")
@click.pass_context
def send(ctx: click.Context, file: Path, sender: str | None, recipients: tuple[str, ...]) -> None:
    """Put the message FILE into the spool.

    That is sendmail's work; `-` is standard input.
    """
    with _opened(file) as octets:
        config = enter(ctx)
        me = None if sender else _me(config)
        intake = Intake(config)
        reverse_path = complete_address(config, sender, parse_mailbox) if sender else None
        forward_paths = tuple(complete_address(config, each, parse_mailbox) for each in recipients)
        understood = intake.understand(octets, Given(reverse_path, forward_paths, otherwise_sender=me))
        entry_id = _spool_it(config, intake, octets, understood)
    click.echo(f"queued as {entry_id}")


@click.group(cls=Commands)
def queue() -> None:
    """The spool: what waits, and for what."""


@queue.command("list")
@as_json
@click.pass_context
def list_entries(ctx: click.Context, is_json: bool) -> None:
    """List the entries of the spool, oldest first."""
    entries = list_queue(enter(ctx))
    if is_json:
        print_json([asdict(each) | {"state": each.state.value} for each in entries])
        return
    print_table(["ID", "STATE", "AGE", "SIZE", "FROM", "TO", "WHY"], [_row(each) for each in entries])


@queue.command("show")
@click.argument("entry_id", metavar="ID")
@as_json
@click.pass_context
def show_entry(ctx: click.Context, entry_id: str, is_json: bool) -> None:
    """Show the envelope of an entry, the header of its message, and why it waits."""
    config = enter(ctx)
    entry = _find(config, entry_id)
    octets = Spool(config.spool).path(entry.state, entry.entry_id).read_bytes()[:MAX_SHOWN_HEADER]
    head = octets.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n", "\n")
    if is_json:
        print_json(asdict(entry) | {"state": entry.state.value, "head": head})
        return
    click.echo(f"state: {entry.state.value}")
    if entry.reason:
        click.echo(f"why: {entry.reason}")
    if entry.due:
        click.echo(f"next attempt: {moment(entry.due)}")
    click.echo(f"\n{head}")


@queue.command("export")
@click.argument("entry_id", metavar="ID")
@click.argument("target", metavar="[FILE]", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.pass_context
def export_entry(ctx: click.Context, entry_id: str, target: Path | None) -> None:
    """Copy an entry to FILE, or to standard output; put into the drop box, the copy is sent again."""
    target = target.absolute() if target else None
    config = enter(ctx)
    entry = _find(config, entry_id)
    with Spool(config.spool).path(entry.state, entry.entry_id).open("rb") as source:
        if target is None:
            shutil.copyfileobj(source, sys.stdout.buffer)
        else:
            with target.open("xb") as copy:
                shutil.copyfileobj(source, copy)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@as_json
@click.pass_context
def lint(ctx: click.Context, file: Path, is_json: bool) -> None:
    """Say what the drop box would make of FILE."""
    with _opened(file) as octets:
        config = enter(ctx)
        try:
            understood = Intake(config).understand(octets)
        except FormatError as error:
            if is_json:
                print_json({"problem": error.reason, "line": error.line, "octet": error.octet})
            else:
                click.echo(f"{file}: {error}")
            ctx.exit(NOT_WELL)
    envelope = understood.envelope
    facts = {
        "convention": "X-Sender and X-Receiver" if understood.has_envelope_block else "header",
        "from": str(envelope.sender.reverse_path or "<>"),
        "to": [str(recipient.forward_path) for recipient in envelope.recipients],
        "added": [name for name in ("Date", "Message-ID") if not understood.has_field(name.lower())],
        "dots removed": understood.is_dotstuffed,
    }
    if is_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name}: {', '.join(value) if isinstance(value, list) else value}")


def _me(config: Config) -> Mailbox | None:
    """The one who runs this, as a sender; None where the name will not do."""
    try:
        return complete_address(config, getpass.getuser(), parse_mailbox)
    except (GrammarError, KeyError, OSError):
        return None


def _opened(file: Path) -> BinaryIO:
    """FILE, or standard input copied to where it can be read twice."""
    if str(file) != "-":
        return file.open("rb")
    copy = cast(BinaryIO, tempfile.TemporaryFile())
    shutil.copyfileobj(sys.stdin.buffer, copy)
    copy.seek(0)
    return copy


def _spool_it(config: Config, intake: Intake, octets: BinaryIO, understood: Understood) -> EntryId:
    spool = Spool(config.spool)
    entry_id = new_entry_id(datetime.now(UTC))
    with acting_as(config):
        draft = spool.draft(entry_id)
        try:
            intake.write(draft, octets, understood, entry_id, "send")
        except BaseException:
            draft.abort()
            raise
        size = draft.size
        durable.raise_first(durable.publish([(draft, spool.path(State.NEW, entry_id))]))
        facts = {"with": "send", **understood.about()}
        ledger = Ledger(config.books, "command", config.ledger.keep_days)
        ledger.write([arrived(Kind.ACCEPTED, entry_id, understood.envelope, size, **facts)])
        ledger.close()
    return entry_id


def _find(config: Config, entry_id: str) -> Listed:
    for each in list_queue(config):
        if each.entry_id == entry_id:
            return each
    raise Failed(f"there is no entry {entry_id} in the spool; `mailsrv queue list` lists them")


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


COMMANDS = (send, queue, lint)
