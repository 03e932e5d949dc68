"""Each fault is the real condition; while it lasts mail waits, when it is over mail arrives, exactly once."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mailsrv.config import Config, render
from mailsrv.store.spool import Spool, State
from tests.faults.running import (
    MAIL,
    NOBODY,
    WATCHES,
    Inotify,
    Running,
    assert_arrived_once,
    become,
    can_limit_watches,
    fill,
    instance,
    is_root,
    limit_watches,
    mount,
    take_all_inotify_instances,
    unmount,
    wait_until,
)
from tests.work.instance import accept, drop, letters, maildir_of

BIG = b"Subject: big\r\n\r\n" + b"0123456789abcde\r\n" * 10_000  # 170 KB
EVERYBODY = ("alice@example.org", "bob@example.org", "carol@example.org")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return instance(tmp_path)


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], None]]:
    """Mounts a small filesystem in memory at a folder, in place of what is there."""
    places: list[Path] = []

    def place(folder: Path, size: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        mount("tmpfs", "tmpfs", folder, f"size={size}")
        places.append(folder)

    yield place
    for folder in places:
        unmount(folder)


def waits(config: Config) -> int:
    """How many entries wait in the spool, wherever."""
    spool = Spool(config.spool)
    return len(spool.entries(State.NEW)) + len(spool.entries(State.DEFERRED))


# --- the disk --------------------------------------------------------------------------------------


@is_root
def test_a_full_disk(tmp_path: Path, small_disk: Callable[[Path, str], None]) -> None:
    small_disk(tmp_path / "var", "2m")
    config = instance(tmp_path)
    for _ in range(3):
        accept(config, *EVERYBODY, content=BIG)
    filler = fill(config.var)
    with Running(config) as delivery:
        wait_until(lambda: "No space left on device" in delivery.log(), "it is told")
        delivery.wait_turns()
        assert waits(config) == 3
        assert sum(len(letters(config, name)) for name in ("alice", "bob", "carol")) == 0
        filler.unlink()
        assert_arrived_once(config, alice=3, bob=3, carol=3)


@is_root
def test_a_mailbox_filesystem_that_is_full(config: Config, small_disk: Callable[[Path, str], None]) -> None:
    small_disk(config.mail, "1m")
    filler = fill(config.mail)
    with Running(config) as delivery:
        accept(config, "bob@example.org", content=BIG)
        wait_until(lambda: Spool(config.spool).entries(State.DEFERRED), "it is deferred")
        wait_until(lambda: "452 4.3.1" in delivery.log(), "it is told")
        filler.unlink()
        assert_arrived_once(config, bob=1)


@is_root
@pytest.mark.parametrize("what", ["spool", "mail"])
def test_a_filesystem_that_becomes_read_only(
    config: Config, what: str, small_disk: Callable[[Path, str], None]
) -> None:
    folder = config.var / what
    small_disk(folder, "4m")
    Spool(config.spool).create_folders()
    with Running(config) as delivery:
        delivery.wait_turns(1)
        with delivery.stopped():
            accept(config, "alice@example.org", "bob@example.org")
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        wait_until(lambda: "Read-only file system" in delivery.log(), "it is told")
        delivery.wait_turns()
        assert waits(config) == 1
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        assert_arrived_once(config, alice=1, bob=1)


@pytest.fixture
def block_device(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Makes the file behind a filesystem, in a folder; it is to be mounted at the instance's spool or mail."""

    def make_one(folder: Path) -> Path:
        backing = folder / "disk"
        with backing.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        made = subprocess.run(
            ["mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", "-E", "lazy_itable_init=0", str(backing)],
            check=False,
            capture_output=True,
        )
        if made.returncode:
            pytest.skip("no filesystem can be made here")
        return backing

    yield make_one
    for name in ("spool", "mail"):
        unmount(tmp_path / "var" / name)


@is_root
def test_a_disk_that_fails_to_read(config: Config, block_device: Callable[[Path], Path]) -> None:
    """What lies behind a loop device is cut off: the kernel answers EIO for what is beyond."""
    shutil.rmtree(config.spool)
    device = block_device(config.root)
    mount("ext4", str(device), config.spool, "loop")
    Spool(config.spool).create_folders()
    entry_id = accept(config, "bob@example.org", content=BIG)
    path = Spool(config.spool).path(State.NEW, entry_id)
    unmount(config.spool)
    octets = wait_until(lambda: _on_disk(device, entry_id.encode()), "it is on disk")
    start = octets.index(b"X-Sender: <alice@example.org>")
    mount("ext4", str(device), config.spool, "loop")
    os.truncate(device, start)
    with pytest.raises(OSError, match="Input/output error") as caught:
        path.read_bytes()
    assert caught.value.errno == errno.EIO
    with Running(config) as delivery:
        wait_until(lambda: "Input/output error" in delivery.log(), "it is told")
        accept(config, "carol@example.org")  # the rest flows
        wait_until(lambda: letters(config, "carol"), "another message arrives")
        delivery.wait_turns()
        assert path.exists()
        assert letters(config, "bob") == []
        with device.open("r+b") as file:
            file.seek(start)
            file.write(octets[start:])
        assert_arrived_once(config, bob=1, carol=1)


@is_root
@pytest.mark.parametrize("number", [1, 4], ids=["each file synced", "all synced together"])
def test_a_disk_that_fails_to_write(
    config: Config, number: int, small_disk: Callable[[Path, str], None], block_device: Callable[[Path], Path]
) -> None:
    """There is no room for what is behind a loop device: the kernel takes what is written, and fails to sync it."""
    small_disk(config.root / "behind", "4m")
    device = block_device(config.root / "behind")
    mount("ext4", str(device), config.mail, "loop")
    filler = fill(device.parent)
    with Running(config) as delivery:
        for _ in range(number):
            accept(config, "bob@example.org", content=BIG)
        wait_until(lambda: len(Spool(config.spool).entries(State.DEFERRED)) == number, "all are deferred")
        # The kernel tells the one or the other, by which of its writes failed first.
        told = ("Input/output error", "No space left on device")
        wait_until(lambda: any(each in delivery.log() for each in told), "it is told")
        delivery.wait_turns()
        assert letters(config, "bob") == []
        filler.unlink()
        assert_arrived_once(config, bob=number)


def _on_disk(device: Path, marker: bytes) -> bytes:
    octets = device.read_bytes()
    return octets if marker in octets else b""


def test_a_limit_of_the_process_on_the_size_of_files(config: Config) -> None:
    signals = partial(signal.signal, signal.SIGXFSZ, signal.SIG_IGN)
    with Running(config, signals) as delivery:
        delivery.wait_turns(1)
        soft, hard = resource.prlimit(delivery.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(delivery.pid, resource.RLIMIT_FSIZE, (100_000, hard))
        accept(config, "bob@example.org", content=BIG)
        wait_until(lambda: Spool(config.spool).entries(State.DEFERRED), "it is deferred")
        assert letters(config, "bob") == []
        resource.prlimit(delivery.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert_arrived_once(config, bob=1)


# --- permissions and folders -----------------------------------------------------------------------


@is_root
def test_a_mailbox_that_may_not_be_written(config: Config) -> None:
    box = maildir_of(config, "bob")
    box.parent.mkdir(parents=True)
    with Running(config, partial(become, NOBODY)) as delivery:
        delivery.wait_turns(1)
        box.mkdir(mode=0o700)  # it is root's
        accept(config, "bob@example.org", "alice@example.org")
        wait_until(lambda: Spool(config.spool).entries(State.DEFERRED), "it is deferred")
        wait_until(lambda: "Permission denied" in delivery.log(), "it is told")
        assert (len(letters(config, "alice")), letters(config, "bob")) == (1, [])
        os.chown(box, NOBODY, NOBODY)
        assert_arrived_once(config, alice=1, bob=1)


@is_root
def test_dropped_files_of_another_owner(config: Config) -> None:
    with Running(config, partial(become, NOBODY)) as delivery:
        delivery.wait_turns(1)
        drop(config, "open.eml", MAIL)
        secret = config.var / "secret"
        secret.write_bytes(MAIL)
        secret.chmod(0o600)
        secret.rename(config.spool / "secret.eml")
        expected = "secret.eml: may not be read by the user that delivery runs as"
        wait_until(lambda: delivery.facts().get("stuck") == [expected], "it is told")
        wait_until(lambda: letters(config, "bob"), "the other one arrives")
        os.chown(config.spool / "secret.eml", NOBODY, NOBODY)
        assert_arrived_once(config, bob=2)


@is_root
def test_an_entry_of_another_owner(config: Config) -> None:
    with Running(config, partial(become, NOBODY)) as delivery:
        delivery.wait_turns(1)
        with delivery.stopped():
            path = Spool(config.spool).path(State.NEW, accept(config, "bob@example.org"))
            path.chmod(0o600)
        wait_until(lambda: "Permission denied" in delivery.log(), "it is told")
        assert path.exists()
        os.chown(path, NOBODY, NOBODY)
        assert_arrived_once(config, bob=1)


@pytest.mark.parametrize("name", ["new", "deferred", "hold", "tmp", "bad", "remote"])
def test_a_folder_of_the_spool_that_is_missing(config: Config, name: str) -> None:
    with Running(config) as delivery:
        delivery.wait_turns(1)
        shutil.rmtree(config.spool / name)
        wait_until((config.spool / name).is_dir, "it is made again")
        drop(config, "a.eml", MAIL)
        assert_arrived_once(config, bob=1)


def test_a_spool_that_is_deleted_and_made_again(config: Config) -> None:
    with Running(config) as delivery:
        delivery.wait_turns(1)
        shutil.rmtree(config.spool)
        wait_until(config.spool.is_dir, "it is made again")
        wait_until((config.spool / "bad").is_dir, "all of it")
        drop(config, "a.eml", MAIL)
        assert_arrived_once(config, bob=1)


def test_a_spool_that_somebody_deletes_and_makes_again_is_heard_of_again(config: Config) -> None:
    with Running(config) as delivery:
        delivery.wait_turns(1)
        with delivery.stopped():
            shutil.rmtree(config.spool)
            config.spool.mkdir()
            drop(config, "a.eml", MAIL)
        wait_until(lambda: delivery.facts().get("watched_anew"), "it watches what is there now")
        wait_until(lambda: delivery.facts().get("problems") == [], "nothing is wrong with that")
        assert_arrived_once(config, bob=1)


def test_a_mailbox_that_is_deleted_and_made_again(config: Config) -> None:
    with Running(config):
        drop(config, "a.eml", MAIL)
        wait_until(lambda: letters(config, "bob"), "the first one")
        shutil.rmtree(maildir_of(config, "bob"))
        drop(config, "b.eml", MAIL)
        assert_arrived_once(config, bob=1)


@is_root
def test_a_mailbox_on_another_filesystem(config: Config, small_disk: Callable[[Path, str], None]) -> None:
    small_disk(maildir_of(config, "bob"), "4m")
    with Running(config):
        accept(config, *EVERYBODY, content=BIG)
        assert_arrived_once(config, alice=1, bob=1, carol=1)
    alice, bob, carol = (
        next((maildir_of(config, name) / "new").iterdir()).stat() for name in ("alice", "bob", "carol")
    )
    assert (alice.st_ino, alice.st_dev, alice.st_nlink) == (carol.st_ino, carol.st_dev, 2)
    assert (bob.st_dev != alice.st_dev, bob.st_nlink) == (True, 1)


@pytest.mark.parametrize("name", [b"\xff\xfe.eml", b"new\nline", b"\x1b[2J", b"a" * 255, b"-rf *", b"caf\xe9"])
def test_names_in_odd_octets(config: Config, name: bytes) -> None:
    with Running(config):
        draft = config.var / "being-made"
        draft.write_bytes(MAIL)
        draft.rename(os.fsdecode(os.fsencode(config.spool) + b"/" + name))
        assert_arrived_once(config, bob=1)


# --- file events -----------------------------------------------------------------------------------

LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")
FLOOD = 1000


@contextlib.contextmanager
def few_events(number: int) -> Iterator[None]:
    """Within, a new inotify instance of anybody holds so few events."""
    before = LIMIT.read_text()
    try:
        LIMIT.write_text(f"{number}\n")
    except OSError as error:
        pytest.skip(f"the kernel's limit cannot be set: {error.strerror}")
    try:
        yield
    finally:
        LIMIT.write_text(before)


@is_root
def test_a_flood_that_overflows_the_kernels_queue_of_events(config: Config) -> None:
    with contextlib.ExitStack() as stack:
        with few_events(50):  # for the moment in which their instances are made
            control = Inotify(config.spool)
            stack.callback(control.close)
            delivery = stack.enter_context(Running(config))
            delivery.wait_turns(1)
        with delivery.stopped():
            for number in range(FLOOD):
                drop(config, f"{number}.eml", MAIL)
        assert control.has_overflown()
        assert_arrived_once(config, bob=FLOOD)


def test_a_flood_of_100_000_files_that_are_no_mail_overflows_the_queue_as_it_is(config: Config) -> None:
    """Names that begin with a dot are left alone: what is tried is the loss of events, with the kernel's own limit."""
    with contextlib.ExitStack() as stack:
        control = Inotify(config.spool)
        stack.callback(control.close)
        delivery = stack.enter_context(Running(config))
        delivery.wait_turns(1)
        with delivery.stopped():
            for number in range(100_000):
                (config.spool / f".{number}").touch()
                if number % 33_333 == 0:
                    drop(config, f"{number}.eml", MAIL)
        assert control.has_overflown()
        assert_arrived_once(config, bob=4)


@pytest.mark.parametrize("few", [0, 1], ids=["for all of its folders", "for the second of its folders"])
def test_the_limit_of_watches_is_reached(config: Config, few: int) -> None:
    if not can_limit_watches():
        pytest.skip("the kernel gives no namespace of one's own")

    def limit() -> None:
        limit_watches(few)
        signal.signal(signal.SIGUSR1, lambda *_: WATCHES.write_text("100\n"))

    with Running(config, limit) as delivery:
        problem = "no file events: inotify watch limit reached; scanning every 0.3 s"

        def is_told() -> bool:
            problems = delivery.facts().get("problems")
            return isinstance(problems, list) and problem in problems

        wait_until(is_told, "it is told")
        drop(config, "a.eml", MAIL)
        wait_until(lambda: letters(config, "bob"), "it arrives by the scan")
        os.kill(delivery.pid, signal.SIGUSR1)
        wait_until(lambda: delivery.facts().get("problems") == [], "it watches again")
        drop(config, "b.eml", MAIL)
        assert_arrived_once(config, bob=2)


@is_root
def test_the_limit_of_inotify_instances_is_reached(config: Config) -> None:
    def take() -> None:
        become(54_321)
        taken = take_all_inotify_instances()

        def give_back(*_signal: object) -> None:
            while taken:
                os.close(taken.pop())

        signal.signal(signal.SIGUSR1, give_back)

    with Running(config, take) as delivery:
        problem = "no file events: inotify instance limit reached; scanning every 0.3 s"

        def is_told() -> bool:
            problems = delivery.facts().get("problems")
            return isinstance(problems, list) and problem in problems

        wait_until(is_told, "it is told")
        drop(config, "a.eml", MAIL)
        wait_until(lambda: letters(config, "bob"), "it arrives by the scan")
        os.kill(delivery.pid, signal.SIGUSR1)
        wait_until(lambda: delivery.facts().get("problems") == [], "it watches again")
        drop(config, "b.eml", MAIL)
        assert_arrived_once(config, bob=2)


# --- two of them -----------------------------------------------------------------------------------


def test_a_second_delivery_that_is_started_by_mistake(config: Config) -> None:
    config.path.write_text(render(config))
    command = [sys.executable, "-m", "mailsrv.daemon.deliverd", "--root", str(config.root)]
    with (config.root / "log").open("ab") as log, subprocess.Popen(command, stderr=log) as first:
        wait_until(lambda: "started, process" in (config.root / "log").read_text(), "the first one runs")
        accept(config, "bob@example.org")
        wait_until(lambda: letters(config, "bob"), "it delivers, so it has its lock")
        second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
        assert second.returncode == 75
        assert "another delivery is at work on this spool" in second.stderr
        accept(config, "bob@example.org")
        assert_arrived_once(config, bob=2)
        first.terminate()
