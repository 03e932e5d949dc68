"""An instance on disk: everything that it needs, made where it is missing, and never changed where it is there."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from mailsrv.config import Config, render
from mailsrv.host import supervisord_conf, systemd_unit
from mailsrv.host.certificates import self_signed
from mailsrv.host.passwords import hash_password
from mailsrv.host.privileges import account_of, create_system_user, give, group_of, owner, user_exists
from mailsrv.host.scram import make_verifier, prepared
from mailsrv.model.address import Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store import ledger
from mailsrv.store.accounts import Account, render_account
from mailsrv.store.durable import write_file
from mailsrv.store.lines import put_line
from mailsrv.store.maildir import Maildir, mailbox_path
from mailsrv.store.secret import write_secret
from mailsrv.store.spool import Spool
from mailsrv.work import probes

FIRST_USER = "admin"


def write_settings(config: Config, processes: int = 1) -> list[str]:
    """Write `mailsrv.toml` and `supervisord.conf` where they are missing; says what was made. Raises OSError.

    `processes` are of `smtp` and of `pop3`.
    """
    config.root.mkdir(parents=True, exist_ok=True)
    made = []
    if not config.path.exists():
        write_file(config.path, render(config).encode())
        config.path.chmod(0o644)
        made.append(str(config.path))
    if not config.supervisord_conf.exists():
        write_file(config.supervisord_conf, supervisord_conf.render(command_of, processes).encode())
        config.supervisord_conf.chmod(0o644)
        made.append(str(config.supervisord_conf))
    return made


def command_of(program: str) -> str:
    """How supervisord runs a program from an instance that is not the project's own folder."""
    return f'"{sys.executable}" -P -m mailsrv.daemon.{program}'


def complete(config: Config) -> tuple[list[str], str | None]:
    """Make the folders, the secret, the TLS pair and a first account where they are missing.

    Says what was made, and the first account's password, which stands nowhere else. Raises OSError, NoSuchUserError,
    and Mistake where `accounts` is missing although there are mailboxes.
    """
    made = []
    if owner_is_missing(config):
        create_system_user(config.run_as)
        made.append(f"the system user {config.run_as}")
    is_new = not config.accounts.exists()
    if is_new and config.mail.is_dir() and any(path.is_dir() for path in config.mail.iterdir()):
        raise Mistake(config.accounts, 0, f"expected to be there, as there are mailboxes in {config.mail}: restore it")
    _make_folders(config, is_new=is_new)
    with acting_as(config):
        Spool(config.spool).create_folders()
        ledger.begin(config.books)
    _make_secret(config)
    if not config.certificate.exists() or not config.private_key.exists():
        certificate, key = self_signed(config.hostname)
        with acting_as(config):
            write_file(config.private_key, key)
            write_file(config.certificate, certificate)
        made.append(f"{config.certificate} and {config.private_key.name}, self-signed")
    password = None
    if is_new:
        password = secrets.token_urlsafe(12)
        first = Mailbox(FIRST_USER, config.domains[0])
        add_account(config, first, password)
        edit(config, config.aliases, Mailbox("postmaster", first.domain), f"postmaster@{first.domain}: {first}")
        made.append(f"the account {first}")
    return made, password


def add_probe(config: Config) -> list[str]:
    """The mailbox that `health` sends its messages to, where that is wanted and missing; says what was made."""
    if config.probe.exists() or not config.health.message_interval:
        return []
    mailbox, password = probes.mailbox_of(config), secrets.token_urlsafe(24)
    add_account(config, mailbox, password)
    write_file(config.probe, f"{password}\n".encode("ascii"))
    if (ids := owner(config.run_as)) is not None:
        give(config.probe, ids)
    return [f"the account {mailbox}, for messages by which health tries the way through"]


def write_unit(config: Config) -> list[str]:
    """Write the systemd unit, and make what `up` could not make without root; says what was made. Raises OSError."""
    made = add_probe(config)
    path = config.root.absolute() / systemd_unit.FILE_NAME
    user, group = account_of(config.run_as)
    write_file(path, systemd_unit.render(path.parent, sys.executable, user, group).encode())
    path.chmod(0o644)
    return [*made, f"{path}; `systemctl enable --now {path}` starts it"]


def owner_is_missing(config: Config) -> bool:
    """Whether we are root, and the user to become does not exist yet."""
    return os.geteuid() == 0 and not user_exists(config.run_as)


def add_account(config: Config, mailbox: Mailbox, password: str) -> bool:
    """Add an account, or change its password; says whether there was one. Raises OSError."""
    account = Account(mailbox, hash_password(prepared(password)), make_verifier(password))
    was_there = edit(config, config.accounts, mailbox, render_account(account))
    with acting_as(config):
        Maildir(mailbox_path(config.mail, mailbox)).create()
    return was_there


def edit(config: Config, path: Path, address: Mailbox, line: str | None) -> bool:
    """Set or remove a line of `accounts` or `aliases`, for the programs to read; says whether there was one."""
    was_there = put_line(path, address, line)
    hand_over(config, path)
    return was_there


def hand_over(config: Config, path: Path) -> None:
    """Let the programs read a file that was just edited, and nobody else; raises OSError."""
    if (gid := group_of(config.run_as)) is not None:
        os.chown(path, 0, gid)
        path.chmod(0o640)


def make_own_folder(config: Config, folder: Path) -> None:
    """Make a folder of `var` that the programs own, where an instance of before has none; raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if (ids := owner(config.run_as)) is not None:
        give(folder, ids)


def make_away_folder(config: Config) -> None:
    """Make the folder with a file for each account that is away, for the programs to read; raises OSError."""
    config.away.mkdir(mode=0o750, exist_ok=True)
    if (gid := group_of(config.run_as)) is not None:
        os.chown(config.away, 0, gid)


@contextlib.contextmanager
def acting_as(config: Config) -> Iterator[None]:
    """Within, files are made as the user that the programs run as, so that they may use them.

    That user may not be allowed to read Python's own files, so nothing should be imported within.
    """
    ids = owner(config.run_as)
    if ids is None:
        yield
        return
    uid, gid = ids
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _make_folders(config: Config, *, is_new: bool) -> None:
    """Folders of two owners: supervisord's, where one who runs as root may write in safety, and the programs'."""
    config.var.mkdir(mode=0o755, exist_ok=True)
    for folder in (config.supervisor_socket.parent, config.log):
        folder.mkdir(mode=0o750, exist_ok=True)
        if (gid := group_of(config.run_as)) is not None:
            os.chown(folder, 0, gid)
    ids = owner(config.run_as)
    folders = (config.spool, config.mail, config.run, config.incidents, config.tls, config.dkim_keys, config.books)
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)
        if is_new:
            folder.chmod(0o700)  # two of them come with the project, open to everybody
        if ids is not None:
            _give_tree(folder, ids)


def _make_secret(config: Config) -> None:
    if not config.secret.exists():
        write_secret(config.secret)
    # In a folder where the programs may make nothing, so it is handed over; again where that was cut short.
    if (ids := owner(config.run_as)) is not None:
        give(config.secret, ids)


def _give_tree(folder: Path, ids: tuple[int, int]) -> None:
    """A folder that belongs to somebody else was made by another user's run: hand over all of it."""
    if folder.stat().st_uid != ids[0]:
        for path in (folder, *folder.rglob("*")):
            give(path, ids)
