"""An Exim of our own that delivers to a Maildir, as a peer to measure: unpacked, not installed.

It is as it comes, but for limits of sessions and messages, look-ups of the client's name, and TLS. It runs wholly as
its own user, without root's rights, and so needs not be started anew for each delivery.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Final

from bench.contender import Contender
from bench.process import can_see_its_own, foreground, seeing, with_users

PACKAGES: Final = "exim4-daemon-light"  # of Debian
_USER: Final = 64911  # a number that nobody has
_SETTINGS = Template("""\
exim_path = $program
spool_directory = $folder/spool
log_file_path = $folder/log/%slog
pid_file_path = $folder/spool/exim.pid
primary_hostname = peer.example
daemon_smtp_ports = $port
local_interfaces = 127.0.0.1
domainlist ours = localhost
acl_smtp_rcpt = recipient
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 60M
host_lookup =
tls_advertise_hosts =
keep_environment =
deliver_drop_privilege = true
begin acl
recipient:
  accept domains = +ours
  deny message = relay not permitted
begin routers
local:
  driver = accept
  domains = +ours
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = $folder/mail/admin
  maildir_format
  return_path_add
  delivery_date_add
  envelope_to_add
begin retry
* * F,2h,15m
""")


def is_here(peers: Path) -> bool:
    """Whether it is unpacked in this folder, and can run."""
    return (peers / "usr/sbin/exim4").exists() and can_see_its_own()


@contextmanager
def running(peers: Path, folder: Path, port: int, spent: Path) -> Iterator[Contender]:
    """Start it, and stop it again; raises RuntimeError where it does not start."""
    folder.mkdir(mode=0o755)
    for name in ("spool", "mail", "log"):
        (folder / name).mkdir(mode=0o755)
        os.chown(folder / name, _USER, _USER)
    program = peers / "usr/sbin/exim4"
    settings = folder / "exim.conf"
    settings.write_text(_SETTINGS.substitute(program=program, folder=folder, port=port))
    own = with_users(folder, {"Debian-exim": (_USER, folder / "spool")})
    command = seeing(own, [program, "-C", settings, "-bdf"])
    with foreground(command, folder / "output", [port]) as process:
        mailbox = folder / "mail" / "admin" / "new"
        yield Contender("Exim", port, mailbox, (process.pid,), spent, counts_cpu=False)
