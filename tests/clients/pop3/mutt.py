"""mutt: opens the mailbox as a folder, and saves from it into a Maildir."""

import contextlib
import os
import pty
import re
import subprocess
from pathlib import Path
from urllib.parse import quote

from tests.clients.client import HOST, PATIENCE, Done, Service, Way, said_by, write
from tests.clients.pop3.reader import Reader

_ADDED = re.compile(rb"(?m)^(Content-Length|Lines): \d+\n")
# It would go on without a mailbox and take keys, or ask whether to trust the certificate.
_FAILED = re.compile(rb"No mailbox is open|\(r\)eject")


class Mutt(Reader):
    """Knows by UIDL, in its message cache, what it has read. Adds Content-Length and Lines."""

    name = "mutt"
    program = "mutt"
    package = "mutt"
    mechanisms = ("USER", "PLAIN", "SCRAM-SHA-256")

    def lacks(self, mechanism: str) -> str:
        if mechanism.startswith("SCRAM") and "+USE_GSASL" not in said_by("mutt", "-v"):
            return "this mutt is built without gsasl"
        return ""

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        for name in ("tmp", "new", "cur"):
            (folder / "mail" / name).mkdir(parents=True, exist_ok=True)
        muttrc = write(folder / "muttrc", "".join(f"{line}\n" for line in _settings(service, folder, keep)).encode())
        return _run_in_terminal(["mutt", "-n", "-F", str(muttrc)], folder)

    def stored(self, folder: Path) -> dict[str, bytes]:
        return {name: _ADDED.sub(b"", content, count=2) for name, content in super().stored(folder).items()}


def _settings(service: Service, folder: Path, keep: bool) -> list[str]:
    scheme = "pops" if service.way is Way.TLS else "pop"
    with_tls = service.way is not Way.PLAIN
    settings = [f'spoolfile="{scheme}://{quote(service.user, safe="")}@{HOST}:{service.port}/"', "mbox_type=Maildir"]
    settings += [f'pop_pass="{service.password}"', f'pop_authenticators="{service.mechanism.lower() or "user"}"']
    settings += [f"ssl_starttls={'yes' if with_tls else 'no'}", f"ssl_force_tls={'yes' if with_tls else 'no'}"]
    settings += [f'certificate_file="{service.certificate}"', f'message_cachedir="{folder}/seen"']
    settings += [
        "pop_delete=yes",
        f'folder="{folder}"',
        "confirmcreate=no",
        "delete=yes",
        "quit=yes",
        "move=no",
        "confirmappend=no",
        "sleep_time=0",
    ]
    settings += ["wait_key=no", "pop_reconnect=no", "mark_old=yes", "mail_check=0"]
    save = "copy" if keep else "save"
    keys = f"<tag-pattern>~N<enter><tag-prefix-cond><{save}-message><kill-line>{folder}/mail<enter><end-cond><quit>"
    return [*(f"set {each}" for each in settings), f'push "{keys}"']


def _run_in_terminal(command: list[str], folder: Path) -> Done:
    """Run a program that wants a terminal, until it ends or has failed; what it shows there counts as its output."""
    known = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder), "TERM": "xterm"}
    ours, its = pty.openpty()
    shown = b""
    with os.fdopen(ours, "rb", 0) as terminal:
        command = ["timeout", str(PATIENCE), *command]
        process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=folder, env=known)
        os.close(its)
        with contextlib.suppress(OSError):  # Linux says so when the last program has left the terminal
            while octets := terminal.read(65536):
                shown += octets
                if _FAILED.search(shown):
                    process.terminate()
        code = process.wait(PATIENCE) or int(_FAILED.search(shown) is not None)
        return subprocess.CompletedProcess(command, code, shown, b"")
