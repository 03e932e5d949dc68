"""Postfix as the next hop: one of our own that takes mail for a domain elsewhere into a Maildir; and its smtp-sink."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.clients.client import PATIENCE
from tests.clients.postfix import PROGRAM
from tests.system.instance import Instance, free_port_base, wait_until

DOMAIN = "elsewhere.example"
SINK = Path("/usr/sbin/smtp-sink")

_MAIN = Template("""\
compatibility_level = 3.6
queue_directory = $folder/queue
data_directory = $folder/data
maillog_file = $folder/log
maillog_file_prefixes = $folder
myhostname = hop.example
mydestination =
alias_maps =
alias_database =
virtual_mailbox_domains = $domain
virtual_mailbox_base = $folder/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:$uid
virtual_gid_maps = static:$gid
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
smtpd_relay_restrictions = reject_unauth_destination
message_size_limit = 50000000
smtputf8_enable = yes
smtpd_tls_security_level = $level
smtpd_tls_cert_file = $certificate
smtpd_tls_key_file = $key
smtpd_tls_received_header = yes
""")
_MASTER = Template("""\
$port inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
""")


@dataclass(frozen=True)
class NextHop:
    """A Postfix in `folder` that takes everything for DOMAIN."""

    folder: Path
    port: int

    @classmethod
    def configure(cls, folder: Path, instance: Instance, level: str = "may") -> "NextHop":
        """Write its settings; it shows the certificate of the instance."""
        folder.mkdir(mode=0o755)
        for name in ("queue", "data", "mail"):
            (folder / name).mkdir(mode=0o755)
        shutil.chown(folder / "data", "postfix")
        status = instance.new_mail.parents[3].stat()  # whoever the instance's programs are
        shutil.chown(folder / "mail", status.st_uid or 65534, status.st_gid or 65534)
        hop = cls(folder, free_port_base())
        tls = instance.root / "var" / "tls"
        main = _MAIN.substitute(
            folder=folder,
            domain=DOMAIN,
            level=level,
            uid=status.st_uid or 65534,
            gid=status.st_gid or 65534,
            certificate=tls / "cert.pem",
            key=tls / "key.pem",
        )
        (folder / "main.cf").write_text(main)
        (folder / "master.cf").write_text(_MASTER.substitute(port=hop.port))
        return hop

    @property
    def log(self) -> str:
        """What it has to say."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def wait_arrived(self, number: int) -> list[bytes]:
        """The messages in its Maildir, with CRLF."""
        new = self.folder / "mail" / "box" / "new"
        wait_until(lambda: new.is_dir() and len(list(new.iterdir())) >= number, f"{number} have come: {self.log}", 60)
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in sorted(new.iterdir())]

    def control(self, word: str) -> None:
        """`start` or `stop`."""
        done = subprocess.run(
            [PROGRAM, "-c", str(self.folder), word], check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log


@contextmanager
def sink(port: int, *options: str, heard: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """An smtp-sink at a port, which takes mail and throws it away, or does what the options say.

    What it hears and says goes to the file `heard`, with `-v`.
    """
    with heard.open("wb") if heard is not None else nullcontext(subprocess.DEVNULL) as log:
        process = subprocess.Popen(
            [SINK, "-u", "nobody", *options, f"127.0.0.1:{port}", "50"], stdout=subprocess.DEVNULL, stderr=log
        )
    try:
        wait_until(lambda: is_listening(port), "the sink listens")
        yield process
    finally:
        process.terminate()
        process.wait()


def is_listening(port: int) -> bool:
    """Whether somebody listens there, without a connection that would count."""
    wanted = f"0100007F:{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1] == wanted and line[3] == "0A" for line in lines)
