"""A Dovecot of our own that serves the mailboxes of an instance: a peer to measure, and a neighbour to get along with.

Everything of it is in one folder and on loopback; nothing of the system is touched. It is tuned as an operator would
who wants it fast: answers of the password database are cached, processes for logins and for sessions of POP3 are kept,
and passwords are stored so that a check costs nothing (which is faster than it would be in earnest). The rest is as
Dovecot's own defaults are, `mail_fsync` included: `optimized` syncs what would else be lost.
"""

import getpass
import grp
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Final

from bench.process import foreground

PROGRAM: Final = Path("/usr/sbin/dovecot")
PACKAGES: Final = "dovecot-imapd dovecot-pop3d"  # of Debian

_SETTINGS = Template("""\
protocols = imap pop3
listen = 127.0.0.1
base_dir = $folder/run
state_dir = $folder/state
log_path = $folder/log
ssl = no
disable_plaintext_auth = no
auth_cache_size = 10M
auth_cache_ttl = 1 hour
mail_max_userip_connections = 1000
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:$mail/%Ld/%Ln
passdb {
  driver = passwd-file
  args = $folder/passwords
}
userdb {
  driver = static
  args = uid=$uid gid=$gid home=$mail/%Ld/%Ln
}
service imap-login {
  service_count = 0
  process_min_avail = 1
  inet_listener imap {
    port = $imap_port
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3 {
  service_count = 0
}
service pop3-login {
  service_count = 0
  process_min_avail = 1
  inet_listener pop3 {
    port = $pop3_port
  }
  inet_listener pop3s {
    port = 0
  }
}
""")
_WITHOUT_ROOT = Template("""\
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
service anvil {
  chroot =
}
service imap-login {
  chroot =
}
service pop3-login {
  chroot =
}
""")


@dataclass(frozen=True)
class Dovecot:
    """A running Dovecot; by both ports it takes passwords in the clear."""

    folder: Path
    imap_port: int
    pop3_port: int
    pid: int = 0  # of its first process, once it runs

    @property
    def log(self) -> str:
        """What it has to say."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""


def is_here() -> bool:
    """Whether this machine has it."""
    return PROGRAM.exists()


@contextmanager
def running(folder: Path, mail: Path, passwords: Mapping[str, str], ports: tuple[int, int]) -> Iterator[Dovecot]:
    """Start it over the Maildirs `mail/DOMAIN/USER`, as their owner, and stop it again.

    `folder` is made, has a short name (unix sockets) and lies where everybody may enter; `passwords` are by address;
    `ports` are for IMAP and POP3. Raises RuntimeError, with its log, where it does not start.
    """
    folder.mkdir(mode=0o755)
    made = Dovecot(folder, *ports)
    settings = _write_settings(made, mail, passwords)
    command: list[str | Path] = [PROGRAM, "-F", "-c", settings]
    with foreground(command, folder / "output", ports, lambda: made.log) as process:
        yield replace(made, pid=process.pid)


def _write_settings(made: Dovecot, mail: Path, passwords: Mapping[str, str]) -> Path:
    owner = mail.stat()
    text = _SETTINGS.substitute(
        folder=made.folder,
        mail=mail,
        uid=owner.st_uid,
        gid=owner.st_gid,
        imap_port=made.imap_port,
        pop3_port=made.pop3_port,
    )
    lines = "".join(f"{address}:{{PLAIN}}{password}\n" for address, password in passwords.items())
    path = made.folder / "passwords"
    path.touch(mode=0o600)
    path.write_text(lines)
    if os.geteuid() == 0:
        shutil.chown(path, "dovecot")  # the user of its process for passwords
    else:
        text += _WITHOUT_ROOT.substitute(user=getpass.getuser(), group=grp.getgrgid(os.getegid()).gr_name)
    settings = made.folder / "dovecot.conf"
    settings.write_text(text)
    return settings
