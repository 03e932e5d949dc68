"""What can be wrong with an instance before anything goes wrong: `mailsrv check`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.host import listening
from mailsrv.host.certificates import expiry
from mailsrv.host.privileges import user_exists
from mailsrv.host.resolver import is_near
from mailsrv.host.supervisor import Supervisor, SupervisorError
from mailsrv.host.tls import Certificates
from mailsrv.model.mistake import Mistake
from mailsrv.store.away import parse_away
from mailsrv.store.filesystems import Promises, promises_of
from mailsrv.store.lines import read_text
from mailsrv.work.instance import acting_as, owner_is_missing
from mailsrv.work.keyring import Keyring
from mailsrv.work.policies import trusts_resolver
from mailsrv.work.routing import Directory

MAX_SOCKET_PATH: Final = 107  # octets, unix(7)
SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `problem` is empty where it is as it should be."""

    subject: str
    detail: str
    problem: str = ""

    @property
    def is_good(self) -> bool:
        return not self.problem


def check(config: Config) -> list[Finding]:
    """Look at everything that can be looked at without changing anything."""
    return [
        Finding("configuration", str(config.path)),
        *_users(config),
        *_directory(config),
        *_folders(config),
        *_tls_pairs(config),
        *lmtp(config),
        *_signing(config),
        *_resolver(config),
        *_supervisor(config),
    ]


def _users(config: Config) -> Iterator[Finding]:
    if os.geteuid() == 0:
        problem = "" if user_exists(config.run_as) else "no such user; `mailsrv up` makes it"
        yield Finding("run_as", config.run_as, problem)


def _directory(config: Config) -> Iterator[Finding]:
    directory = Directory(config)
    mistakes = {mistake.path: str(mistake) for mistake in directory.mistakes()}
    for path in (config.accounts, config.aliases, config.lists, config.transforms, config.quotas):
        is_needed = path in (config.accounts, config.aliases)
        if is_needed or path.exists():
            missing = "" if path.exists() else "is missing; `mailsrv up` makes it"
            yield Finding(path.name, str(path), mistakes.get(path, missing))
    if without := directory.without_verifier():
        names = ", ".join(map(str, without))
        detail = f"without a SCRAM verifier, so SCRAM is not offered: {names}; `mailsrv user passwd` gives them one"
        yield Finding("accounts", detail)
    yield from _away(config, directory)
    for key, problem in directory.dangling():
        yield Finding("address", key, problem)


def _away(config: Config, directory: Directory) -> Iterator[Finding]:
    """Who is away: the files are named for accounts, as their keys are written."""
    paths = (
        sorted(path for path in config.away.iterdir() if not path.name.startswith(".")) if config.away.is_dir() else []
    )
    for path in paths:
        problem = ""
        account = directory.account(path.name) if "@" in path.name else None
        if account is None or account.mailbox.key != path.name:
            problem = "expected the name of the file to be the address of an account, in small letters"
        else:
            try:
                parse_away(path, read_text(path))
            except Mistake as mistake:
                problem = str(mistake)
        yield Finding("away", str(path), problem)


def _folders(config: Config) -> Iterator[Finding]:
    for folder in (config.spool, config.mail, config.run, config.incidents, config.books):
        if not folder.is_dir():
            yield Finding("folder", str(folder), "is missing; `mailsrv up` makes it")
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield Finding("folder", str(folder), "may not be written by this user")
        else:
            yield Finding("folder", f"{folder} ({_syncs_of(promises_of(folder))})")
    path = str(config.supervisor_socket.absolute())
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        yield Finding("socket", path, f"is longer than {MAX_SOCKET_PATH} octets; choose a shorter folder")


def _syncs_of(promises: Promises) -> str:
    """How mail is made durable there."""
    if promises.is_ordered:
        return "one sync, by its journal"
    return "group syncs" if promises.has_honest_syncfs else "each file is synced alone"


def _tls_pairs(config: Config) -> Iterator[Finding]:
    """The pair for everybody, and those for the servers that clients may name."""
    for mistake in Certificates(config.tls).mistakes():
        yield Finding(str(mistake.path), "TLS", mistake.expected)
    for certificate in (config.certificate, *sorted(config.tls.glob(f"*/{config.certificate.name}"))):
        yield _certificate(certificate)
        for path in (certificate, certificate.with_name(config.private_key.name)):
            if not _is_readable(config, path):
                yield Finding(str(path), "TLS", "expected to be readable for the user that the programs run as")


def _certificate(path: Path) -> Finding:
    try:
        end = expiry(path)
    except (OSError, ValueError):
        return Finding("certificate", str(path), f"expected a certificate in PEM at {path}")
    problem = "ends within 14 days" if end - datetime.now(UTC) < SOON else ""
    return Finding("certificate", f"{path}, until {end:%Y-%m-%d}", problem)


def _signing(config: Config) -> Iterator[Finding]:
    """The keys of DKIM; what cannot be used makes mail wait."""
    ring = Keyring(config.dkim_keys)
    mistakes = ring.mistakes()
    yield from (Finding("dkim", str(path), mistake.expected) for path, mistake in mistakes.items())
    for file in ring.files() if not mistakes else []:
        problem = ""
        if not _is_readable(config, file.path):
            problem = "expected to be readable for the user that the programs run as"
        elif file.path.stat().st_mode & 0o077:
            problem = "expected to be for that user alone, as by chmod 600"
        yield Finding("dkim", str(file.path), problem)


def _resolver(config: Config) -> Iterator[Finding]:
    """Whose word DANE is heeded by; AD of a server that is far away is what anybody on the way makes of it."""
    if not config.policies.trusted_resolver:
        return
    problem = "" if trusts_resolver(config) else "expected nameservers in [dns]; without them there is no DANE"
    far = [each for each in config.dns.nameservers if not is_near(each)]
    if far:
        problem = f"expected servers on this machine or a private network, not {', '.join(far)}"
    yield Finding("trusted_resolver", ", ".join(config.dns.nameservers), problem)


def lmtp(config: Config) -> Iterator[Finding]:
    """The folder of the socket; whether the path is taken shows only while nobody of ours listens there."""
    if not config.listen.lmtp:
        return
    path = config.root / config.listen.lmtp
    problem = ""
    if len(os.fsencode(config.listen.lmtp)) > MAX_SOCKET_PATH:
        problem = f"is longer than {MAX_SOCKET_PATH} octets"
    elif not path.parent.is_dir():
        problem = "its folder is missing"
    elif path.exists() and not path.is_socket():
        problem = "is in the way: not a socket"
    yield Finding("lmtp", str(path), problem and f"{problem}; change lmtp in [listen] of {config.path.name}")


def _supervisor(config: Config) -> Iterator[Finding]:
    try:
        processes = Supervisor(config.supervisor_socket).processes()
    except SupervisorError:
        yield Finding("supervisord", "not running; `mailsrv up` starts it")
        yield from taken_ports(config)
        return
    yield Finding("supervisord", ", ".join(f"{each.name} {each.state.value}" for each in processes))


def taken_ports(config: Config) -> Iterator[Finding]:
    """The ports that we want and somebody else has; to be asked only while we do not run."""
    for name, port in config.ports().items():
        try:
            listening.bind(config.listen.address, port).close()
        except OSError as error:
            subject = f"{name} port"
            problem = f"{error.strerror}; choose another in [listen] of {config.path.name}"
            yield Finding(subject, f"{config.listen.address}:{port}", problem)


def _is_readable(config: Config, path: Path) -> bool:
    if owner_is_missing(config):  # which is told of by itself
        return True
    with acting_as(config):
        return os.access(path, os.R_OK, effective_ids=True)
