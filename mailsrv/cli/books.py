"""audit, trace: the books, balanced, and the life of one message."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import click

from mailsrv.cli.context import NOT_WELL, Failed, Misused, as_json, enter, moment, plain, print_json
from mailsrv.model.identity import EntryId, is_entry_id
from mailsrv.work.audit import Audit
from mailsrv.work.operating import NotPossibleError, Operator
from mailsrv.work.tracing import Life
from mailsrv.work.tracing import trace as find_lives

MOST_SHOWN: Final = 50  # messages, in words

# Of a line, what is said by itself, or of no interest to people.
_SAID: Final = frozenset({"t", "fate", "id", "by", "boot", "subject", "message_id", "from", "to", "routes", "serves"})


@click.command()
@click.option("--write-off", "written_off", metavar="ID", multiple=True, help="Close the books on what was named.")
@as_json
@click.pass_context
def audit(ctx: click.Context, written_off: tuple[str, ...], is_json: bool) -> None:
    """Balance the books: everything that was taken is in the spool, or has its fate.

    Exit code 1: something is missing, or was done twice; it is named until it is written off.
    """
    config = enter(ctx)
    for entry_id in written_off:
        if not is_entry_id(entry_id):
            raise Misused(f"{entry_id}: expected the id of a message")
        try:
            Operator(config).write_off(EntryId(entry_id))
        except NotPossibleError as error:
            raise Failed(str(error)) from error
    found = Audit(config).run()
    if is_json:
        print_json(asdict(found) | {"is_balanced": found.is_balanced})
        ctx.exit(0 if found.is_balanced else NOT_WELL)
    click.echo(f"since {moment(found.since)}: {found.messages} messages, {found.settled} settled, {found.waiting} wait")
    click.echo(", ".join(f"{fate} {number}" for fate, number in sorted(found.lines.items())) or "no fates yet")
    if found.unannounced:
        click.echo(
            f"{found.unannounced} with a fate, but no line of acceptance: a program was killed before it wrote it"
        )
    if found.repeated:
        click.echo(f"{found.repeated} delivered again after the machine was restarted")
    for each in found.missing:
        click.echo(f"MISSING {each}")
    for each in found.doubled:
        click.echo(f"DOUBLED {each}")
    click.echo("balanced" if found.is_balanced else "not balanced")
    ctx.exit(0 if found.is_balanced else NOT_WELL)


@click.command()
@click.argument("what")
@as_json
@click.pass_context
def trace(ctx: click.Context, what: str, is_json: bool) -> None:
    """Show the life of messages: what became of them, when, and where they are now.

    WHAT is an id (or its beginning), a Message-ID, an address, or a part of the subject. Exit code 1: there is none.
    """
    config = enter(ctx)
    if not what.strip():
        raise Misused("expected an id, a Message-ID, an address or a part of the subject (found nothing)")
    lives = find_lives(config, what)
    if is_json:
        print_json([_as_document(each) for each in lives])
        ctx.exit(0 if lives else NOT_WELL)
    if not lives:
        raise Failed(f"the books know nothing of {what!r}")
    for each in lives[-MOST_SHOWN:]:
        _print_life(each)
    if len(lives) > MOST_SHOWN:
        click.echo(f"and {len(lives) - MOST_SHOWN} before these; --json shows all")


def _as_document(life: Life) -> dict[str, Any]:
    lines = [{name: value for name, value in line.items() if name != "boot"} for line in life.lines]
    return asdict(life) | {"lines": lines}


def _print_life(life: Life) -> None:
    words = [life.entry_id, f"from {life.sender or '<>'}", life.message_id, life.subject and f'"{life.subject}"']
    click.echo(plain("  ".join(each for each in words if each).replace("\n", "\\n")))
    for line in life.lines:
        when = datetime.fromtimestamp(line["t"], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        word = line["id"].removeprefix(life.entry_id).removeprefix("-")
        to = ", ".join(each.removeprefix("report ") for each in line.get("to", ()))
        facts = "; ".join(_fact(name, value) for name, value in line.items() if name not in _SAID)
        parts = [line["fate"], f"({word})" if word else "", to and f"to {to}", facts and f"- {facts}"]
        click.echo(f"  {when}  {line['by']:9} {plain(' '.join(each for each in parts if each))}")
    for each in life.now:
        click.echo(f"  now: {plain(each)}")


def _fact(name: str, value: object) -> str:
    if name == "due" and isinstance(value, int | float):
        return f"again at {moment(float(value))}"
    if value is True:
        return name
    return f"{name} {'; '.join(map(str, value)) if isinstance(value, list) else value}"


COMMANDS = (audit, trace)
