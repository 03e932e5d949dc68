"""send, lint: messages into the spool."""

import getpass
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, cast

import click

from mailsrv.cli.context import (
    NOT_WELL,
    as_json,
    complete_address,
    enter,
    print_json,
)
from mailsrv.config import Config
from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.store import durable
from mailsrv.store.entry import FormatError
from mailsrv.store.ledger import Kind, Ledger
from mailsrv.store.spool import Spool, State
from mailsrv.work.books import arrived
from mailsrv.work.instance import acting_as
from mailsrv.work.intake import Given, Intake, Understood

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


COMMANDS = (send, lint)
