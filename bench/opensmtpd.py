"""An OpenSMTPD of our own that delivers to a Maildir, as a peer to measure: unpacked, not installed, started as root.

It is as it comes, but for how large a message may be, how many there may be in a session, and look-ups of the client's
name, which are made in files only.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Final

from bench.contender import Contender
from bench.process import can_see_its_own, foreground, seeing, with_users

PACKAGES: Final = "opensmtpd"  # of Debian
_BACKLOG: Final = 5  # connections that the kernel keeps for it; beyond them they are lost for seconds
_FIRST_USER: Final = 64901  # numbers of users that nobody has
_SETTINGS = Template("""\
smtp max-message-size "60M"
smtp limit max-mails 1000000
listen on 127.0.0.1 port $port hostname peer.example
action "deliver" maildir "$mail/admin"
match from any for domain "localhost" action "deliver"
""")


def is_here(peers: Path) -> bool:
    """Whether it is unpacked in this folder, and can run."""
    return (peers / "usr/sbin/smtpd").exists() and can_see_its_own()


@contextmanager
def running(peers: Path, folder: Path, port: int, spent: Path) -> Iterator[Contender]:
    """Start it, and stop it again; raises RuntimeError where it does not start."""
    mail = folder / "mail"
    for each in (folder, folder / "spool", folder / "run", mail, folder / "lib/opensmtpd/empty"):
        each.mkdir(mode=0o755, parents=True)
    empty = Path("/var/lib/opensmtpd/empty")
    names = {"opensmtpd": empty, "opensmtpq": empty, "admin": mail}
    users = {name: (_FIRST_USER + number, home) for number, (name, home) in enumerate(names.items())}
    own = with_users(folder, users)
    own |= {Path("/var/spool"): folder / "spool", Path("/var/lib"): folder / "lib", Path("/run"): folder / "run"}
    resolver = folder / "resolv.conf"
    resolver.write_text("lookup file\n")
    own |= {Path("/usr/libexec"): peers / "usr/libexec", Path("/etc/resolv.conf"): resolver}
    os.chown(mail, users["admin"][0], -1)
    settings = folder / "smtpd.conf"
    settings.write_text(_SETTINGS.substitute(port=port, mail=mail))
    command = seeing(own, [peers / "usr/sbin/smtpd", "-d", "-f", settings])
    with foreground(command, folder / "output", [port]) as process:
        yield Contender("OpenSMTPD", port, mail / "admin" / "new", (process.pid,), spent, at_once=_BACKLOG)
