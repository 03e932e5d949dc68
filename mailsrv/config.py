"""The configuration: `mailsrv.toml`, read once, validated whole, frozen.

Every setting is a field below with its default; the comments become those of a new `mailsrv.toml`. Paths are made
from `root`. The programs work from inside their root and so know it as `.`: an instance works wherever the folder
lies, below folders that its user may not enter and with paths longer than a socket's name may be.
"""

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from mailsrv.model.address import GrammarError, parse_mailbox
from mailsrv.model.mistake import Mistake

FILE_NAME: Final = "mailsrv.toml"

# Offsets from the base port, in the order of `mailsrv init --port-base`. 1 and 2 are kept for submission.
PORT_OFFSETS: Final[Mapping[str, int]] = {"smtp": 0, "pop3": 3, "pop3s": 4}
STANDARD_PORTS: Final[Mapping[str, int]] = {"smtp": 25, "pop3": 110, "pop3s": 995}


def _doc(text: str, check: Callable[[Any], bool], expected: str) -> dict[str, Any]:
    return {"doc": text, "check": check, "expected": expected}


def _is_number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high


def _is_integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and isinstance(value, int) and low <= value <= high


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_domain(value: object) -> bool:
    try:
        return isinstance(value, str) and str(parse_mailbox(f"a@{value}")) == f"a@{value}"
    except GrammarError:
        return False


def _is_ip_address(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and bool(value) and all(check(each) for each in value)


_PORT: Final = (_is_integer(0, 65535), "a port from 1 to 65535, or 0 to switch it off")
_SECONDS: Final = (_is_number(0.01, 10_000_000), "a number of seconds")
# Below stopwaitsecs in supervisord.conf, after which a program is killed.
_DRAIN: Final = (_is_number(0, 15), "a number of seconds up to 15")
_SWITCH: Final = (_is_bool, "true or false")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the programs listen."""

    address: str = field(
        default="127.0.0.1",
        metadata=_doc("127.0.0.1 is this machine only, 0.0.0.0 everybody", _is_ip_address, "an IP address in quotes"),
    )
    smtp: int = field(default=2525, metadata=_doc("SMTP", *_PORT))
    pop3: int = field(default=2110, metadata=_doc("POP3; a password is taken from this machine only", *_PORT))
    pop3s: int = field(default=2995, metadata=_doc("POP3 with TLS", *_PORT))


@dataclass(frozen=True, slots=True)
class Smtp:
    """What `smtp` takes."""

    max_message_octets: int = field(
        default=52_428_800,
        metadata=_doc("the largest message (SIZE)", _is_integer(65_536, 2**40), "a number of octets from 65536"),
    )
    max_recipients: int = field(
        default=1000, metadata=_doc("recipients of one message", _is_integer(100, 10_000), "a number from 100 to 10000")
    )
    max_connections: int = field(
        default=1000, metadata=_doc("at once, from everybody", _is_integer(1, 100_000), "a number from 1 to 100000")
    )
    idle_timeout: float = field(default=300, metadata=_doc("seconds of silence before we hang up", *_SECONDS))
    drain_seconds: float = field(default=5, metadata=_doc("for transactions under way when we are stopped", *_DRAIN))


@dataclass(frozen=True, slots=True)
class Pop3:
    """How `pop3` serves."""

    max_connections: int = field(
        default=1000, metadata=_doc("at once, from everybody", _is_integer(1, 100_000), "a number from 1 to 100000")
    )
    idle_timeout: float = field(
        default=600,
        metadata=_doc(
            "seconds of silence before we hang up, 600 at least (RFC 1939)",
            _is_number(600, 86_400),
            "a number of seconds from 600",
        ),
    )
    drain_seconds: float = field(default=5, metadata=_doc("for commands under way when we are stopped", *_DRAIN))


@dataclass(frozen=True, slots=True)
class Delivery:
    """How `delivery` watches the spool."""

    events: bool = field(
        default=True, metadata=_doc("deliver at the moment a file appears; false: at each scan only", *_SWITCH)
    )
    scan_interval: float = field(default=10, metadata=_doc("seconds between scans of the spool", *_SECONDS))
    settle_seconds: float = field(
        default=2, metadata=_doc("a dropped file is whole when it was not changed for so long", *_SECONDS)
    )
    dotstuff: str = field(
        default="no",
        metadata=_doc(
            'dropped files have their leading dots doubled: "yes", "no", or "auto" (where every one of them is)',
            lambda value: value in {"auto", "yes", "no"},
            '"auto", "yes" or "no"',
        ),
    )
    retry_after: tuple[float, ...] = field(
        default=(60, 300, 900, 1800, 3600),
        metadata=_doc(
            "seconds before each new attempt, the last one for all that follow",
            _is_list_of(_is_number(1, 864_000)),
            "a list of numbers of seconds",
        ),
    )
    give_up_after: float = field(
        default=432_000, metadata=_doc("seconds until a waiting message is returned", *_SECONDS)
    )


@dataclass(frozen=True, slots=True)
class Health:
    """When `health` restarts a program."""

    interval: float = field(default=5, metadata=_doc("seconds between samples", *_SECONDS))
    cpu_limit: float = field(
        default=90, metadata=_doc("percent of one core", _is_number(1, 10_000), "a number of percent from 1")
    )
    busy_limit: float = field(
        default=600, metadata=_doc("seconds above cpu_limit that a program at work is left alone", *_SECONDS)
    )


@dataclass(frozen=True, slots=True)
class Drill:
    """For trying out the healing; leave it off."""

    hooks: bool = field(default=False, metadata=_doc("SIGUSR2 makes a program spin", *_SWITCH))


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set, and the paths of the instance."""

    root: Path
    domains: tuple[str, ...] = field(
        default=("localhost",),
        metadata=_doc(
            "the domains whose mailboxes are here; the first completes short names",
            _is_list_of(_is_domain),
            'a list of domains, such as ["example.org"]',
        ),
    )
    hostname: str = field(
        default="localhost",
        metadata=_doc("what this server calls itself", _is_domain, "a host name, such as mail.example.org"),
    )
    run_as: str = field(
        default="mailsrv",
        metadata=_doc(
            "the user to become when started by root; else without effect", _is_text, "a user's name in quotes"
        ),
    )
    listen: Listen = Listen()
    smtp: Smtp = Smtp()
    pop3: Pop3 = Pop3()
    delivery: Delivery = Delivery()
    health: Health = Health()
    drill: Drill = Drill()

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
    def tls(self) -> Path:
        return self.var / "tls"

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
    def log(self) -> Path:
        """Written by supervisord alone, for all programs."""
        return self.var / "log"

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

    def sockets_path(self, program: str) -> Path:
        """Where a program lends its listening sockets."""
        return self.run / f"{program}.sockets"

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
        tables = {"": Config, "listen": Listen, "smtp": Smtp, "pop3": Pop3}
        tables |= {"delivery": Delivery, "health": Health, "drill": Drill}
        values: dict[str, Any] = {}
        for name, value in document.items():
            if name in tables:
                if not isinstance(value, dict):
                    raise self._mistake("", name, f"expected [{name}], a table")
                values[name] = tables[name](**{key: self._value(name, tables[name], key, value[key]) for key in value})
            else:
                values[name] = self._value("", Config, name, value)
        return Config(root=root, **values)

    def _value(self, table: str, kind: type[Any], key: str, value: object) -> object:
        settings = {each.name: each.metadata for each in fields(kind) if each.metadata}
        if key not in settings:
            known = ", ".join(settings)
            raise self._mistake(table, key, f"there is no setting {key!r} here; expected one of: {known}")
        if not settings[key]["check"](value):
            raise self._mistake(table, key, f"{key} = {value!r}: expected {settings[key]['expected']}")
        return tuple(value) if isinstance(value, list) else value

    def _mistake(self, table: str, key: str, expected: str) -> Mistake:
        return Mistake(self._path, self._line_of(table, key), expected)

    def _line_of(self, table: str, key: str) -> int:
        """Where a setting, or a table, stands; tomllib does not tell."""
        current = ""
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\s*\"?([\w-]+)\"?\s*\]", line):
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
    lines += _render_settings(config)
    for table in fields(config):
        if table.name in {"listen", "smtp", "pop3", "delivery", "health", "drill"}:
            lines += ["", f"[{table.name}]", *_render_settings(getattr(config, table.name))]
    return "\n".join(lines) + "\n"


def _render_settings(table: Any) -> list[str]:
    lines = []
    for setting in fields(table):
        if setting.metadata:
            lines.append(f"# {setting.metadata['doc']}")
            lines.append(f"{setting.name} = {_render_value(getattr(table, setting.name))}")
    return lines


def _render_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_render_value(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
