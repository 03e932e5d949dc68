"""A temporary instance to measure: made, started, removed."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "admin@localhost"
PORT_BASE = 41520
MAILSRV = (sys.executable, "-m", "mailsrv.cli.main")


@contextmanager
def instance(**smtp_settings: object) -> Iterator[Path]:
    """The root of a running instance with these settings of the table [smtp]; its ports begin at PORT_BASE."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-bench-"))
    root = folder / "instance"
    init = [*MAILSRV, "init", str(root), "--port-base", str(PORT_BASE), "--run-as", "nobody"]
    subprocess.run(init, check=True, capture_output=True)
    path = root / "mailsrv.toml"
    head, smtp = path.read_text().split("[smtp]\n")
    for name, value in smtp_settings.items():
        smtp, number = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", smtp, count=1)
        assert number == 1, name
    path.write_text(f"{head}[smtp]\n{smtp}")
    subprocess.run([*MAILSRV, "--root", str(root), "up", "--detach"], check=True, capture_output=True)
    try:
        yield root
    finally:
        subprocess.run([*MAILSRV, "--root", str(root), "down"], check=True, capture_output=True)
        shutil.rmtree(folder)


def mailbox_of(root: Path) -> Path:
    """Where new mail of USER comes in."""
    return root / "var" / "mail" / "localhost" / "admin" / "new"


def emptied(mailbox: Path) -> Path:
    """The mailbox, with nothing in it."""
    shutil.rmtree(mailbox)
    mailbox.mkdir(mode=0o700)
    shutil.chown(mailbox, mailbox.parent.stat().st_uid)
    return mailbox
