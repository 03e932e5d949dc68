"""`mailsrv`: the command line. Each command is a thin layer over `work` and `store`."""

import logging
from pathlib import Path

import click

from mailsrv import VERSION
from mailsrv.cli import (
    bans,
    books,
    boxes,
    domains,
    drill,
    faults,
    instance,
    mail,
    people,
    queue,
    relays,
    routes,
    signatures,
    watch,
)
from mailsrv.cli.context import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MAILSRV_ROOT",
    help="The instance; else the folder at or above this one that holds mailsrv.toml.",
)
@click.version_option(VERSION, prog_name="mailsrv")
def main(root: Path | None) -> None:
    """A mail server to start and forget: SMTP, local delivery and POP3 under supervisord."""


logging.getLogger("mailsrv").addHandler(logging.NullHandler())  # commands tell by themselves what is wrong

for command in (
    *instance.COMMANDS,
    *people.COMMANDS,
    *routes.COMMANDS,
    *boxes.COMMANDS,
    *relays.COMMANDS,
    *signatures.COMMANDS,
    *domains.COMMANDS,
    *bans.COMMANDS,
    *books.COMMANDS,
    *mail.COMMANDS,
    *queue.COMMANDS,
    *watch.COMMANDS,
    *faults.COMMANDS,
    *drill.COMMANDS,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="mailsrv")
