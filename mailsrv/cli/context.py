"""What all commands share: the instance they are for, tables, JSON, and errors that a person can act on."""

import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from mailsrv.config import FILE_NAME, Config, load
from mailsrv.host.privileges import NoSuchUserError
from mailsrv.host.supervisor import SupervisorError
from mailsrv.model.address import GrammarError, Mailbox
from mailsrv.model.international import domain_key
from mailsrv.model.mistake import Mistake
from mailsrv.store.entry import FormatError
from mailsrv.work.routing import Directory

NOT_WELL: Final = 1
MISUSE: Final = 2

as_json = click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table.")


class Failed(click.ClickException):
    """It could not be done."""

    exit_code = NOT_WELL


class Misused(click.ClickException):
    """It was not asked for in a way that could be done."""

    exit_code = MISUSE


class Commands(click.Group):
    """A group whose commands never end in a traceback for what is not our fault."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # an address may have what the terminal cannot show
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except (Mistake, NoSuchUserError, GrammarError) as error:
            raise Misused(str(error)) from error
        except (SupervisorError, FormatError) as error:
            raise Failed(str(error)) from error
        except PermissionError as error:
            raise Failed(f"permission denied: {error.filename}; run this as the user who runs mailsrv") from error
        except OSError as error:
            raise Failed(f"{error.strerror or error}: {error.filename}") from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(at.filename).name}, line {at.lineno}"
            raise Failed(f"a fault of mailsrv ({place}): {type(error).__name__}: {error}") from error


def find_root(given: Path | None) -> Path:
    """The instance: as given, or the folder at or above the current one that holds `mailsrv.toml`."""
    if given is not None:
        return given
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).exists():
            return folder
    raise Misused(
        f"there is no {FILE_NAME} here or above; name the instance with --root, or make one: mailsrv init DIR"
    )


def enter(ctx: click.Context) -> Config:
    """Go into the instance and read its configuration; from then on paths are relative to it."""
    root = find_root(ctx.find_root().params["root"])
    try:
        os.chdir(root)
    except OSError as error:
        raise Misused(f"{root}: {error.strerror}") from error
    return load(Path())


def enter_anyway(ctx: click.Context) -> Config:
    """Like `enter` for commands that must work while the configuration is broken: they need its paths only."""
    try:
        return enter(ctx)
    except Mistake as mistake:
        click.echo(f"Warning: {mistake}", err=True)
        return Config(Path())


def complete_address(config: Config, text: str, parse: Callable[[str], Mailbox]) -> Mailbox:
    """An address as people type it: a name alone is one of the first domain; raises GrammarError."""
    try:
        return parse(text if "@" in text else f"{text}@{config.domains[0]}")
    except GrammarError as error:
        raise GrammarError(f"{text}: {error}") from error


def expect_domain_of_ours(config: Config, mailbox: Mailbox) -> None:
    """Raise Failed where it is not for us to say what becomes of an address."""
    if domain_key(mailbox.domain) not in map(domain_key, config.domains):
        raise Failed(f"{mailbox.domain} is not in `domains` of {config.path.name} ({', '.join(config.domains)})")


def expect_no_loop(config: Config, mailbox: Mailbox, targets: tuple[Mailbox, ...]) -> None:
    """Raise Failed where mail would go in circles if `mailbox` led to `targets`."""
    if loop := Directory(config).loop_with(mailbox, targets):
        raise Failed(f"that would be a loop, nothing was changed: {loop}")


def moment(seconds: float) -> str:
    """A moment in seconds since 1970, in UTC, as in everything that the programs write."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def plain(text: str) -> str:
    """Text of a stranger, such as a subject, as a terminal may be given it."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=1))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, as wide as the terminal or, without one, as wide as it needs to be."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, emoji=False)
    console = console if console.is_terminal else Console(width=200, highlight=False, markup=False, emoji=False)
    console.print(table)
