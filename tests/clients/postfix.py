"""A Postfix of our own, as the server in front: everything of it is in one folder, nothing of the system is touched.

It has two ports. What comes in by one it sends on by SMTP with TLS, by the other by LMTP: a content filter is the one
thing of Postfix that says where to, whatever the recipient is.
"""

import shutil
import smtplib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.clients.client import HOST, PATIENCE
from tests.clients.messages import Message
from tests.system.instance import Instance, free_port_base

PROGRAM = Path("/usr/sbin/postfix")

_MAIN = Template("""\
compatibility_level = 3.6
queue_directory = $folder/queue
data_directory = $folder/data
maillog_file = $folder/log
maillog_file_prefixes = $folder
myhostname = relay.example
mydestination =
relay_domains = $host
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = 50000000
mailbox_size_limit = 0
local_header_rewrite_clients =
smtputf8_enable = yes
smtp_host_lookup = native
smtp_tls_security_level = $level
smtp_tls_CAfile = $certificate
smtp_tls_loglevel = 1
lmtp_tls_security_level = none
""")
_MASTER = Template("""\
$smtp inet n - n - - smtpd
  -o content_filter=smtp:[$host]:$to_smtp
$lmtp inet n - n - - smtpd
  -o content_filter=lmtp:unix:$to_lmtp
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""")


@dataclass(frozen=True)
class Postfix:
    """A Postfix in `folder`; what comes in at a port of `ports` goes on by that protocol."""

    folder: Path
    ports: dict[str, int]

    @classmethod
    def configure(cls, folder: Path, instance: Instance, lmtp: Path) -> "Postfix":
        """Write its settings."""
        folder.mkdir(mode=0o755)
        for name in ("queue", "data"):
            (folder / name).mkdir(mode=0o755)
        shutil.chown(folder / "data", "postfix")
        base = free_port_base()
        postfix = cls(folder, {"smtp": base, "lmtp": base + 1})
        # "secure": the certificate has to be one of the given file, with the name that was connected to.
        main = _MAIN.substitute(folder=folder, host=HOST, level="secure", certificate=instance.certificate)
        master = _MASTER.substitute(postfix.ports, host=HOST, to_smtp=instance.smtp_port, to_lmtp=lmtp)
        (folder / "main.cf").write_text(main)
        (folder / "master.cf").write_text(master)
        return postfix

    def start(self) -> None:
        """Start it; it has its ports when this returns."""
        self._control("start")

    def stop(self) -> None:
        """Stop it with all its processes."""
        self._control("stop")

    def send(self, protocol: str, message: Message) -> None:
        """Give it a message that it shall send on by `protocol`."""
        options = ["BODY=8BITMIME"] + (["SMTPUTF8"] if not message.recipient.isascii() else [])
        with smtplib.SMTP("127.0.0.1", self.ports[protocol], timeout=PATIENCE) as client:
            client.sendmail("alice@example.org", [message.recipient], message.content, options)

    @property
    def log(self) -> str:
        """What it has to say."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def _control(self, word: str) -> None:
        done = subprocess.run(
            [PROGRAM, "-c", str(self.folder), word], check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log
