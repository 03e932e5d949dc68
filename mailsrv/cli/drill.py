"""drill: the healing tried out, on a temporary instance or on this one, while mail flows."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mailsrv import config as configuration
from mailsrv.cli.context import NOT_WELL, Failed, as_json, enter, print_json
from mailsrv.config import PORT_OFFSETS, Config
from mailsrv.model.address import Mailbox
from mailsrv.settings import Drill as Hooks
from mailsrv.store.durable import write_file
from mailsrv.store.maildir import mailbox_path
from mailsrv.work import drills
from mailsrv.work.drills import DRILLS, Drill, Place, Row
from mailsrv.work.flow import Flow

LOCAL_PART: Final = "mailsrv-drill"
RUN_AS: Final = "nobody"
DISK: Final = "512m"
PATIENCE: Final = 60.0  # seconds, on an instance whose windows are short
# Windows that are short enough to watch: what takes minutes or days takes seconds.
QUICK: Final[dict[str, Any]] = {
    "interval": 0.25,
    "beat_limit": 3.0,
    "memory_limit": 300.0,
    "descriptor_limit": 200,
    "trend_hour": 1.5,
    "slow_clock": 2.0,
    "probe_interval": 5.0,
    "message_interval": 10.0,
}
PORTS: Final = range(12_000, 32_000, 10)


@click.command()
@click.option("--here", is_flag=True, help="On this instance, and not on a temporary one; asks.")
@click.option("--only", multiple=True, metavar="TEXT", help="Drills whose name has TEXT in it; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@click.pass_context
def drill(ctx: click.Context, here: bool, only: tuple[str, ...], yes: bool, is_json: bool) -> None:
    """Make faults for real while mail flows, and see them healed.

    Exit code 1: something was lost, doubled or not healed.
    """
    chosen = [each for each in DRILLS if not only or any(text in each.name for text in only)]
    if not chosen:
        raise click.UsageError(f"there is no such drill; expected one of: {', '.join(each.name for each in DRILLS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(NOT_WELL))  # whoever ends us leaves no instance behind
    with _here(ctx, yes=yes) if here else _temporary() as place:
        place.flow.start()
        rows = list(_run_all(chosen, place, is_json=is_json))
        place.flow.stop()
        tally = place.flow.tally()
        audit = _command(place.config.root, "audit")
    is_good = all(row.is_good for row in rows) and audit.returncode == 0
    if is_json:
        told = [asdict(row) | {"is_good": row.is_good} for row in rows]
        print_json({"is_good": is_good, "drills": told, "mail": asdict(tally), "audit": audit.returncode == 0})
    else:
        if audit.returncode:
            click.echo(audit.stdout.decode())
        counts = f"lost {tally.lost}, doubled {tally.doubled}; clients were told to wait {tally.delayed} times"
        click.echo(f"{tally.sent} messages, {counts}")
        click.echo("all is well" if is_good else "not well")
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


@contextlib.contextmanager
def _here(ctx: click.Context, *, yes: bool) -> Iterator[Place]:
    """This instance, with its own windows, and an account of its own for the mail."""
    root = enter(ctx).root.absolute()
    config = configuration.load(root)
    if not yes:
        click.confirm("This makes programs of this instance ill, while it works. Go on?", abort=True, err=True)
    mailbox = Mailbox(LOCAL_PART, config.domains[0])
    _must(_command(root, "user", "add", str(mailbox), "--password-stdin", stdin=b"of-the-drill-and-long-enough\n"))
    try:
        health = config.health
        patience = PATIENCE + 12 * health.interval + 3 * health.beat_limit
        yield Place(config, _flow(config, mailbox), lambda: _up(root), patience, is_ours=False, has_own_disk=False)
    finally:
        _command(root, "user", "remove", str(mailbox))


@contextlib.contextmanager
def _temporary() -> Iterator[Place]:
    """A new instance that is removed afterwards; for root, on a small disk of its own."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-drill-"))
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(folder)]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        has_own_disk = shutil.which("mount") is not None and _has_mounted(mount)
        if has_own_disk:
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], capture_output=True)
        root = folder / "i"
        _must(_run("init", str(root), "--port-base", str(_free_ports()), "--run-as", RUN_AS))
        config = configuration.load(root)
        settings: dict[str, Any] = {"health": replace(config.health, **QUICK), "drill": Hooks(hooks=True)}
        config = replace(config, **settings)
        write_file(config.path, configuration.render(config).encode())
        config.path.chmod(0o644)
        stack.callback(_command, root, "down")
        _up(root)
        mailbox = Mailbox("admin", config.domains[0])
        yield Place(config, _flow(config, mailbox), lambda: _up(root), PATIENCE, True, has_own_disk)


def _has_mounted(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _flow(config: Config, mailbox: Mailbox) -> Flow:
    port = config.ports().get("smtp")
    if port is None:
        raise Failed("the port smtp is switched off: no mail can be sent to it")
    address = "127.0.0.1" if config.listen.address == "0.0.0.0" else config.listen.address
    return Flow(address, port, config.spool, mailbox_path(config.mail, mailbox), str(mailbox))


def _free_ports() -> int:
    """A base such that the ports of an instance are free now."""
    for base in random.sample(PORTS, len(PORTS)):  # another drill may look for some now
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for offset in PORT_OFFSETS.values():
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", base + offset))
            return base
    raise Failed("no five ports are free")


def _up(root: Path) -> None:
    _must(_command(root, "up", "--detach"))


def _command(root: Path, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return _run("--root", str(root), *words, stdin=stdin)


def _run(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-P", "-m", "mailsrv.cli.main", *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def _must(done: "subprocess.CompletedProcess[bytes]") -> None:
    if done.returncode:
        raise Failed((done.stderr or done.stdout).decode("utf-8", "replace").strip())


COMMANDS = (drill,)
