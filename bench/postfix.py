"""A Postfix of our own that delivers to a Maildir, as a peer to measure: one folder, loopback, started as root.

It is as Debian's Postfix is after its installation, but for what would slow it down for no reason here: no look-up of
the client's name, no limit for connections from one address, no pause where mail comes in fast.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

PROGRAM: Final = Path("/usr/sbin/postfix")
PACKAGES: Final = "postfix"  # of Debian
_PATIENCE: Final = 30.0  # seconds

_MAIN = Template("""\
compatibility_level = 3.6
queue_directory = $folder/queue
data_directory = $folder/data
maillog_file = $folder/log
maillog_file_prefixes = $folder
myhostname = peer.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
message_size_limit = 60000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = localhost
virtual_mailbox_base = $folder/mail
virtual_mailbox_maps = static:admin/
virtual_minimum_uid = 1
virtual_uid_maps = static:$uid
virtual_gid_maps = static:$gid
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
""")
_MASTER = Template("""\
$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""")


@dataclass(frozen=True)
class Postfix:
    """A running Postfix; `mailbox` is where its new mail comes in, `pid` its master."""

    folder: Path
    port: int

    @property
    def mailbox(self) -> Path:
        """Where new mail comes in."""
        return self.folder / "mail" / "admin" / "new"

    @property
    def pid(self) -> int:
        """The process that has started all others."""
        return int((self.folder / "queue" / "pid" / "master.pid").read_text())


def is_here() -> bool:
    """Whether this machine has it."""
    return PROGRAM.exists()


@contextmanager
def running(folder: Path, port: int) -> Iterator[Postfix]:
    """Start it, and stop it again; raises RuntimeError where it does not start."""
    folder.mkdir(mode=0o755)
    for name in ("queue", "data", "mail"):
        (folder / name).mkdir(mode=0o755)
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "nobody", "nogroup")
    owner = (folder / "mail").stat()
    main = _MAIN.substitute(folder=folder, uid=owner.st_uid, gid=owner.st_gid)
    (folder / "main.cf").write_text(main)
    (folder / "master.cf").write_text(_MASTER.substitute(port=port))
    _control(folder, "start")
    try:
        yield Postfix(folder, port)
    finally:
        _control(folder, "stop")


def _control(folder: Path, word: str) -> None:
    done = subprocess.run([PROGRAM, "-c", folder, word], check=False, capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
