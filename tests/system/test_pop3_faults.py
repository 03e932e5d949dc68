"""POP3 while its disk is at fault, each fault being the real one: what can be read is, and no password is wrong."""

import errno
import functools
import os
import poplib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsrv.store.maildrop import LOCK_NAME
from tests.faults.running import fill, is_root, mount, unmount
from tests.system.instance import Instance, wait_until
from tests.system.test_pop3 import logged_in, messages, refused_with

SMALL = b"Subject: small\n\nIt works.\n"


@pytest.fixture
def box(instance: Instance) -> Iterator[Path]:
    """The mailbox, which a filesystem may be mounted at."""
    folder = instance.new_mail.parent
    assert messages(instance) == 0  # which makes it
    yield folder
    unmount(folder)


def put(box: Path, name: str, octets: bytes) -> None:
    """A Maildir with a message in it, which belongs to the server."""
    for folder in ("tmp", "new", "cur"):
        (box / folder).mkdir(exist_ok=True)
    (box / "new" / name).write_bytes(octets)
    (box / LOCK_NAME).touch()
    for path in (box, *box.rglob("*")):
        shutil.chown(path, "nobody")


def on_disk(disk: Path, mark: bytes) -> int:
    """Where something begins in the file behind a filesystem, or 0."""
    return max(0, disk.read_bytes().find(mark))


def refused(code: str) -> "pytest.RaisesExc[poplib.error_proto]":
    return pytest.raises(poplib.error_proto, match=rf"\[{code}\]")


@is_root
def test_mail_is_read_from_a_filesystem_that_has_become_read_only(instance: Instance, box: Path) -> None:
    mount("tmpfs", "tmpfs", box, "size=1m")
    put(box, "1.small", SMALL)
    subprocess.run(["mount", "-o", "remount,ro", str(box)], check=True)
    with logged_in(instance) as client:
        assert client.retr(1)[1] == SMALL.splitlines()
        assert refused_with(instance, "[IN-USE]")
        client.dele(1)
        with refused("SYS/PERM"):
            client.quit()
    subprocess.run(["mount", "-o", "remount,rw", str(box)], check=True)
    (box / LOCK_NAME).unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(box)], check=True)
    assert refused_with(instance, "[SYS/PERM]")


@is_root
def test_mail_is_read_and_deleted_where_the_disk_is_full(instance: Instance, box: Path) -> None:
    mount("tmpfs", "tmpfs", box, "size=64k")
    put(box, "1.small", SMALL)
    fill(box)
    with logged_in(instance) as client:
        assert client.retr(1)[1] == SMALL.splitlines()
        client.dele(1)
        client.quit()
    assert messages(instance) == 0


@is_root
def test_a_disk_that_cannot_be_read_is_a_fault_that_may_pass(instance: Instance, box: Path) -> None:
    disk = instance.root / "disk"
    with disk.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    made = subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", str(disk)], check=False)
    if made.returncode:
        pytest.skip("no filesystem can be made here")
    mount("ext4", str(disk), box, "loop")
    put(box, "1.small,S=26,W=29", SMALL)
    put(box, "2.large,S=1800016,W=1900017", b"Subject: large\n\n" + (b"x" * 17 + b"\n") * 100_000)
    unmount(box)
    first = min(
        wait_until(functools.partial(on_disk, disk, mark), "it is on disk") for mark in (b"Subject: s", b"Subject: l")
    )
    mount("ext4", str(disk), box, "loop")
    assert messages(instance) == 2  # the folders are known from now on, and the octets are not
    octets = disk.read_bytes()
    os.truncate(disk, first)
    with pytest.raises(OSError, match="Input/output error") as caught:
        (box / "new" / "1.small,S=26,W=29").read_bytes()
    assert caught.value.errno == errno.EIO
    with logged_in(instance) as client:
        for number in (1, 2):
            with refused("SYS/TEMP"):
                client.retr(number)
        client.quit()
    disk.write_bytes(octets)
    with logged_in(instance) as client:
        assert client.retr(1)[1] == SMALL.splitlines()


@is_root
def test_what_only_a_person_can_mend_is_told_as_such(instance: Instance, box: Path) -> None:
    put(box, "1.small,S=26,W=29", SMALL)
    shutil.chown(box / "new" / "1.small,S=26,W=29", "root")
    (box / "new" / "1.small,S=26,W=29").chmod(0o600)
    shutil.chown(box / "new", "root")
    (box / "new").chmod(0o755)
    with logged_in(instance) as client:
        with refused("SYS/PERM"):
            client.retr(1)
        client.dele(1)
        with refused("SYS/PERM"):
            client.quit()
    (box / "new").rename(box / "away")
    with logged_in(instance) as client:  # a folder that is missing is made
        assert client.stat() == (0, 0)
        (box / "cur").rename(box / "cur.away")
        client.quit()
    assert messages(instance) == 0
