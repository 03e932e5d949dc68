"""The configuration: `mailsrv.toml`, read once, validated whole, frozen.

The settings stand in the `settings*.py`, those of no table below. Paths are made from `root`. The
programs work from inside their root and so know it as `.`: an instance works wherever the folder lies, below folders
that its user may not enter and with paths longer than a socket's name may be.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from mailsrv.model.mistake import Mistake
from mailsrv.settings import (
    Delivery,
    Drill,
    Health,
    Ledger,
    Listen,
    Logins,
    Pop3,
    Quotas,
    Routing,
    Smtp,
)
from mailsrv.settings_outgoing import Dkim, Policies, Records
from mailsrv.settings_relay import Dns, Relay
from mailsrv.toml_text import rendered
from mailsrv.values import described, is_domain, is_host_name, is_list_of, is_text

FILE_NAME: Final = "mailsrv.toml"

# Offsets from the base port of `mailsrv init --port-base`.
PORT_OFFSETS: Final[Mapping[str, int]] = {"smtp": 0, "submission": 1, "submissions": 2, "pop3": 3, "pop3s": 4}
STANDARD_PORTS: Final[Mapping[str, int]] = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "pop3": 110,
    "pop3s": 995,
}
TABLES: Final[Mapping[str, type]] = {
    "listen": Listen,
    "smtp": Smtp,
    "pop3": Pop3,
    "logins": Logins,
    "routing": Routing,
    "quota": Quotas,
    "delivery": Delivery,
    "relay": Relay,
    "dns": Dns,
    "policies": Policies,
    "dkim": Dkim,
    "records": Records,
    "health": Health,
    "ledger": Ledger,
    "drill": Drill,
}


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set, and the paths of the instance."""

    root: Path
    domains: tuple[str, ...] = field(
        default=("localhost",),
        metadata=described(
            "the domains whose mailboxes are here; the first completes short names",
            is_list_of(is_domain),
            'a list of domains, such as ["example.org"]',
        ),
    )
    hostname: str = field(
        default="localhost",
        metadata=described(
            "what this server calls itself", is_host_name, "a host name in ASCII, such as mail.example.org"
        ),
    )
    run_as: str = field(
        default="mailsrv",
        metadata=described(
            "the user to become when started by root; else without effect", is_text, "a user's name in quotes"
        ),
    )
    listen: Listen = field(default_factory=Listen)
    smtp: Smtp = field(default_factory=Smtp)
    pop3: Pop3 = field(default_factory=Pop3)
    logins: Logins = field(default_factory=Logins)
    routing: Routing = field(default_factory=Routing)
    quota: Quotas = field(default_factory=Quotas)
    delivery: Delivery = field(default_factory=Delivery)
    relay: Relay = field(default_factory=Relay)
    dns: Dns = field(default_factory=Dns)
    policies: Policies = field(default_factory=Policies)
    dkim: Dkim = field(default_factory=Dkim)
    records: Records = field(default_factory=Records)
    health: Health = field(default_factory=Health)
    ledger: Ledger = field(default_factory=Ledger)
    drill: Drill = field(default_factory=Drill)

    @property
    def path(self) -> Path:
        return self.root / FILE_NAME

    @property
    def supervisord_conf(self) -> Path:
        return self.root / "supervisord.conf"

    @property
    def var(self) -> Path:
        return self.root / "var"

    @property
    def spool(self) -> Path:
        return self.var / "spool"

    @property
    def mail(self) -> Path:
        return self.var / "mail"

    @property
    def run(self) -> Path:
        """Heartbeats, locks and the sockets between the programs."""
        return self.var / "run"

    @property
    def incidents(self) -> Path:
        return self.var / "incidents"

    @property
    def turns(self) -> Path:
        """The locks by which delivery and the operator's commands take turns at the spool."""
        return self.run / "spool.turn"

    @property
    def relay_turns(self) -> Path:
        """The same for the relay, which moves other entries than delivery does."""
        return self.run / "relay.turn"

    @property
    def relay_password(self) -> Path:
        """The password for the smarthost, alone in its file."""
        return self.var / "relay.password"

    def route_password(self, pattern: str) -> Path:
        """The same of the route of a domain, or of all below one, in small letters and A-labels."""
        return self.relay_password.with_name(f"{self.relay_password.name}.{pattern}")

    @property
    def dkim_keys(self) -> Path:
        """The folder with the private keys of each domain."""
        return self.var / "dkim"

    @property
    def sts_policies(self) -> Path:
        """The MTA-STS policies of other domains, as long as they hold."""
        return self.run / "sts"

    def attempt_path(self, program: str) -> Path:
        """What delivery, or the relay, has in hand."""
        return self.run / f"{program}.attempt"

    @property
    def worst_wait(self) -> Path:
        """The longest that a message has ever waited to be decided."""
        return self.run / "worst_wait"

    @property
    def tls(self) -> Path:
        return self.var / "tls"

    @property
    def failed_logins(self) -> Path:
        """What `smtp` and `pop3` know of failed logins, together."""
        return self.run / "logins"

    @property
    def secret(self) -> Path:
        """Octets that nobody else knows: what a login name that does not exist looks like is made from them."""
        return self.var / "secret"

    @property
    def certificate(self) -> Path:
        return self.tls / "cert.pem"

    @property
    def private_key(self) -> Path:
        return self.tls / "key.pem"

    @property
    def accounts(self) -> Path:
        return self.var / "accounts"

    @property
    def aliases(self) -> Path:
        return self.var / "aliases"

    @property
    def lists(self) -> Path:
        return self.var / "lists"

    @property
    def transforms(self) -> Path:
        return self.var / "transforms"

    @property
    def quotas(self) -> Path:
        return self.var / "quotas"

    @property
    def away(self) -> Path:
        """The folder with a file for each account that is away."""
        return self.var / "away"

    @property
    def log(self) -> Path:
        """Written by supervisord alone, for all programs; but for the ledger."""
        return self.var / "log"

    @property
    def books(self) -> Path:
        """The ledger: the programs' own folder, in which supervisord writes nothing."""
        return self.log / "ledger"

    @property
    def audit(self) -> Path:
        """What the last audit of `health` came to."""
        return self.run / "audit.json"

    @property
    def probe(self) -> Path:
        """The password of the mailbox that `health` sends messages to."""
        return self.var / "probe"

    @property
    def courses(self) -> Path:
        """What `health` has healed lately."""
        return self.run / "health.courses"

    @property
    def trend(self) -> Path:
        """The CPU use of the programs over days."""
        return self.run / "health.trend"

    @property
    def supervisor_socket(self) -> Path:
        """In a folder of supervisord's own: what runs as root writes nowhere else."""
        return self.var / "supervisor" / "supervisor.sock"

    @property
    def supervisor_pid(self) -> Path:
        return self.supervisor_socket.with_name("supervisord.pid")

    def beat_path(self, program: str) -> Path:
        """The heartbeat of a program, by its supervisor name."""
        return self.run / f"{program}.beat"

    def stacks_path(self, program: str) -> Path:
        """Where a program writes its stacks when it is asked to."""
        return self.run / f"{program}.stacks"

    def steps_path(self, program: str) -> Path:
        """The last steps of a program."""
        return self.run / f"{program}.steps"

    def fault_path(self, program: str) -> Path:
        """What a drill wants a program to suffer from."""
        return self.run / f"{program}.fault"

    def sockets_path(self, program: str) -> Path:
        """Where a program lends its listening sockets."""
        return self.run / f"{program}.sockets"

    def door_path(self, process: str) -> Path:
        """A unix socket at which one of several processes answers `health`, and nobody else."""
        return self.run / f"{process}.door"

    def binding_path(self, program: str) -> Path:
        """The lock of several processes of a program that are about to bind the same sockets."""
        return self.run / f"{program}.binding"

    def ports(self) -> dict[str, int]:
        """Listener names with their ports, those that are switched off left out."""
        named = {name: getattr(self.listen, name) for name in PORT_OFFSETS}
        return {name: port for name, port in named.items() if port}


def load(root: Path) -> Config:
    """The configuration of the instance at `root`; raises Mistake with file, line and what was expected."""
    path = root / FILE_NAME
    try:
        return parse(root, path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise Mistake(path, 0, "expected to be there; `mailsrv init DIR` makes one") from error
    except OSError as error:
        raise Mistake(path, 0, f"expected to be readable: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(path, 0, "expected UTF-8 text") from error


def parse(root: Path, text: str) -> Config:
    """What `text` means as the `mailsrv.toml` of the instance at `root`; raises Mistake."""
    path = root / FILE_NAME
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Mistake(path, _line_in(str(error)), f"expected TOML: {error}") from error
    return _Reader(path, text).read(root, document)


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def read(self, root: Path, document: dict[str, Any]) -> Config:
        values: dict[str, Any] = {}
        for name, value in document.items():
            if name in TABLES:
                if not isinstance(value, dict):
                    raise self._mistake("", name, f"expected [{name}], a table")
                values[name] = TABLES[name](**{key: self._value(name, TABLES[name], key, value[key]) for key in value})
            else:
                values[name] = self._value("", Config, name, value)
        return Config(root=root, **values)

    def _value(self, table: str, kind: type[Any], key: str, value: object) -> object:
        settings = {each.name: each.metadata for each in fields(kind) if each.metadata}
        if key not in settings:
            known = ", ".join(settings)
            raise self._mistake(table, key, f"there is no setting {key!r} here; expected one of: {known}")
        if settings[key].get("is_table"):
            return self._pairs(f"{table}.{key}", settings[key], value)
        if not settings[key]["check"](value):
            raise self._mistake(table, key, f"{key} = {value!r}: expected {settings[key]['expected']}")
        return tuple(value) if isinstance(value, list) else value

    def _pairs(self, table: str, setting: Mapping[str, Any], value: object) -> tuple[tuple[str, str], ...]:
        """A table in a table: names that are not settings, with what is set for each."""
        if not isinstance(value, dict):
            raise self._mistake("", table, f"expected [{table}], a table")
        for name, text in value.items():
            if not setting["check"]((name, text)):
                raise self._mistake(table, name, f"{name!r} = {text!r}: expected {setting['expected']}")
        return tuple(value.items())

    def _mistake(self, table: str, key: str, expected: str) -> Mistake:
        return Mistake(self._path, self._line_of(table, key), expected)

    def _line_of(self, table: str, key: str) -> int:
        """Where a setting, or a table, stands; tomllib does not tell."""
        current = ""
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\s*\"?([\w.-]+)\"?\s*\]", line):
                current = header.group(1)
                if not table and current == key:
                    return number
            elif current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
                return number
        return 0


def _line_in(error: str) -> int:
    place = re.search(r"at line (\d+)", error)
    return int(place.group(1)) if place else 0


def render(config: Config) -> str:
    """`config` as a `mailsrv.toml` with a comment on every setting."""
    lines = ["# mailsrv: every setting with its default or your value; `mailsrv check` reads it.", ""]
    lines += rendered(config)
    for table in fields(config):
        if table.name in TABLES:
            lines += ["", f"[{table.name}]", *rendered(getattr(config, table.name), table.name)]
    return "\n".join(lines) + "\n"
